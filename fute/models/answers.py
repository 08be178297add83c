"""What foreign code answered, turned into Outputs: one row of numbers for each input, or a clear refusal."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fute.data.labels import nearly_alike, spelt_alike
from fute.data.named_numbers import class_indices
from fute.did_you_mean import listed
from fute.errors import DataError, ModelError, NoAnswersError
from fute.types import OutputKind, Outputs

log = logging.getLogger(__name__)


def outputs_from_labels(
    model_id: str,
    answers: Any,
    n_rows: int,
    label_names: Sequence[str] | None = None,
    details: Mapping[str, Any] | None = None,
) -> Outputs:
    """One label for each input, as one-hot rows.

    Args:
        answers: n labels (text, whole numbers, booleans); None where there is no answer.
        label_names: what the columns stand for; default: the distinct labels in order (numbers by size).
            Where names are given and all labels are whole numbers that are no names, they are class ids, and
            booleans are the names true and false, or class ids as well.

    Raises:
        ModelError: not one label for each input, a label that is not among the names, or, without names, labels that
            differ in blanks only.
    """
    labels = _one_for_each(model_id, answers, n_rows, "labels")
    ids = [i for i, label in enumerate(labels) if label is not None]
    if not ids:
        raise NoAnswersError(f"{model_id}: it answered none of {n_rows} inputs")
    for i in ids:
        if not isinstance(labels[i], str | int | np.integer | bool | np.bool_):
            raise ModelError(
                f"{model_id}: label {labels[i]!r} of row {i} is of type {type(labels[i]).__name__}; "
                "a label is a text or a whole number, and None means no answer"
            )
    whole = all(not isinstance(labels[i], str) for i in ids)
    distinct = {labels[i] for i in ids}
    if label_names is None:
        names = tuple(str(label) for label in sorted(distinct, key=None if whole else str))
        _check_spelling(model_id, names)
    else:
        names = tuple(label_names)
        if whole and not {str(label) for label in distinct} <= set(names):
            try:
                indices = class_indices(names, {int(label) for label in distinct}, boolean=_boolean(distinct)) or {}
            except DataError as exc:
                raise ModelError(f"{model_id}: {exc}") from exc
            labels = [
                None if label is None else _name_of(model_id, indices.get(int(label), int(label)), names)
                for label in labels
            ]
    column = {name: c for c, name in enumerate(names)}

    values = np.zeros((n_rows, len(names)), np.float32)
    for i in ids:
        if str(labels[i]) not in column:
            raise ModelError(
                f"{model_id}: label {labels[i]!r} of row {i} is none of its label names: {', '.join(names)}"
            )
        values[i, column[str(labels[i])]] = 1.0
    return Outputs("labels", values, names, _answered(n_rows, ids), dict(details or {}))


def _check_spelling(model_id: str, names: Sequence[str]) -> None:
    """Refuse what a dataset's labels are refused for, and say what else may be one class."""
    if twice := spelt_alike(names):
        raise ModelError(
            f"{model_id}: its labels {listed(map(repr, twice))} would be different classes, but differ in blanks only; "
            "write them alike"
        )
    for alike in nearly_alike(names):
        log.warning(
            "%s: its labels %s differ in capitals, a full stop, or how accents are encoded, and count as different "
            "classes",
            model_id,
            listed(map(repr, alike)),
        )


def outputs_from_numbers(
    model_id: str,
    kind: OutputKind,
    answers: Any,
    n_rows: int,
    label_names: Sequence[str] | None = None,
    details: Mapping[str, Any] | None = None,
) -> Outputs:
    """One row of numbers for each input.

    Args:
        answers: (n, c) numbers in any array-like form, a row None where there is no answer. Scores may be
            (n,), one for each input.

    Raises:
        ModelError: not numbers, not one row for each input, rows of unequal length, or not one name a column.
    """
    rows, answered = _rows_of_numbers(model_id, kind, answers, n_rows)
    if rows.ndim == 1 and kind == "scores":
        rows = rows[:, None]
    if rows.ndim != 2 or rows.shape[1] == 0:
        hint = "probabilities need a column for each class" if kind == "probabilities" else "give (inputs, numbers)"
        raise ModelError(f"{model_id}: its {kind} have shape {rows.shape} for {n_rows} inputs; {hint}")
    if label_names is not None and len(label_names) != rows.shape[1]:
        raise ModelError(
            f"{model_id}: {len(label_names)} label names ({', '.join(label_names)}) for {rows.shape[1]} columns "
            f"of {kind}; give one for each column"
        )
    values = np.zeros((n_rows, rows.shape[1]), np.float32)
    values[answered] = rows
    names = None if label_names is None else tuple(label_names)
    return Outputs(kind, values, names, _answered(n_rows, answered), dict(details or {}))


def _rows_of_numbers(
    model_id: str, kind: OutputKind, answers: Any, n_rows: int
) -> tuple[NDArray[np.float32], Sequence[int]]:
    if isinstance(answers, np.ndarray) and answers.dtype != object:
        answered: Sequence[int] = range(n_rows)
        given: Any = answers
        if answers.ndim == 0 or len(answers) != n_rows:
            raise ModelError(f"{model_id}: {kind} of shape {answers.shape} for {n_rows} inputs; give one row for each")
    else:
        every = _one_for_each(model_id, answers, n_rows, kind)
        answered = [i for i, row in enumerate(every) if row is not None]
        given = [every[i] for i in answered]
        if not given:
            raise NoAnswersError(f"{model_id}: it answered none of {n_rows} inputs")
    try:
        return np.asarray(given, dtype=np.float32), answered
    except (TypeError, ValueError) as exc:
        raise ModelError(
            f"{model_id}: its {kind} are no table of numbers ({exc}); give as many numbers for each input, "
            "or None for an input without an answer"
        ) from exc


def _one_for_each(model_id: str, answers: Any, n_rows: int, what: str) -> list[Any]:
    # A text or a mapping also has a length and can be iterated over, but it is no list of answers.
    if isinstance(answers, str | bytes | Mapping) or not (hasattr(answers, "__len__") and hasattr(answers, "__iter__")):
        raise ModelError(
            f"{model_id}: it returned {type(answers).__name__} instead of {what}; return a list or an array "
            "with one entry for each input"
        )
    if len(answers) != n_rows:
        raise ModelError(f"{model_id}: it returned {len(answers)} {what} for {n_rows} inputs; give one for each")
    return list(answers)


def _name_of(model_id: str, class_id: int, names: tuple[str, ...]) -> str:
    if not 0 <= class_id < len(names):
        raise ModelError(f"{model_id}: class {class_id}, but its {len(names)} label names are {', '.join(names)}")
    return names[class_id]


def _boolean(labels: Collection[Any]) -> bool:
    return all(isinstance(label, bool | np.bool_) for label in labels)


def _answered(n_rows: int, rows: Sequence[int]) -> NDArray[np.bool_] | None:
    if len(rows) == n_rows:
        return None
    mask = np.zeros(n_rows, bool)
    mask[list(rows)] = True
    return mask
