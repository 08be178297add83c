"""Any Python callable: (texts, pairs, **kwargs) -> one row of numbers, or one label, for each input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fute.config import PythonModel
from fute.data.named_numbers import named_like_numbers
from fute.entry_point import entry_point_identity, load_entry_point
from fute.fingerprint import fingerprint
from fute.models.answers import outputs_from_labels, outputs_from_numbers
from fute.models.foreign import foreign_code
from fute.models.span_answers import outputs_from_spans
from fute.types import Outputs, TextTable


class PythonCallable:
    """A function asked once for all inputs.

    Args:
        function: called as function(texts, pairs, **kwargs); texts a list of n strings, pairs a list of n
            strings or None, or None where no input has a second text. It returns what `config.outputs` says:
            (n, c) numbers, or n labels. An entry None means no answer. Spans: start, end, probability of each of k
            candidates, (n, 3k) numbers.
        identity: what says which function it is; part of the fingerprint.
    """

    kind = "python"

    def __init__(self, config: PythonModel, function: Callable[..., Any], identity: Mapping[str, Any]) -> None:
        self.id = config.id
        self._config = config
        self._function = function
        self._identity = dict(identity)

    @classmethod
    def from_config(cls, config: PythonModel, base_dir: Path) -> PythonCallable:
        return cls(
            config, load_entry_point(config.entry_point, base_dir), entry_point_identity(config.entry_point, base_dir)
        )

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
        with foreign_code(self.id, "its function"):
            answers = self._function(list(table.texts), pairs, **self._config.kwargs)
        # Reading the answer also runs foreign code: a lazy sequence may compute its items only now.
        with foreign_code(self.id, "its answer"):
            if self._config.outputs == "labels":
                return outputs_from_labels(self.id, answers, len(table), self._config.label_names)
            numbers = outputs_from_numbers(self.id, self._config.outputs, answers, len(table), self._config.label_names)
            if numbers.kind == "spans":
                return outputs_from_spans(self.id, numbers.values, numbers.answered_mask, table)
            return numbers
