"""A prompted LLM as a model: endpoint, prompt, verbalizer and decoding parameters, taken together."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np

from fute.config import EndpointConfig, PromptConfig
from fute.errors import ModelError
from fute.fingerprint import fingerprint
from fute.llm.cache import MemoryLedger, ResponseLedger
from fute.llm.client import connect, service_of
from fute.llm.prompts import Template
from fute.llm.types import Answer, ChatRequest, Completer, Message
from fute.llm.verbalizer import READING_VERSION, Verbalizer
from fute.types import MIN_ANSWERED, Outputs, TextTable

logger = logging.getLogger(__name__)

TOP_LOGPROBS = 20  # the most that the protocol allows

Progress = Callable[[int, int], None]
"""Told (done, total) as answers come in."""


class PromptedModel:
    """Asks an endpoint about every input and reads label probabilities from its answers.

    Args:
        ledger: where answers are kept; None: in memory, for the life of this object.
        api_key: the key itself, read at the edge by the caller. It is no part of any identity.
        completer: asked instead of the endpoint (its own layers, cache included).

    Raises:
        ConfigError: the template or the verbalizer is wrong.
    """

    kind = "prompt"

    def __init__(
        self,
        id: str,
        prompt: PromptConfig,
        endpoint: EndpointConfig,
        *,
        temperature: float = 0.0,
        max_answer_tokens: int = 8,
        ledger: ResponseLedger | None = None,
        api_key: str | None = None,
        completer: Completer | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.id = id
        self._prompt = prompt
        self._endpoint = endpoint
        self._temperature = temperature
        self._max_answer_tokens = max_answer_tokens
        self._template = Template(prompt.template, prompt.id)
        self._verbalizer = Verbalizer(prompt.verbalizer, prompt.id)
        # Whether answers outlive a failure; with a completer of the caller's, that is the caller's matter.
        self._durable = ledger is not None or completer is not None
        if completer is None:
            # Not `ledger or ...`: a ledger that is still empty may count as false.
            completer = connect(endpoint, ledger=MemoryLedger() if ledger is None else ledger, api_key=api_key)
        self._completer = completer
        self._progress = progress

    def __repr__(self) -> str:
        return f"PromptedModel({self.id!r})"

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(
            kind=self.kind,
            service=service_of(self._endpoint),
            model=self._endpoint.model,
            template=self._prompt.template,
            system=self._prompt.system,
            # As a list: the order of the labels is the order of the columns.
            verbalizer=[[label, list(words)] for label, words in self._prompt.verbalizer.items()],
            temperature=float(self._temperature),
            max_answer_tokens=self._max_answer_tokens,
            top_logprobs=self._top_logprobs,
            reading=READING_VERSION,
        )

    def request(self, text: str, pair: str | None = None) -> ChatRequest:
        """What is asked about one input."""
        system = [Message("system", self._prompt.system)] if self._prompt.system else []
        return ChatRequest(
            service=service_of(self._endpoint),
            base_url=self._endpoint.base_url,
            model=self._endpoint.model,
            messages=(*system, Message("user", self._template.render(text, pair))),
            temperature=self._temperature,
            max_tokens=self._max_answer_tokens,
            top_logprobs=self._top_logprobs,
        )

    def requests(self, table: TextTable) -> Iterator[tuple[int, ChatRequest]]:
        """(row, request) for every input that can be asked about.

        A prompt for pairs is not asked about inputs that have no second text; they count as not answered.

        Raises:
            ModelError: a prompt for pairs, and no input has a second text.
        """
        rows = self._askable_rows(table)
        pairs = table.pairs
        return ((row, self.request(table.texts[row], None if pairs is None else pairs[row])) for row in rows)

    def outputs(self, table: TextTable) -> Outputs:
        """Label probabilities for every input, in order.

        Returns:
            values (n, labels); `answered` is False where the endpoint refused, or said nothing that the verbalizer
            knows, or was not asked for want of a second text. `details` counts calls paid now, answers found in the
            ledger, tokens of the calls paid now, and what the answers were read from.

        Raises:
            ModelError: one request failed for good. No new ones are sent, those in flight are finished and kept.
        """
        started = time.perf_counter()
        run = _Run(len(table), len(self._verbalizer.label_names), len(self._askable_rows(table)))
        pending = self.requests(table)

        def work() -> None:
            while (item := run.next(pending)) is not None:
                row, request = item
                try:
                    answer = self._completer.complete(request)
                    reading = self._verbalizer.read(answer)
                except BaseException as exc:
                    run.fail(exc)
                    return
                run.add(row, answer, reading.source, reading.probabilities, self._progress)

        n_threads = max(1, min(self._endpoint.max_concurrency, run.n_asked))
        with ThreadPoolExecutor(n_threads, thread_name_prefix="llm") as pool:
            try:
                for future in [pool.submit(work) for _ in range(n_threads)]:
                    future.result()
            except BaseException as exc:  # an interrupt of the waiting thread: the workers must stop as well
                run.fail(exc)
                raise
        if run.failure is not None:
            self._report_failure(run, run.failure)
        return Outputs(
            kind="probabilities",
            values=run.values,
            label_names=self._verbalizer.label_names,
            answered=run.answered,
            details={
                **run.details(),
                "without_pair": len(table) - run.n_asked,
                "seconds": round(time.perf_counter() - started, 3),
            },
        )

    def _report_failure(self, run: _Run, failure: BaseException) -> None:
        if not isinstance(failure, ModelError):
            raise failure
        kept = "are kept, the next run asks for the rest" if self._durable else "are lost: no ledger was given"
        raise ModelError(f"{self.id}: {failure}. {run.done} of {run.n_asked} answers came and {kept}") from failure

    def _askable_rows(self, table: TextTable) -> list[int]:
        if not self._template.needs_pair:
            return list(range(len(table)))
        rows = [row for row, pair in enumerate(table.pairs or ()) if pair is not None]
        if len(rows) < MIN_ANSWERED * len(table):
            # Told before the first call: outputs with so few answers would be refused after they were paid for.
            raise ModelError(
                f"{self.id}: prompt {self._prompt.id} wants a second text, but only {len(rows)} of the {len(table)} "
                f"inputs have one (needed: {MIN_ANSWERED:.0%}); give the pool more sources with text pairs"
            )
        return rows

    @property
    def _top_logprobs(self) -> int | None:
        return TOP_LOGPROBS if self._endpoint.logprobs else None


def missing_calls(model: PromptedModel, table: TextTable, ledger: ResponseLedger) -> int:
    """How many calls `model.outputs(table)` would pay for: distinct requests that the ledger has no answer to."""
    keys = {request.key for _, request in model.requests(table)}
    return sum(ledger.get(key) is None for key in keys)


class _Run:
    """What the threads of one call of `outputs` share."""

    def __init__(self, n_rows: int, n_labels: int, n_asked: int) -> None:
        self.values = np.zeros((n_rows, n_labels), np.float32)
        self.answered = np.zeros(n_rows, bool)
        self.n_asked = n_asked
        self.done = 0
        self.failure: BaseException | None = None
        self._counts: Counter[str] = Counter()
        self._latency_ms = 0.0
        self._models: set[str] = set()
        self._lock = threading.Lock()

    def next(self, pending: Iterator[tuple[int, ChatRequest]]) -> tuple[int, ChatRequest] | None:
        # Drawn one by one: a queue of all requests of a large pool would be memory for nothing.
        with self._lock:
            return None if self.failure is not None else next(pending, None)

    def fail(self, failure: BaseException) -> None:
        with self._lock:
            self.failure = self.failure or failure

    def add(self, row: int, answer: Answer, source: str, probabilities: Any, progress: Progress | None) -> None:
        with self._lock:
            self.done += 1
            if probabilities is not None:
                self.values[row] = probabilities
                self.answered[row] = True
            self._counts[source] += 1
            if answer.resolved_model:
                self._models.add(answer.resolved_model)
            if answer.from_cache:
                self._counts["cached"] += 1
            else:
                self._counts["calls"] += 1
                self._counts["tokens_in"] += answer.tokens_in or 0
                self._counts["tokens_out"] += answer.tokens_out or 0
                self._latency_ms += answer.latency_ms
            if progress is not None:
                progress(self.done, self.n_asked)

    def details(self) -> dict[str, Any]:
        calls = self._counts["calls"]
        return {
            "calls": calls,
            "cached": self._counts["cached"],
            "tokens_in": self._counts["tokens_in"],
            "tokens_out": self._counts["tokens_out"],
            "latency_ms": round(self._latency_ms / calls, 3) if calls else 0.0,
            "refusals": self._counts["refused"],
            "unparsable": self._counts["unparsable"],
            "empty": self._counts["empty"],
            "from_logprobs": self._counts["logprobs"],
            "from_text": self._counts["text"],
            "resolved_models": sorted(self._models),
        }
