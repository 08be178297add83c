"""What a trained method learns from an input: class probabilities, standardised numbers, or where an answer stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fute.errors import MethodError
from fute.methods.labels import varying
from fute.surrogate.load import Family
from fute.surrogate.tokens import Tokens
from fute.types import Dataset, Floats, Outputs

Objective = Literal["classes", "numbers", "spans"]


@dataclass(frozen=True, eq=False)
class Targets:
    """What a head must say of n inputs.

    Attributes:
        objective: what kind of head learns them.
        values: classes (n, c) float32, rows that sum to one; numbers (n, c) float32, columns of mean 0 and deviation
            1; spans (n, k) float32, the probabilities of k candidates, rows that sum to one.
        positions: spans only, (n, k, 2) int64: first and last token of each candidate, both included; "no answer" is
            the null token's position twice.
    """

    objective: Objective
    values: Floats
    positions: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def n_outputs(self) -> int:
        """Numbers that the head gives: for an input, or (spans) for each of its tokens."""
        return 2 if self.objective == "spans" else self.values.shape[1]

    def take(self, rows: NDArray[np.integer]) -> Targets:
        return Targets(self.objective, self.values[rows], None if self.positions is None else self.positions[rows])


def label_targets(dataset: Dataset, rows: NDArray[np.integer]) -> Targets:
    """The classes or numbers of some training rows of a dataset that check_labels let pass.

    Raises:
        MethodError: one class or value only in these rows.
    """
    labels = dataset.train.targets[rows]
    if dataset.task == "regression":
        return Targets("numbers", _standardised(labels[:, None], f"dataset {dataset.id}"))
    names = dataset.label_names
    n_classes = len(names) if names is not None else int(dataset.train.targets.max()) + 1
    if len(np.unique(labels)) < 2:
        raise MethodError(f"dataset {dataset.id}: all {len(rows)} rows used have class {labels[0]}; raise max_rows")
    return Targets("classes", np.eye(n_classes, dtype=np.float32)[labels])


def output_targets(outputs: Outputs, rows: NDArray[np.integer]) -> Targets:
    """What a model answered on some rows of the pool: classes for probabilities and labels, else numbers.

    Raises:
        MethodError: the same answer for all of these rows.
    """
    values = outputs.values[rows]
    if np.ptp(values, axis=0).max() <= 1e-7:
        raise MethodError(f"the model gave the same answer for all {len(rows)} rows used; raise max_rows")
    if outputs.kind in ("probabilities", "labels"):
        positive = np.clip(values, 0, None)  # validate() lets rounding errors below zero pass
        return Targets("classes", positive / positive.sum(axis=1, keepdims=True))
    return Targets("numbers", _standardised(values, "the outputs"))


def span_targets(
    starts: NDArray[np.int64], ends: NDArray[np.int64], probabilities: Floats, tokens: Tokens, family: Family
) -> tuple[Targets, NDArray[np.intp], dict[str, int]]:
    """Candidate answers, from characters to this surrogate's tokens.

    A token belongs to an answer when they share a character. A candidate that was cut off with the end of its context,
    or that no token stands for, is left out; a row with less than half of its probability left teaches nothing and is
    left out as well.

    Args:
        starts, ends: (n, k) characters [start, end) of the context; -1 for "no answer".
        probabilities: (n, k), 0 where a row has fewer candidates.
        tokens: the n inputs, with context_offsets.

    Returns:
        The targets of the rows that are left, which rows these are, and counts: rows_answer_cut_off (left out),
        rows_no_answer (of those left: "no answer" is the most probable), candidates_cut_off (left out, of all rows).
    """
    n, k = starts.shape
    positions = np.zeros((n, k, 2), dtype=np.int64)
    weights = np.where(probabilities > 0, probabilities, 0.0)
    total = weights.sum(axis=1)
    null = null_positions(tokens, family)
    cut_off = 0
    assert tokens.context_offsets is not None
    for row in range(n):  # a few candidates each; tokens differ from row to row
        offsets = tokens.context_offsets[row]
        # A text that ends in a blank or a character without a token is whole all the same.
        read_to = int(offsets[:, 1].max()) if tokens.truncated[row] else None
        for candidate in np.flatnonzero(weights[row]):
            start, end = starts[row, candidate], ends[row, candidate]
            if start < 0:
                positions[row, candidate] = null[row]
                continue
            touched = np.flatnonzero((offsets[:, 0] < end) & (offsets[:, 1] > start) & (offsets[:, 0] >= 0))
            if len(touched) == 0 or (read_to is not None and end > read_to):
                weights[row, candidate] = 0.0
                cut_off += 1
            else:
                positions[row, candidate] = touched[0], touched[-1]
    left = weights.sum(axis=1)
    rows = np.flatnonzero((left > 0) & (left >= 0.5 * total))
    values = (weights[rows] / left[rows, None]).astype(np.float32)
    most_probable = starts[rows, values.argmax(axis=1)]
    counts = {
        "rows_answer_cut_off": n - len(rows),
        "rows_no_answer": int((most_probable < 0).sum()),
        "candidates_cut_off": cut_off,
    }
    return Targets("spans", values, positions[rows]), rows, counts


def null_positions(tokens: Tokens, family: Family) -> NDArray[np.int64]:
    """(n,) where "no answer" is said: at the first token, or with GPT-2, whose states see only what came before, at the
    end token that tokenise_with_offsets puts last. Never a token of the context."""
    return tokens.lengths - 1 if family == "gpt2" else np.zeros(len(tokens), dtype=np.int64)


def _standardised(values: NDArray[Any], what: str) -> Floats:
    """Columns of mean 0 and deviation 1; columns of one value only are left out, for they say nothing."""
    wide = values.astype(np.float64)[:, varying(values)]
    if wide.shape[1] == 0:
        raise MethodError(f"{what}: one value only in all {len(values)} rows; there is nothing to learn from them")
    return ((wide - wide.mean(axis=0)) / wide.std(axis=0)).astype(np.float32)
