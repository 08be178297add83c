"""What is counted while a prompted model is asked."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fute.errors import ModelError
from fute.llm.conversation import Reply
from fute.llm.failures import InputFailed
from fute.llm.types import Answer
from fute.types import MIN_ANSWERED

logger = logging.getLogger(__name__)

MISSING = {
    "refused": "refused",
    "too long": "too long",
    "failed": "failed",
    "unparsable": "not to be read",
    "empty": "empty",
}
"""Why an input has no answer, in words."""

MOST_WORDS = 3  # different things that a server said about inputs that are kept

SAY_EVERY_S = 30.0

MANY = 0.2  # share of inputs without an answer that is worth a warning


class PromptedCount:
    """Inputs by what their answer was read from, and the calls that were paid for. Safe between threads."""

    def __init__(self, model_id: str, n_asked: int) -> None:
        self.n_asked = n_asked
        self._model_id = model_id
        self._said_at = time.monotonic()
        self.done = 0
        self._failed = 0
        self._counts: Counter[str] = Counter()
        self._latency_ms = 0.0
        self._said: dict[str, None] = {}  # in order
        self._models: set[str] = set()
        self._lock = threading.Lock()

    def add(self, heard: Reply) -> None:
        with self._lock:
            self._counts[heard.reading.source] += 1
            if heard.reading.probabilities is None and heard.text is None and _cut_short(heard.answers):
                self._counts["cut short"] += 1
            if turned_away := [answer for answer in heard.answers if answer.turned_away]:
                self._add_turned_away(turned_away[-1].text)
            self._add_answers(heard.answers)

    def add_failed(self, failure: InputFailed) -> None:
        with self._lock:
            self._failed += 1
            self._counts["too long" if failure.too_long else "failed"] += 1
            self._add_turned_away(str(failure))
            self._add_answers(())

    @property
    def came(self) -> int:
        """Inputs of which something came back that is kept."""
        return self.done - self._failed

    def add_answers(self, answers: Sequence[Answer]) -> None:
        with self._lock:
            self._add_answers(answers)

    def _add_turned_away(self, words: str) -> None:
        self._counts["turned away"] += 1
        if len(self._said) < MOST_WORDS:
            self._said[words] = None

    def _add_answers(self, answers: Sequence[Answer]) -> None:
        self.done += 1
        if time.monotonic() - self._said_at >= SAY_EVERY_S:
            self._said_at = time.monotonic()
            logger.info("%s: %d of %d inputs asked", self._model_id, self.done, self.n_asked)
        for answer in answers:
            self._counts["prompts cut"] += answer.prompt_cut and not answer.from_cache
            if answer.resolved_model:
                self._models.add(answer.resolved_model)
            if answer.from_cache:
                self._counts["cached"] += 1
            else:
                self._counts["calls"] += 1
                self._counts["tokens_in"] += answer.tokens_in or 0
                self._counts["tokens_out"] += answer.tokens_out or 0
                self._latency_ms += answer.latency_ms

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
            "too_long": self._counts["too long"],
            "failed": self._counts["failed"],
            "server_said": list(self._said),
            "empty": self._counts["empty"],
            "cut_short": self._counts["cut short"],
            "from_logprobs": self._counts["logprobs"],
            "from_text": self._counts["text"],
            "from_samples": self._counts["samples"],
            "prompts_cut": self._counts["prompts cut"],
            "resolved_models": sorted(self._models),
        }

    def reasons(self) -> str:
        """Why inputs have no answer, in words: '3 refused, 1 empty'."""
        counts = [(self._counts[source], name) for source, name in MISSING.items()]
        return ", ".join(f"{count} {name}" for count, name in counts if count) or "none"

    def stop_if_most_are_turned_away(self, n_rows: int) -> None:
        """Raises ModelError once so many inputs were turned away that the outputs would be refused: then it is not the
        inputs that are wrong."""
        if self._counts["turned away"] > (1 - MIN_ANSWERED) * n_rows:
            raise ModelError(
                f"{self._counts['turned away']} of {n_rows} inputs were turned away with: {'; '.join(self._said)}. "
                "Correct the endpoint's parameters, or take a model that reads longer prompts"
            )

    def warn_of_cut_prompts(self) -> None:
        if self._counts["prompts cut"]:
            logger.warning(
                "%s: %d prompts did not fit into the model and were cut in their middle; "
                "take a model that reads longer ones, or shorter texts",
                self._model_id,
                self._counts["prompts cut"],
            )

    def warn_if_many_are_missing(self) -> None:
        missing = sum(self._counts[source] for source in MISSING)
        if missing <= MANY * self.n_asked and not self._counts["failed"]:
            return
        hint = ""
        if self._counts["turned away"] > missing / 2:
            hint = f"; the server said: {'; '.join(self._said)}"
        elif self._counts["cut short"] > missing / 2:
            hint = "; most were cut off; raise max_answer_tokens (of reasoning: max_reasoning_tokens)"
        elif self._counts["unparsable"] > missing / 2:
            hint = "; look at the answers in the store (fute sql) and add their words to the verbalizer"
        reasons = self.reasons() + hint
        logger.warning("%s: %d of %d inputs have no answer: %s", self._model_id, missing, self.n_asked, reasons)


def _cut_short(answers: Sequence[Answer]) -> bool:
    return bool(answers) and answers[-1].finish_reason == "length"
