"""What candidates answered on the same texts, as one array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fute.errors import OutputsError
from fute.models.calibration import calibrated
from fute.types import Outputs

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

NO_ANSWER = -1
"""The hard label of a row that a candidate did not answer: it agrees with nothing."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """m candidates asked about the same n texts, with the same c labels in the same order.

    A row that a candidate did not answer is left out of means over its probabilities, and counts as a disagreement
    wherever answers are compared: a prompt must not gain by being silent on what is hard.

    Attributes:
        probabilities: (m, n, c), each answered row summing to 1; rows without an answer hold zeros.
        answered: (m, n).
        label_names: the c labels.
        calls_per_row: (m,) calls that one text costs each candidate: 2 for a prompt that asks for its reasons first.
    """

    ids: tuple[str, ...]
    probabilities: Doubles
    answered: NDArray[np.bool_]
    label_names: tuple[str, ...]
    calls_per_row: Integers

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        outputs: Sequence[Outputs],
        calls_per_row: Sequence[int] | None = None,
        *,
        label_names: Sequence[str] | None = None,
    ) -> Candidates:
        """From outputs; columns are brought into the order of `label_names`, by default the first candidate's.

        Raises:
            OutputsError: no candidates, other labels than the first's, or another number of rows.
        """
        if not outputs:
            raise OutputsError("no candidates to choose from; give at least one prompt that answered")
        names = tuple(label_names or outputs[0].label_names or ())
        arrays = []
        for id_, output in zip(ids, outputs, strict=True):
            if output.label_names is None or sorted(output.label_names) != sorted(names):
                raise OutputsError(
                    f"{id_} answers {', '.join(output.label_names or ('labels without names',))}, but {ids[0]} "
                    f"answers {', '.join(names) or 'labels without names'}; candidates need the same labels"
                )
            if len(output.values) != len(outputs[0].values):
                raise OutputsError(
                    f"{id_} was asked about {len(output.values)} rows and {ids[0]} about {len(outputs[0].values)}; "
                    "candidates need the same texts"
                )
            arrays.append(output.values[:, [output.label_names.index(name) for name in names]])
        n = len(arrays[0])
        answered = [np.ones(n, bool) if o.answered is None else o.answered for o in outputs]
        calls = np.ones(len(ids), np.int64) if calls_per_row is None else np.asarray(calls_per_row, np.int64)
        return cls(tuple(ids), np.stack(arrays).astype(np.float64), np.stack(answered), tuple(names), calls)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_rows(self) -> int:
        return self.probabilities.shape[1]

    @cached_property
    def labels(self) -> Integers:
        """(m, n) the most probable label of each row, NO_ANSWER where there is none."""
        return np.where(self.answered, self.probabilities.argmax(axis=2), NO_ANSWER)

    def calibrated(self, biases: Doubles) -> Candidates:
        """The same answers with (m, c) added to the logarithms of each candidate's probabilities."""
        values = calibrated(self.probabilities, biases[:, None, :])
        return Candidates(self.ids, values, self.answered, self.label_names, self.calls_per_row)

    def rows(self, rows: NDArray[np.intp]) -> Candidates:
        """The same candidates on some of the rows; a row may be taken more than once (a bootstrap sample)."""
        return Candidates(
            self.ids, self.probabilities[:, rows], self.answered[:, rows], self.label_names, self.calls_per_row
        )

    def some(self, members: NDArray[np.intp]) -> Candidates:
        """Some of the candidates on all rows."""
        return Candidates(
            tuple(self.ids[m] for m in members),
            self.probabilities[members],
            self.answered[members],
            self.label_names,
            self.calls_per_row[members],
        )
