"""Any Python callable: (texts, pairs, **kwargs) -> one row of numbers, or one label, for each input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sized
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fute.config import PythonModel
from fute.data.named_numbers import named_like_numbers
from fute.entry_point import check_call, entry_point_identity, load_entry_point
from fute.errors import ModelError, NoAnswersError, foreign_code
from fute.fingerprint import fingerprint
from fute.models.answers import outputs_from_labels, outputs_from_numbers
from fute.models.span_answers import outputs_from_spans
from fute.rows import rows_of
from fute.types import Outputs, TextTable


class PythonCallable:
    """A function asked once for all inputs, and loaded then.

    It is called as function(texts, pairs, **kwargs); texts a list of n strings, pairs a list of n strings or None, or
    None where no input has a second text. Where the inputs are rows of a table, texts are these: {column: value}, or
    values where there is one column. It returns what `config.outputs` says: (n, c) numbers, or n labels. An entry
    None means no answer. Spans: start, end, probability of each of k candidates, (n, 3k) numbers.
    """

    kind = "python"

    def __init__(self, config: PythonModel, base_dir: Path) -> None:
        self.id = config.id
        self._config = config
        self._base_dir = base_dir
        self._identity = entry_point_identity(config.entry_point, base_dir)

    @cached_property
    def function(self) -> Callable[..., Any]:
        """Raises ConfigError: there is no such function. ModelError: its module raised, or it takes other arguments."""
        function = load_entry_point(self._config.entry_point, self._base_dir)
        check_call(self.id, function, ("texts", "pairs"), self._config.kwargs)
        return function

    @property
    def fingerprint(self) -> str:
        config = self._config
        # Booleans and numbers among such names were once taken for indices whatever the names said.
        renamed = config.outputs == "labels" and named_like_numbers(config.label_names or ())
        reading = {"reading": 2} if renamed else {}
        settings = config.identity(exclude={"id", "task", "kind"})
        return fingerprint(kind=self.kind, function=self._identity, settings=settings, **reading)

    def outputs(self, table: TextTable) -> Outputs:
        pairs = None if table.pairs is None else list(table.pairs)
        function = self.function
        given = list(table.texts) if table.columns is None else rows_of(table)
        with foreign_code(self.id, "its function"):
            answers = function(given, pairs, **self._config.kwargs)
        # Reading the answer also runs foreign code: a lazy sequence may compute its items only now.
        with foreign_code(self.id, "its answer"):
            try:
                return self._read(answers, table)
            except NoAnswersError:
                raise
            except ModelError as exc:
                kind = _looks_like(answers)
                rows = kind == "probabilities" and self._config.outputs != "labels"
                if kind is None or kind == self._config.outputs or rows:
                    raise
                raise ModelError(f"{exc}. Does it return {kind}? Then write `outputs: {kind}`") from exc

    def _read(self, answers: Any, table: TextTable) -> Outputs:
        if self._config.outputs == "labels":
            return outputs_from_labels(self.id, answers, len(table), self._config.label_names)
        numbers = outputs_from_numbers(self.id, self._config.outputs, answers, len(table), self._config.label_names)
        if numbers.kind == "spans":
            return outputs_from_spans(self.id, numbers.values, numbers.answered_mask, table)
        return numbers


def _looks_like(answers: Any) -> str | None:
    """Which `outputs` the first answer would be of; None: it cannot be told."""
    if isinstance(answers, str | bytes | Mapping) or not isinstance(answers, Iterable):
        return None
    first = next((answer for answer in answers if answer is not None), None)
    if isinstance(first, str | bool | int | np.bool_ | np.integer):
        return "labels"
    if isinstance(first, float | np.floating):
        return "scores"
    return "probabilities" if isinstance(first, Sized) and len(first) > 1 else None
