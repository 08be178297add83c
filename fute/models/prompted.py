"""A prompted LLM as a model: endpoint, prompt, verbalizer and decoding parameters, taken together."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from fute.config import EndpointConfig, PromptConfig
from fute.data.sampling import generator
from fute.errors import ConfigError, ModelError, NoAnswersError
from fute.fingerprint import fingerprint
from fute.llm.budget import BudgetExhausted
from fute.llm.cache import MemoryLedger, ResponseLedger
from fute.llm.client import connect
from fute.llm.conversation import Conversation, Decoding
from fute.llm.endpoint import request_fields, service_of
from fute.llm.failures import InputFailed
from fute.llm.fan_out import fan_out
from fute.llm.limits import workers_for
from fute.llm.perplexity import echo_request, perplexity
from fute.llm.providers import PROVIDERS
from fute.llm.types import ChatRequest, Completer
from fute.llm.verbalizer import READING_VERSION
from fute.models.calibration import (
    CALIBRATION_VERSION,
    CONTENT_FREE,
    Calibration,
    Doubles,
    calibrated,
    content_free_bias,
    marginal_bias,
)
from fute.models.doubt import Doubt
from fute.models.prompted_count import PromptedCount
from fute.models.text_axes import MOST_AXES, on_leading_axes
from fute.types import MIN_ANSWERED, Features, Floats, Outputs, TextTable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextEmbedding:
    """What turns free texts into numbers.

    Attributes:
        features: n texts -> (n, width).
        identity: of the surrogate behind it; JSON values, part of the model's identity.
        axes: principal axes of the answers that are kept. None: the embeddings as they are, for answers of two askings
            are to be compared, and each asking has axes of its own.
    """

    features: Features
    identity: Mapping[str, Any]
    axes: int | None = MOST_AXES

    def __call__(self, texts: Sequence[str]) -> Floats:
        """(n, columns)."""
        embedded = self.features(TextTable(texts))
        return embedded if self.axes is None else on_leading_axes(embedded, self.axes)


@dataclass(frozen=True)
class Missing:
    """Requests that would be paid for.

    Attributes:
        openings: what is asked first.
        follow_ups: what is asked when the model has reasoned; without the reasoning where that is not there yet.
        max_reasoning_tokens: that the reasoning within a follow-up may have.
    """

    openings: list[ChatRequest]
    follow_ups: list[ChatRequest]
    max_reasoning_tokens: int


class PromptedModel:
    """Asks an endpoint about every input and reads label probabilities, or embeds free texts, from its answers.

    An input that the model refuses to answer, that is too long for it or that fails while others are answered, or an
    answer with nothing that the verbalizer knows, has no answer: it is counted by its reason, its row of outputs is
    marked as not answered, and what is learned from the outputs leaves it out. Outputs of which fewer than half of the
    rows are answered are refused (fute.types.MIN_ANSWERED).

    Args:
        samples: answers to the same question, at a temperature above 0.
        ask: of a pool, how many rows to ask about; None: all. Other tables are asked about in full.
        calibration: what is taken out of label probabilities (fute.models.calibration).
        embedding: for a prompt whose answers are free text.
        ledger: where answers are kept; None: in memory, for the life of this object.
        api_key: the key itself, read at the edge by the caller. It is no part of any identity.
        completer: asked instead of the endpoint (its own layers, cache included).
        stop_if_constant: no more is asked when all answers of many are the same; for outputs that are to be embedded.

    Raises:
        ConfigError: the template or the verbalizer is wrong, or the settings contradict each other.
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
        max_reasoning_tokens: int = 512,
        samples: int = 1,
        ask: int | None = None,
        calibration: Calibration = "none",
        embedding: TextEmbedding | None = None,
        ledger: ResponseLedger | None = None,
        api_key: str | None = None,
        completer: Completer | None = None,
        stop_if_constant: bool = False,
    ) -> None:
        self.id = id
        self._prompt = prompt
        self._endpoint = endpoint
        self._decoding = Decoding(
            temperature=temperature,
            max_answer_tokens=max_answer_tokens,
            max_reasoning_tokens=max_reasoning_tokens,
            samples=samples,
        )
        self._conversation = Conversation(prompt, endpoint, self._decoding)
        self._ask = ask
        if prompt.answer == "text" and embedding is None:
            raise ConfigError(
                f"{id}: the answers to prompt {prompt.id} are free text; give an embedding that turns them into numbers"
            )
        self._embedding = embedding if prompt.answer == "text" else None
        if calibration != "none" and (prompt.answer == "text" or (not endpoint.logprobs and samples == 1)):
            raise ConfigError(
                f"{id}: calibration {calibration} needs label probabilities; set `logprobs: true` on endpoint "
                f"{endpoint.id} or ask for samples (a prompt in free text has none), or take calibration out"
            )
        self.calibration = calibration
        self.content_free = CONTENT_FREE if calibration == "content_free" else ()
        # Whether answers outlive a failure; with a completer of the caller's, that is the caller's matter.
        self._durable = ledger is not None or completer is not None
        if completer is None:
            # Not `ledger or ...`: a ledger that is still empty may count as false.
            completer = connect(endpoint, ledger=MemoryLedger() if ledger is None else ledger, api_key=api_key)
        self._completer = completer
        self._stop_if_constant = stop_if_constant

    def __repr__(self) -> str:
        return f"PromptedModel({self.id!r})"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Setting -> value, of all that can change an answer; JSON values."""
        prompt, decoding, embedding = self._prompt, self._decoding, self._embedding
        provider = PROVIDERS[self._endpoint.api]
        return {
            "kind": self.kind,
            "api": self._endpoint.api,
            "service": service_of(self._endpoint),
            # The folder of a model in this process may lie anywhere: its files are in the fields.
            "model": self._endpoint.model if provider.over_http else None,
            "fields": request_fields(self._endpoint),
            "template": prompt.template,
            "system": prompt.system,
            # As a list: the order of the labels is the order of the columns.
            "verbalizer": [[label, list(words)] for label, words in prompt.verbalizer.items()],
            "parse": prompt.parse,
            "cot": [prompt.follow_up, decoding.max_reasoning_tokens] if prompt.cot else None,
            "temperature": float(decoding.temperature),
            "max_answer_tokens": decoding.max_answer_tokens,
            "samples": decoding.samples,
            "logprobs": self._endpoint.logprobs,
            "embedding": embedding and {**embedding.identity, "axes": embedding.axes},
            "reading": READING_VERSION,
            # Only where there is one, so that models without it are who they were before there was any.
            **({} if self.calibration == "none" else {"calibration": [self.calibration, CALIBRATION_VERSION]}),
            **({} if self._ask is None else {"ask": self._ask}),
        }

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(**self.identity)

    def request(self, text: str, pair: str | None = None) -> ChatRequest:
        """What is asked first about one input."""
        return self._conversation.opening(text, pair)

    def requests(self, table: TextTable) -> Iterator[tuple[int, ChatRequest]]:
        """(row, first request) for every input that is asked about.

        A prompt for pairs is not asked about inputs that have no second text; they count as not answered.

        Raises:
            ModelError: a prompt for pairs, and too few inputs have a second text.
        """
        rows = self._chosen(self._askable_rows(table), table)
        return ((row, self.request(*_input(table, row))) for row in rows)

    def outputs(self, table: TextTable, *, part_of: int | None = None) -> Outputs:
        """Label probabilities, or embeddings of free texts, for every input in order.

        Args:
            part_of: how many inputs there are in all, where these are some of them: so few answers that outputs would
                be refused are then reckoned against all, for of a handful half may well be missing. Their answers are
                not calibrated: who puts the parts together does that.

        Returns:
            values (n, labels) or (n, axes); `answered` is False where the endpoint refused, or said nothing that the
            verbalizer knows, or was not asked for want of a second text. `details` counts calls paid now, answers found
            in the ledger, tokens of the calls paid now, and what the answers were read from.

        Raises:
            ModelError: a request failed for what is wrong with the endpoint, many in a row failed, or most were turned
                away; or all answers are the same. No new ones are sent, those in flight are finished and kept.
        """
        started = time.perf_counter()
        verbalizer = self._conversation.verbalizer
        askable = self._askable_rows(table, part_of)
        rows = self._chosen(askable, table) if part_of is None else askable
        few = len(rows) < len(askable)
        content_free = self.content_free if part_of is None else ()
        count = PromptedCount(self.id, len(rows) + len(content_free))
        bias = self._content_free_bias(count) if content_free else None
        values = np.zeros((len(table), len(verbalizer.label_names) if verbalizer else 0), np.float32)
        answered = np.zeros(len(table), bool)
        texts: dict[int, str] = {}
        keys: list[tuple[str, ...]] = [()] * len(table)

        doubt = Doubt(
            len(rows) if few else part_of or len(table),
            self._workers(rows),
            stop_if_constant=self._stop_if_constant and part_of is None,
            label_names=verbalizer.label_names if verbalizer else None,
        )

        def ask(row: int) -> None:
            heard = self._conversation.hold(self._completer.complete, *_input(table, row))
            if heard.reading.probabilities is not None:
                values[row] = heard.reading.probabilities
                answered[row] = True
            if heard.text is not None:
                texts[row] = heard.text
            keys[row] = tuple(answer.key for answer in heard.answers if answer.key is not None)
            count.add(heard)
            doubt.heard(heard)

        self._ask_about(rows, ask, count, doubt)
        if self._embedding is not None and texts:
            kept = sorted(texts)
            embedded = self._embedding([texts[row] for row in kept])
            values = np.zeros((len(table), embedded.shape[1]), np.float32)
            values[kept], answered[kept] = embedded, True
        if self.calibration == "marginal" and part_of is None and answered.any():
            bias = self._known(marginal_bias(values[answered]), "the inputs")
        if bias is not None:
            values = calibrated(values, bias).astype(np.float32)
        details = {
            **count.details(),
            "without_pair": len(table) - len(askable),
            **({"rows_asked": len(rows)} if few else {}),
            **({} if bias is None else {"calibration": self.calibration, "bias": bias.round(6).tolist()}),
            "seconds": round(time.perf_counter() - started, 3),
        }
        count.warn_if_many_are_missing()
        count.warn_of_cut_prompts()
        if self._embedding is not None and not texts:
            raise NoAnswersError(
                f"{self.id}: none of {len(rows)} inputs was answered ({count.reasons()})", details["calls"]
            )
        return Outputs(
            kind="probabilities" if verbalizer else "embeddings",
            values=values,
            label_names=verbalizer.label_names if verbalizer else None,
            answered=answered,
            details=details,
            answer_keys=keys,
            asked=np.isin(np.arange(len(table)), rows) if few else None,
        )

    def content_free_bias(self) -> Doubles:
        """(labels,) what content-free calibration adds to log-probabilities; asked for once, as everything is.

        Raises:
            ModelError: no answer to a content-free input tells how sure it is, or the endpoint is at fault.
        """
        return self._content_free_bias(PromptedCount(self.id, len(CONTENT_FREE)))

    def _content_free_bias(self, count: PromptedCount) -> Doubles:
        heard: dict[int, Floats] = {}

        def ask(row: int) -> None:
            try:
                reply = self._conversation.hold(self._completer.complete, *self._content_free_input(CONTENT_FREE[row]))
            except InputFailed:
                return  # a server may turn an empty text away
            count.add_answers(reply.answers)
            if reply.reading.probabilities is not None:
                heard[row] = reply.reading.probabilities

        failure = fan_out(range(len(CONTENT_FREE)), ask, self._workers(range(len(CONTENT_FREE))))
        if failure is not None:
            self._report_failure(count, failure)
        bias = content_free_bias(np.array([heard[row] for row in sorted(heard)]))
        return self._known(bias, "inputs that say nothing (empty, N/A, [MASK])")

    def _known(self, bias: Doubles | None, of: str) -> Doubles:
        if bias is None:
            raise ModelError(
                f"{self.id}: calibration {self.calibration} is not possible: no answer to {of} came with "
                "log-probabilities of the labels. Set calibration: none; what was answered is kept and not paid again"
            )
        return bias

    def _content_free_input(self, text: str) -> tuple[str, str | None]:
        return text, text if self._conversation.needs_pair else None

    def perplexities(self, table: TextTable) -> Floats:
        """How improbable the prompt reads to the model, for every input (n,) float32; NaN where it was not asked, or
        turned the prompt away.

        Raises:
            ModelError: the endpoint cannot echo a prompt with its log-probabilities, or a request failed for good.
        """
        if not PROVIDERS[self._endpoint.api].echoes:
            raise ModelError(
                f"{self.id}: api {self._endpoint.api} does not tell how probable a prompt is; "
                f"use one of: {', '.join(name for name, provider in PROVIDERS.items() if provider.echoes)}"
            )
        rows = self._askable_rows(table)
        values = np.full(len(table), np.nan, np.float32)
        count = PromptedCount(self.id, len(rows))

        def ask(row: int) -> None:
            answer = self._completer.complete(echo_request(self.request(*_input(table, row))))
            values[row] = np.nan if answer.refused else perplexity(answer)
            count.add_answers((answer,))

        self._ask_about(rows, ask, count, Doubt(len(table), self._workers(rows)))
        return values

    def missing(self, table: TextTable, ledger: ResponseLedger) -> Missing:
        """What `outputs(table)` would pay for: distinct requests that the ledger has no answer to.

        With reasoning the second request is known only when the first is answered; until then it counts as missing.
        """
        openings: dict[str, ChatRequest] = {}
        follow_ups: dict[str, ChatRequest] = {}
        content_free = [self.request(*self._content_free_input(text)) for text in self.content_free]
        for opening in [*(opening for _, opening in self.requests(table)), *content_free]:
            for request in self._conversation.repeated(opening):
                kept = ledger.get(request.key)
                if kept is None:
                    openings[request.key] = request
                    if self._prompt.cot:
                        follow_ups[f"{request.key} follow-up"] = self._conversation.follow_up_without_reasoning(request)
                elif (
                    self._prompt.cot
                    and (follow_up := self._conversation.follow_up(request, kept)) is not None
                    and ledger.get(follow_up.key) is None
                ):
                    follow_ups[follow_up.key] = follow_up
        return Missing([*openings.values()], [*follow_ups.values()], self._decoding.max_reasoning_tokens)

    def missing_calls(self, table: TextTable, ledger: ResponseLedger) -> int:
        """How many calls `outputs(table)` would pay for."""
        missing = self.missing(table, ledger)
        return len(missing.openings) + len(missing.follow_ups)

    def _ask_about(self, rows: Sequence[int], ask: Callable[[int], None], count: PromptedCount, doubt: Doubt) -> None:
        """Ask about every row. One that fails is no failure of the whole, as long as others are answered."""
        once_more: list[int] = []

        def work(row: int, *, last: bool = False) -> None:
            try:
                ask(row)
            except InputFailed as failure:
                doubt.failed(failure)
                if failure.may_pass and not last:
                    once_more.append(row)
                    return
                count.add_failed(failure)
            else:
                doubt.answered()
            count.stop_if_most_are_turned_away(doubt.n_rows)

        failure = fan_out(doubt.order(rows), work, self._workers(rows))
        if failure is None and once_more:
            # A server that was down for a minute must not take for good the inputs that met with it.
            failure = fan_out(sorted(once_more), partial(work, last=True), self._workers(once_more))
        if failure is not None:
            self._report_failure(count, failure)

    def _workers(self, rows: Sequence[int]) -> int:
        return max(1, min(workers_for(self._endpoint.in_flight), len(rows)))

    def _report_failure(self, count: PromptedCount, failure: BaseException) -> None:
        if not isinstance(failure, ModelError):
            raise failure
        kept = "are kept, the next run asks for the rest" if self._durable else "are lost: no ledger was given"
        # A used-up budget is no fault of the model's, and the caller has to know it from one.
        kind = BudgetExhausted if isinstance(failure, BudgetExhausted) else ModelError
        raise kind(f"{self.id}: {failure}. {count.came} of {count.n_asked} answers came and {kept}") from failure

    def _askable_rows(self, table: TextTable, part_of: int | None = None) -> list[int]:
        if not self._conversation.needs_pair:
            return list(range(len(table)))
        rows = [row for row, pair in enumerate(table.pairs or ()) if pair is not None]
        if part_of is None and len(rows) < MIN_ANSWERED * len(table):
            # Told before the first call: outputs with so few answers would be refused after they were paid for.
            raise ModelError(
                f"{self.id}: prompt {self._prompt.id} wants a second text, but only {len(rows)} of the {len(table)} "
                f"inputs have one (needed: {MIN_ANSWERED:.0%}); give the pool more sources with text pairs"
            )
        return rows

    def _chosen(self, rows: list[int], table: TextTable) -> list[int]:
        """Of a pool's rows those to ask about; those for a smaller `ask` are among those for a larger one."""
        if self._ask is None or table.pool is None or len(rows) <= self._ask:
            return rows
        if len(rows) < len(table):
            raise ModelError(
                f"{self.id}: `ask` has the answers to all of a pool's rows completed, and this prompt can be put to "
                f"{len(rows)} of {len(table)} (the others have no second text); leave `ask` out"
            )
        order = generator(0, "rows to ask about", table.pool).permutation(len(table))
        return sorted(order[: self._ask].tolist())


def missing_calls(model: PromptedModel, table: TextTable, ledger: ResponseLedger) -> int:
    """How many calls `model.outputs(table)` would pay for."""
    return model.missing_calls(table, ledger)


def _input(table: TextTable, row: int) -> tuple[str, str | None]:
    return table.texts[row], None if table.pairs is None else table.pairs[row]
