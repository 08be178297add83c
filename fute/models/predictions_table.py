"""A table of predictions made elsewhere on the pool, found again by row number or by text."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fute.config import PredictionsModel
from fute.data.cells import numbers_in, typed_cells
from fute.data.files import file_format, open_file, read_columns
from fute.data.label_column import is_number, is_text, plain_labels
from fute.data.named_numbers import BOOLEANS
from fute.data.read import with_text
from fute.did_you_mean import listed
from fute.errors import ConfigError, DataError, ModelError
from fute.fingerprint import digest_file, fingerprint
from fute.models.answers import outputs_from_labels, outputs_from_numbers
from fute.models.span_answers import locate_answers, outputs_from_spans
from fute.types import OutputKind, Outputs, TextTable

log = logging.getLogger(__name__)

READING_VERSION = 3
"""Raised when the same table would be read otherwise."""
POOL = "pool"
"""Column with the pool's id, as in the view `pool_rows`."""
NO_POOL = (
    "names pool rows by their numbers, and nothing says of which pool: they are others in every pool. Keep the column "
    "`pool` of the exported rows in it, or set `pool` to the id of the pool that was answered, or `text` to a column "
    "with the texts, which are then compared"
)


def keyed_by_row(config: PredictionsModel, there: Collection[str]) -> bool:
    """Whether rows are found by number; else by text."""
    return config.row is not None and (config.row in there or config.text is None)


def unknown_pool(config: PredictionsModel, there: Collection[str]) -> bool:
    """Whether rows are found by number alone, and of which pool is not said."""
    return keyed_by_row(config, there) and config.text is None and config.pool is None and POOL not in there


class PredictionsTable:
    """Predictions in a Parquet, CSV or JSONL file.

    A row is matched by its pool row (column `row`), or by its text where there is no such column. Where both are
    there the text is compared as well, so that predictions made on another pool are not taken for this one's.
    Texts that are not found as they stand are compared without the blanks around them and with one kind of line end.
    Pool rows without a prediction count as not answered; the same row predicted twice is refused unless both agree.
    Labels are read as those of datasets are: whole numbers and texts are classes, a blank one is no answer. Numbers of
    which some have a fraction are those of a regression.
    """

    kind = "predictions"

    def __init__(self, config: PredictionsModel, base_dir: Path) -> None:
        self.id = config.id
        self._config = config
        self._path = (base_dir / Path(config.file).expanduser()).resolve()
        if not self._path.is_file():
            raise ModelError(f"{self.id}: no file {self._path}; `file` is relative to the study file")

    @cached_property
    def fingerprint(self) -> str:
        settings = self._config.identity(exclude={"id", "task", "kind", "file"})
        # Before there was one reader, labels and all columns of CSV files were read otherwise; texts matched exactly.
        same = self._config.label is None and self._config.text is None and self._path.suffix.lower() != ".csv"
        reading = {} if same else {"reading": READING_VERSION}
        return fingerprint(kind=self.kind, content=digest_file(self._path), settings=settings, **reading)

    def outputs(self, table: TextTable) -> Outputs:
        config = self._config
        if config.pool is not None:
            self._check_pool({config.pool}, table)
        columns = self._read()
        predictions = self._predictions(columns)
        by_row = keyed_by_row(config, columns)
        matched = self._by_row(columns, table) if by_row else self._by_text(columns, table)

        answers: list[Any] = [None] * len(table)
        source: dict[int, int] = {}
        duplicates = 0
        for pool_row, file_row in matched:
            if pool_row in source:
                duplicates += 1
                if not _same(answers[pool_row], predictions[file_row]):
                    raise ModelError(
                        f"{self.id}: rows {source[pool_row]} and {file_row} of {self._path.name} predict pool row "
                        f"{pool_row} differently; keep one of them"
                    )
                continue
            source[pool_row] = file_row
            answers[pool_row] = predictions[file_row]
        if not any(answer is not None for answer in answers):
            raise ModelError(
                f"{self.id}: none of the {len(predictions)} rows of {self._path.name} belongs to one of the pool's "
                f"{len(table)} inputs; check the columns `row` and `text`, and that it is the same pool"
            )
        unused = sorted(set(range(len(predictions))) - {file_row for _, file_row in matched})
        details = {
            "rows_in_file": len(predictions),
            "rows_missing": sum(answer is None for answer in answers),
            "rows_duplicate": duplicates,
            "rows_unused": len(unused),
        }
        # Rows of other pools are in such a file by right.
        pools = columns[POOL].to_pylist() if POOL in columns else [None] * len(predictions)
        strays = sum(pools[row] in (None, table.pool, table.fingerprint) for row in unused)
        if details["rows_missing"] or strays:
            log.warning(
                "%s: %d of the pool's %d rows have no prediction in %s, and %d of its %d rows belong to none of them%s",
                self.id,
                details["rows_missing"],
                len(table),
                self._path.name,
                strays,
                len(predictions),
                "" if by_row else "; most likely their texts differ, in blanks or line ends within them for one",
            )
        if config.gives_spans:
            return self._as_spans(answers, table, details)
        return self._as_outputs(answers, columns, details)

    def _check_pool(self, predicted: set[str], table: TextTable) -> None:
        if not predicted & {table.pool, table.fingerprint}:
            raise ModelError(
                f"{self.id}: {self._path.name} holds predictions on pool {listed(sorted(predicted), 3)}, but this pool "
                f"is {table.pool or table.fingerprint}; predict on this pool, or reuse that one (pool: {{reuse: ID}})"
            )

    def _pool_rows(self, columns: dict[str, pa.ChunkedArray], table: TextTable) -> list[bool]:
        """(file rows) whether a row is of this pool: by the column `pool`, where the study names no pool.

        Raises:
            ModelError: nothing says which pool's rows the numbers are, or they are another's.
        """
        if POOL in columns and self._config.pool is None:
            pools = columns[POOL].to_pylist()
            self._check_pool({str(pool) for pool in pools if pool is not None}, table)
            return [pool in (table.pool, table.fingerprint) for pool in pools]
        if table.pool is not None and unknown_pool(self._config, columns):
            raise ModelError(f"{self.id}: {self._path.name} {NO_POOL} (this pool is {table.pool})")
        return [True] * len(next(iter(columns.values())))

    def _read(self) -> dict[str, pa.ChunkedArray]:
        """The columns that are named and there, each as what it was named for: see `fute.data.cells`."""
        config = self._config
        named = [config.row, config.text, config.text_pair, config.label, *config.numbers]
        named += [config.start, config.end, config.answer, config.score, POOL]
        try:
            file = open_file(self._path, file_format(self._path))
            self._there = file.columns([name for name in named if name is not None])
            table = read_columns(file, [name for name in self._there if name in named])
            columns = dict(zip(table.column_names, table.columns, strict=True))
            if config.label in columns:
                labels = columns[config.label]
                labels = typed_cells(labels) if file.cells else labels
                columns[config.label] = plain_labels(labels, f"column {config.label!r}")
        except (ConfigError, DataError) as exc:
            raise ModelError(f"{self.id}: {exc}") from exc
        for name in [config.row, config.start, config.end, config.score, *config.numbers]:
            if name in columns and is_text(columns[name].type):
                numbers = numbers_in(columns[name])
                columns[name] = columns[name] if numbers is None else numbers
        return columns

    def _column(self, columns: dict[str, pa.ChunkedArray], field: str, name: str) -> pa.ChunkedArray:
        if name not in columns:
            raise ModelError(
                f"{self.id}: {self._path.name} has no column {name!r} (given as `{field}`); it has "
                f"{listed(self._there, 30)}"
            )
        return columns[name]

    def _predictions(self, columns: dict[str, pa.ChunkedArray]) -> list[Any]:
        """One entry for each row of the file: a label, a number, or a list (spans: of start, end and probability, or of
        text and probability); None where it is null."""
        names, field = self._config.numbers, "scores" if self._config.scores else "probabilities"
        if self._config.gives_spans:
            return self._span_predictions(columns)
        if not names:
            if self._config.label is None:
                raise ModelError(
                    f"{self.id}: name the column with the predictions: `label`, `probabilities`, `scores`, `start` and "
                    "`end`, or `answer`"
                )
            labels = self._column(columns, "label", self._config.label).to_pylist()
            return [BOOLEANS[label] if isinstance(label, bool) else label for label in labels]
        given = [self._column(columns, field, name) for name in names]
        if len(given) == 1 and not (self._config.scores and is_number(given[0].type)):
            if not (
                pa.types.is_list(given[0].type)
                or pa.types.is_large_list(given[0].type)
                or pa.types.is_fixed_size_list(given[0].type)
            ):
                raise ModelError(
                    f"{self.id}: `{field}` names the one column {names[0]!r}, of type {given[0].type}; "
                    "name one column for each class, or one column that holds lists"
                )
            return given[0].to_pylist()
        rows = zip(*(column.to_pylist() for column in given), strict=True)
        return [None if any(value is None for value in row) else list(row) for row in rows]

    def _span_predictions(self, columns: dict[str, pa.ChunkedArray]) -> list[Any]:
        fields = ("answer",) if self._config.answer is not None else ("start", "end")
        given = []
        for field in fields:
            name = getattr(self._config, field)
            if name is None:
                raise ModelError(f"{self.id}: `start` and `end` belong together; name the column of `{field}` as well")
            given.append(self._column(columns, field, name))
            kind = given[-1].type
            if not pa.types.is_null(kind) and not (is_text(kind) if field == "answer" else pa.types.is_integer(kind)):
                wanted = "texts" if field == "answer" else "whole numbers"
                raise ModelError(f"{self.id}: column {name!r} is of type {kind}; `{field}` needs {wanted}")
        scores: list[Any] = [1.0] * len(given[0])
        if self._config.score is not None:
            scores = self._column(columns, "score", self._config.score).to_pylist()
        rows = zip(*(column.to_pylist() for column in given), scores, strict=True)
        return [None if any(value is None for value in row) else list(row) for row in rows]

    def _by_row(self, columns: dict[str, pa.ChunkedArray], table: TextTable) -> list[tuple[int, int]]:
        """(pool row, file row) of every row of the file."""
        name = self._config.row or ""
        rows = self._column(columns, "row", name)
        if not pa.types.is_integer(rows.type):
            raise ModelError(f"{self.id}: column {name!r} is of type {rows.type}; pool rows are whole numbers from 0")
        given: Sequence[int | None] = rows.to_pylist()
        here = self._pool_rows(columns, table)
        wrong = [
            row
            for row, ours in zip(given, here, strict=True)
            if ours and not (row is not None and 0 <= row < len(table))
        ]
        if wrong:
            raise ModelError(
                f"{self.id}: {len(wrong)} of {len(given)} rows of {self._path.name} name a pool row that is not "
                f"there ({wrong[0]}, for one); this pool has rows 0 to {len(table) - 1}"
            )
        matched = [(row, i) for i, row in enumerate(given) if row is not None and here[i]]
        if self._config.text is not None:
            inputs = self._inputs(columns)
            for row, i in matched:
                if self._loose(inputs[i]) != self._loose(
                    _input(table, row, with_pair=self._config.text_pair is not None)
                ):
                    raise ModelError(
                        f"{self.id}: row {i} of {self._path.name} names pool row {row}, but its text "
                        f"{inputs[i][0]!r} is not that row's text {table.texts[row]!r}; is it another pool?"
                    )
        return matched

    def _by_text(self, columns: dict[str, pa.ChunkedArray], table: TextTable) -> list[tuple[int, int]]:
        """(pool row, file row) of every row whose text is in the pool; a text may stand there more than once."""
        if self._config.text is None:
            raise ModelError(f"{self.id}: name the column that says which input a row belongs to: `row` or `text`")
        named: Sequence[int] = range(len(table))
        if self._config.text_pair is None and table.pairs is not None:
            # A text alone does not say which pair is meant.
            named = [row for row in named if table.pairs[row] is None]
            if not named:
                raise ModelError(
                    f"{self.id}: the pool has text pairs only, and a text alone does not say which is meant; "
                    "name the column with the second text (`text_pair`), or match by `row`"
                )
        pool_rows: dict[tuple[str | None, str | None], list[int]] = {}
        for row in named:
            pool_rows.setdefault(_input(table, row, with_pair=True), []).append(row)
        inputs = self._inputs(columns)
        loosely: dict[tuple[str | None, str | None], list[tuple[str | None, str | None]]] = {}
        for key in pool_rows:
            loosely.setdefault(self._loose(key), []).append(key)
        # Of two inputs of the pool that are alike so, nothing says which is meant; one that is found needs no other.
        exact = set(inputs)
        meant = {loose: keys[0] for loose, keys in loosely.items() if len(keys) == 1 and keys[0] not in exact}
        found = [key if key in pool_rows else meant.get(self._loose(key)) for key in inputs]
        return [(row, i) for i, key in enumerate(found) if key is not None for row in pool_rows[key]]

    def _loose(self, texts: tuple[str | None, str | None]) -> tuple[str | None, str | None]:
        """Without what tables lose or gain on their way: the kind of line ends, and blanks around a text."""
        if self._config.start is not None:  # these count the characters of the text as it was there
            return texts
        one, other = (None if t is None else t.replace("\r\n", "\n").replace("\r", "\n").strip() for t in texts)
        return one, other

    def _inputs(self, columns: dict[str, pa.ChunkedArray]) -> list[tuple[str | None, str | None]]:
        texts = self._texts(columns, "text", self._config.text or "")
        if self._config.text_pair is None:
            return [(text, None) for text in texts]
        pairs = self._texts(columns, "text_pair", self._config.text_pair)
        # A blank second text is none, as in a pool; CSV has no other way to say it.
        return [(text, pair if pair and not pair.isspace() else None) for text, pair in zip(texts, pairs, strict=True)]

    def _texts(self, columns: dict[str, pa.ChunkedArray], field: str, name: str) -> list[str | None]:
        texts = self._column(columns, field, name)
        try:
            return with_text(pa.table({name: texts}), [name], self._path.name).column(name).to_pylist()
        except DataError as exc:
            raise ModelError(f"{self.id}: {exc}") from exc

    def _as_spans(self, answers: list[Any], table: TextTable, details: dict[str, int]) -> Outputs:
        if self._config.answer is not None:
            answers, n_missing = locate_answers(answers, table)
            details = {**details, "answers_not_found": n_missing}
        found = outputs_from_numbers(self.id, "spans", answers, len(answers), None, details)
        return outputs_from_spans(self.id, found.values, found.answered_mask, table, details)

    def _as_outputs(self, answers: list[Any], columns: dict[str, pa.ChunkedArray], details: dict[str, int]) -> Outputs:
        names = self._config.numbers
        if names:
            kind: OutputKind = "scores" if self._config.scores else "probabilities"
            return outputs_from_numbers(
                self.id, kind, answers, len(answers), names if len(names) > 1 else None, details
            )
        if pa.types.is_floating(columns[self._config.label or ""].type):  # a regression's predictions
            numbers = [None if answer is None else [answer] for answer in answers]
            return outputs_from_numbers(self.id, "scores", numbers, len(answers), None, details)
        return outputs_from_labels(self.id, answers, len(answers), None, details)


def _input(table: TextTable, row: int, *, with_pair: bool) -> tuple[str | None, str | None]:
    return table.texts[row], table.pairs[row] if with_pair and table.pairs is not None else None


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        if any(isinstance(value, str) for value in one):
            return one == other
        return len(one) == len(other) and bool(np.allclose(one, other, equal_nan=True))
    return bool(one == other)
