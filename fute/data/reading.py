"""Which datasets an earlier fute read otherwise, so that what it stored is not taken for today's reading.

A dataset's fingerprint is known before it is ingested. It stays what it was wherever the rows do, so that nobody
embeds and trains anew for the reading of other tables. Version 1 let Arrow guess the types of CSV cells and of texts in
JSONL, gave the names that the training file declares to all files, and took every number for an index of `label_names`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from fute.config import DatasetConfig, FileSource, HubSource
from fute.data.declared_names import declared_names
from fute.data.files import file_format, open_file, read_columns, split_files
from fute.data.formats.base import Dialect, FileFormat
from fute.data.formats.records import Jsonl
from fute.data.named_numbers import named_like_numbers

Names = Sequence[str] | None


def ingest_version(config: DatasetConfig, base_dir: Path) -> int:
    """1 where the rows are those of version 1, else 2; of rows that only a function knows, by the settings alone.

    Raises:
        ConfigError, DataError: a file that is not there or cannot be read.
    """
    if config.task != "classification":
        return 1
    declared: list[Names] = []
    guessed = False
    if isinstance(config.data, FileSource):
        dialect = Dialect(config.data.separator, config.data.encoding)
        for file in (file for files in split_files(config.data, base_dir).values() for file in files):
            form = file_format(file, config.data.format)
            if form == "parquet":
                declared.append(declared_names(pq.read_schema(file), config.label))
            elif form in _GUESSED:
                guessed |= _GUESSED[form](open_file(file, form, dialect), config.label)
    # What a hub's dataset declares is not known before it is fetched.
    unknown = isinstance(config.data, HubSource) and config.label_names is not None
    return 2 if guessed or unknown else names_version(config.label_names, declared)


def names_version(given: Names, declared: Iterable[Names]) -> int:
    """The version that the names of classes alone make necessary.

    Args:
        given: `label_names`.
        declared: what each table calls the classes 0, 1, ...
    """
    there = {tuple(names) for names in declared if names is not None}
    if len(there) > 1:
        return 2
    if given is None:
        return 1
    place = {name: i for i, name in enumerate(given)}
    moved = any(place.get(name, i) != i for names in there for i, name in enumerate(names))
    return 2 if moved or named_like_numbers(given) else 1


def _guessed_cells(file: FileFormat, label: str) -> bool:
    """Whether Arrow makes anything else of the labels in a CSV file than the text or whole numbers that they are."""
    cells = pc.unique(pc.utf8_trim_whitespace(read_columns(file, [label]).column(label))).to_pylist()
    rows = io.StringIO()
    csv.writer(rows).writerows([["label"], *([cell] for cell in cells if cell)])
    written = rows.getvalue().encode()
    column = pa_csv.read_csv(
        io.BytesIO(written),
        read_options=pa_csv.ReadOptions(block_size=len(written) + 1),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
    ).column("label")
    if pa.types.is_integer(column.type):
        return column.cast(pa.string()).to_pylist() != [cell for cell in cells if cell]
    return not pa.types.is_string(column.type) and len(column) > 0


def _guessed_text(file: FileFormat, label: str) -> bool:
    """Whether Arrow makes a time of the labels in a JSONL file: of all of them, or of none."""
    assert isinstance(file, Jsonl)
    first = next((row[label] for row in file.rows() if row.get(label) is not None), None)
    if not isinstance(first, str):
        return False
    line = json.dumps({"label": first}).encode()
    return pa.types.is_temporal(pa_json.read_json(io.BytesIO(line)).column("label").type)


_GUESSED = {"csv": _guessed_cells, "jsonl": _guessed_text}
"""Of the formats that version 1 knew: whether it made something else of a file's labels."""
