"""What is counted while a prompted model is asked."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from fute.llm.conversation import Heard
from fute.llm.types import Answer

logger = logging.getLogger(__name__)

MANY = 0.2  # share of inputs without an answer that is worth a warning


class PromptedCount:
    """Inputs by what their answer was read from, and the calls that were paid for. Safe between threads."""

    def __init__(self, progress: Callable[[int, int], None] | None, n_asked: int) -> None:
        self.n_asked = n_asked
        self.done = 0
        self._progress = progress
        self._counts: Counter[str] = Counter()
        self._latency_ms = 0.0
        self._models: set[str] = set()
        self._lock = threading.Lock()

    def add(self, heard: Heard) -> None:
        with self._lock:
            self._counts[heard.reading.source] += 1
            if heard.reading.probabilities is None and heard.text is None and _cut_short(heard.answers):
                self._counts["cut short"] += 1
            self._add_answers(heard.answers)

    def add_answers(self, answers: Sequence[Answer]) -> None:
        with self._lock:
            self._add_answers(answers)

    def _add_answers(self, answers: Sequence[Answer]) -> None:
        self.done += 1
        for answer in answers:
            if answer.resolved_model:
                self._models.add(answer.resolved_model)
            if answer.from_cache:
                self._counts["cached"] += 1
            else:
                self._counts["calls"] += 1
                self._counts["tokens_in"] += answer.tokens_in or 0
                self._counts["tokens_out"] += answer.tokens_out or 0
                self._latency_ms += answer.latency_ms
        if self._progress is not None:
            self._progress(self.done, self.n_asked)

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
            "cut_short": self._counts["cut short"],
            "from_logprobs": self._counts["logprobs"],
            "from_text": self._counts["text"],
            "from_samples": self._counts["samples"],
            "resolved_models": sorted(self._models),
        }

    def reasons(self) -> str:
        """Why inputs have no answer, in words: '3 refused, 1 empty'."""
        names = [("refused", "refused"), ("unparsable", "not to be read"), ("empty", "empty")]
        return ", ".join(f"{self._counts[source]} {name}" for source, name in names if self._counts[source]) or "none"

    def warn_if_many_are_missing(self, model_id: str) -> None:
        missing = sum(self._counts[source] for source in ("refused", "unparsable", "empty"))
        if missing <= MANY * self.n_asked:
            return
        hint = ""
        if self._counts["cut short"] > missing / 2:
            hint = "; most were cut off; raise max_answer_tokens (of reasoning: max_reasoning_tokens)"
        elif self._counts["unparsable"] > missing / 2:
            hint = "; look at the answers in the store (fute sql) and add their words to the verbalizer"
        reasons = self.reasons() + hint
        logger.warning("%s: %d of %d inputs have no answer: %s", model_id, missing, self.n_asked, reasons)


def _cut_short(answers: Sequence[Answer]) -> bool:
    return bool(answers) and answers[-1].finish_reason == "length"
