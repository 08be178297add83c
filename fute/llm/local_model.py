"""A loaded transformers model: requests that come in together are answered together."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from fute.config import EndpointConfig
from fute.errors import ConfigError, ModelError
from fute.llm.local_forward import prompt_ids, score_prompts, score_words, write
from fute.llm.local_weights import Weights, load_weights
from fute.llm.local_words import Ids, WordTree, word_tree
from fute.llm.types import SCORED, Answer, ChatRequest, TokenLogprobs

_models: dict[int, LocalModel] = {}
_opening = threading.Lock()


def shared_model(endpoint: EndpointConfig) -> LocalModel:
    """The model of an endpoint, loaded when first asked for; one for all prompts."""
    weights = load_weights(endpoint)
    with _opening:
        return _models.setdefault(id(weights), LocalModel(weights, endpoint.local.batch_size))


@dataclass(eq=False)
class _Job:
    request: ChatRequest
    answer: Answer | None = None
    failure: Exception | None = None
    ids: Ids = ()
    cut: bool = False
    tree: WordTree | None = None

    @property
    def done(self) -> bool:
        return self.answer is not None or self.failure is not None


@dataclass(eq=False)
class LocalModel:
    """The innermost layer over loaded weights.

    Whoever gets the model answers all who wait for it: no thread of its own, no waiting for a batch to fill, and as
    many in a batch as came while the last one was computed.
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
            if not job.done:
                with self._waiting_lock:
                    jobs, self._waiting = self._waiting, []
                self._answer(jobs)
        if job.failure is not None:
            raise job.failure
        assert job.answer is not None  # one of the two is set when a job is done
        return job.answer

    def _answer(self, jobs: Sequence[_Job]) -> None:
        ready = [job for job in jobs if self._prepared(job)]
        for kind in (self._score, self._echo, self._write):
            chosen = [job for job in ready if _kind(job.request) == kind.__name__]
            if not chosen:
                continue
            started = time.perf_counter()
            try:
                answers = kind(chosen)
            except Exception as exc:
                for job in chosen:
                    job.failure = _as_ours(self.weights.name, exc)
                continue
            latency_ms = (time.perf_counter() - started) * 1000 / len(chosen)
            for job, answer in zip(chosen, answers, strict=True):
                job.answer = Answer(
                    text=answer.text,
                    logprobs=answer.logprobs,
                    tokens_in=len(job.ids),
                    tokens_out=answer.tokens_out,
                    latency_ms=latency_ms,
                    resolved_model=self.weights.name,
                    finish_reason=answer.finish_reason,
                    prompt_cut=job.cut,
                )

    def _prepared(self, job: _Job) -> bool:
        request = job.request
        try:
            room = request.max_tokens
            if request.candidates:
                if request.candidates not in self._trees:
                    tree = word_tree(request.candidates, self.weights.tokenizer, self.weights.name)
                    self._trees[request.candidates] = tree
                job.tree = self._trees[request.candidates]
                room = max(map(len, job.tree.beginnings))
            if self.weights.seq2seq:  # its decoder has positions of its own, the first for the start token
                if self.weights.positions is not None and room >= self.weights.positions:
                    raise ModelError(
                        f"{self.weights.name} writes {self.weights.positions - 1} tokens at most; {room} were asked for"
                    )
                room = 0
            job.ids, job.cut = prompt_ids(self.weights, request, room)
        except Exception as exc:
            job.failure = _as_ours(self.weights.name, exc)
        return job.failure is None

    def _score(self, jobs: Sequence[_Job]) -> list[Answer]:
        trees = [job.tree for job in jobs if job.tree is not None]
        answers = []
        for tree, logprobs in zip(
            trees, score_words(self.weights, [job.ids for job in jobs], trees, self.batch_size), strict=True
        ):
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


def _kind(request: ChatRequest) -> str:
    return "_echo" if request.echo else "_score" if request.candidates else "_write"


def _as_ours(name: str, exc: Exception) -> Exception:
    if isinstance(exc, ModelError | ConfigError):
        return exc
    ours = ModelError(
        f"{name}: {type(exc).__name__}: {exc}; where memory ran out, lower local.batch_size or local.max_tokens"
    )
    ours.__cause__ = exc
    return ours
