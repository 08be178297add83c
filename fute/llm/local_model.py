"""A loaded transformers model: requests that come in together are answered together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fute.config import LocalModelConfig
from fute.errors import ConfigError, ModelError
from fute.llm.local_forward import prompt_ids, score_prompts, score_words, write
from fute.llm.local_weights import Weights, load_weights
from fute.llm.local_words import Ids, WordTree, word_tree
from fute.llm.types import SCORED, Answer, ChatRequest, TokenLogprobs
from fute.surrogate.source import Source

_models: dict[tuple[Any, ...], LocalModel] = {}
_loading = threading.Lock()


def shared_model(source: Source, local: LocalModelConfig) -> LocalModel:
    """The model, loaded on the first call and kept for the life of the process; one for all prompts.

    Raises ConfigError or ModelError: see load_weights.
    """
    key = (source.location, source.revision, local.device, local.device_map, local.dtype, local.quantization)
    with _loading:
        if key not in _models:
            _models[key] = LocalModel(load_weights(source, local), local.batch_size)
        return _models[key]


@dataclass(eq=False)
class _Job:
    request: ChatRequest
    result: Answer | Exception | None = None
    ids: Ids = ()
    cut: bool = False


_Answering = Callable[[Sequence[_Job]], list[Answer]]


@dataclass(eq=False)
class LocalModel:
    """The innermost layer over loaded weights.

    The thread that gets the lock answers every request that is waiting: no worker thread, no delay to fill a batch, and
    each batch holds what arrived while the last one was computed.
    """

    weights: Weights
    batch_size: int
    _waiting: list[_Job] = field(default_factory=list)
    _waiting_lock: threading.Lock = field(default_factory=threading.Lock)
    _model_lock: threading.Lock = field(default_factory=threading.Lock)
    _trees: dict[tuple[str, ...], WordTree] = field(default_factory=dict)

    def complete(self, request: ChatRequest) -> Answer:
        """Raises ModelError: the model cannot do what is asked. ConfigError: it does not know a word."""
        job = _Job(request)
        with self._waiting_lock:
            self._waiting.append(job)
        with self._model_lock:
            if job.result is None:
                with self._waiting_lock:
                    jobs, self._waiting = self._waiting, []
                self._answer(jobs)
        if isinstance(job.result, Exception):
            raise job.result
        assert job.result is not None  # every job that waited has been answered
        return job.result

    def _answer(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            try:
                job.ids, job.cut = self._read(job.request)
            except Exception as exc:
                job.result = self._as_model_error(exc)
        by_kind: dict[_Answering, list[_Job]] = {}
        for job in jobs:
            if job.result is None:
                by_kind.setdefault(self._answering(job.request), []).append(job)
        for answering, alike in by_kind.items():
            started = time.perf_counter()
            try:
                answers = answering(alike)
            except Exception as exc:
                for job in alike:
                    job.result = self._as_model_error(exc)
                continue
            latency_ms = (time.perf_counter() - started) * 1000 / len(alike)
            for job, answer in zip(alike, answers, strict=True):
                job.result = replace(
                    answer,
                    tokens_in=len(job.ids),
                    latency_ms=latency_ms,
                    resolved_model=self.weights.name,
                    prompt_cut=job.cut,
                )

    def _answering(self, request: ChatRequest) -> _Answering:
        if request.echo:
            return self._echo
        return self._score if request.candidates else self._write

    def _read(self, request: ChatRequest) -> tuple[Ids, bool]:
        """The prompt's tokens, and whether it was cut."""
        room = request.max_tokens
        if request.candidates:
            if request.candidates not in self._trees:
                self._trees[request.candidates] = word_tree(
                    request.candidates, self.weights.tokenizer, self.weights.name
                )
            room = max(map(len, self._trees[request.candidates].wanted))
        if self.weights.seq2seq:  # its decoder has positions of its own, the first for the start token
            if self.weights.positions is not None and room >= self.weights.positions:
                raise ModelError(
                    f"{self.weights.name} writes {self.weights.positions - 1} tokens at most; {room} were asked for"
                )
            room = 0
        return prompt_ids(self.weights, request, room)

    def _score(self, jobs: Sequence[_Job]) -> list[Answer]:
        trees = [self._trees[job.request.candidates] for job in jobs]
        scored = score_words(self.weights, [job.ids for job in jobs], trees, self.batch_size)
        answers = []
        for tree, logprobs in zip(trees, scored, strict=True):
            top = tuple(sorted(zip(tree.words, logprobs, strict=True), key=lambda pair: -pair[1]))
            answers.append(Answer(top[0][0], (TokenLogprobs(*top[0], top),), tokens_out=0, finish_reason=SCORED))
        return answers

    def _echo(self, jobs: Sequence[_Job]) -> list[Answer]:
        scored = score_prompts(self.weights, [job.ids for job in jobs], self.batch_size)
        return [
            Answer(
                "".join(token for token, _ in tokens),
                tuple(TokenLogprobs(token, value, ((token, value),)) for token, value in tokens),
                tokens_out=0,
                finish_reason="length",
            )
            for tokens in scored
        ]

    def _write(self, jobs: Sequence[_Job]) -> list[Answer]:
        written = write(self.weights, [job.ids for job in jobs], [job.request for job in jobs], self.batch_size)
        return [Answer(text, tokens_out=n, finish_reason="stop" if ended else "length") for text, n, ended in written]

    def _as_model_error(self, exc: Exception) -> Exception:
        if isinstance(exc, ModelError | ConfigError):
            return exc
        says = f"{self.weights.name}: {type(exc).__name__}: {exc}"
        error = ModelError(f"{says}; where memory ran out, lower local.batch_size or local.max_tokens")
        error.__cause__ = exc
        return error
