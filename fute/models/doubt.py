"""Whether to go on asking: failures and equal answers are the inputs' own as long as other inputs fare otherwise."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from fute.errors import ModelError
from fute.llm.conversation import Reply
from fute.llm.failures import InputFailed

FAILED_IN_A_ROW = 10
"""Failures with no answer between them that are the endpoint's: if one input in two fails, a chance of 1 in 1,000."""

EQUAL = 100
"""Equal answers to inputs from all over after which the others are taken to be the same: a label of one input in twenty
is missing among them with a chance of 1 in 170."""

FIRST_EQUAL = 20
"""Equal answers after which inputs are drawn from all over."""

GOLDEN = 0.6180339887498949


class Doubt:
    """Kept while inputs are asked about. Safe between threads.

    Args:
        n_rows: inputs in all, beside those of other calls that were to be asked about the same.
        n_workers: requests in flight at once; so many more may fail before the first answer is back.
        stop_if_constant: raise when EQUAL answers are the same and no other came.
        label_names: of the columns of what is heard, for messages.
    """

    def __init__(
        self,
        n_rows: int,
        n_workers: int,
        *,
        stop_if_constant: bool = False,
        label_names: Sequence[str] | None = None,
    ) -> None:
        self.n_rows = n_rows
        self._too_many = min(FAILED_IN_A_ROW + n_workers - 1, n_rows)
        self._stop_if_constant = stop_if_constant
        self._label_names = label_names
        self._failed_in_a_row = 0
        self._first: str | bytes | None = None
        self._equal = 0
        self._differ = False
        self._lock = threading.Lock()

    def order(self, rows: Sequence[int]) -> Iterator[int]:
        """The rows, each once: in order, and from all over while in doubt, for those of one source stand together."""
        # Evenly spread however few of them are drawn.
        scattered = [rows[i] for i in sorted(range(len(rows)), key=lambda i: i * GOLDEN % 1)]
        near, far = iter(rows), iter(scattered)
        taken: set[int] = set()
        for _ in rows:
            row = next(row for row in (chain(far, near) if self._in_doubt() else near) if row not in taken)
            taken.add(row)
            yield row

    def failed(self, failure: InputFailed) -> None:
        """
        Raises:
            ModelError: so many failed in a row that the endpoint is at fault, or its settings.
        """
        with self._lock:
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= self._too_many:
                raise ModelError(f"{self._failed_in_a_row} inputs in a row failed, the last one with: {failure}")

    def answered(self) -> None:
        with self._lock:
            self._failed_in_a_row = 0

    def heard(self, reply: Reply) -> None:
        """
        Raises:
            ModelError: see stop_if_constant.
        """
        probabilities = reply.reading.probabilities
        said = reply.text if probabilities is None else np.round(probabilities, 6).tobytes()
        with self._lock:
            if said is None or self._differ:
                return
            self._first = said if self._first is None else self._first
            self._differ = said != self._first
            self._equal += 1
            constant = self._stop_if_constant and not self._differ and self._equal >= EQUAL
        if constant:
            which = str(reply.text) if probabilities is None else self._name(int(probabilities.argmax()))
            raise ModelError(
                f"the first {EQUAL} answers, to inputs from all over, are the same ({which[:60]!r}), and a constant "
                "model has no task to embed; no more are paid for. Look at the prompt and its verbalizer; where they "
                f"are right, run again with --go-on, which asks about the other {self.n_rows - EQUAL} inputs too"
            )

    def _in_doubt(self) -> bool:
        return self._failed_in_a_row > 0 or (self._stop_if_constant and not self._differ and self._equal >= FIRST_EQUAL)

    def _name(self, column: int) -> str:
        return str(column) if self._label_names is None else self._label_names[column]
