"""Local Parquet, CSV and JSONL files, and globs of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from fute.config import FileSource
from fute.data.cells import typed_alike
from fute.data.declared_names import one_declaration
from fute.data.files import file_format, matching_files, missing_columns, read_file, split_files
from fute.errors import ConfigError, DataError
from fute.fingerprint import digest_file


@dataclass(frozen=True)
class FileReader:
    source: FileSource
    base_dir: Path

    def tables(self, text: Sequence[str], other: Sequence[str]) -> dict[str, pa.Table]:
        tables: dict[str, list[pa.Table]] = {}
        cells: list[tuple[str, int]] = []  # tables of CSV files: split, and place in it
        for split, files in split_files(self.source, self.base_dir).items():
            tables[split] = []
            for file in files:
                form = file_format(file, self.source.format)
                if form == "csv":
                    cells.append((split, len(tables[split])))
                tables[split].append(read_file(file, form, [*text, *other]))
        for name in (name for name in dict.fromkeys(other) if name not in text):
            typed = typed_alike([tables[split][i].column(name) for split, i in cells])
            for (split, i), column in zip(cells, typed, strict=True):
                table = tables[split][i]
                tables[split][i] = table.set_column(table.schema.get_field_index(name), name, column)
        return {split: _stack(parts, other, split) for split, parts in tables.items()}

    def identity(self) -> dict[str, Any]:
        form = self.source.format
        files = split_files(self.source, self.base_dir)
        return {"files": {s: [[file_format(f, form), digest_file(f)] for f in fs] for s, fs in files.items()}}

    def problems(self, columns: Sequence[str]) -> list[str]:
        found = []
        for file in [file for part in split_files(self.source, self.base_dir).values() for file in part]:
            try:
                found.append(missing_columns(file, file_format(file, self.source.format), columns))
            except (ConfigError, DataError) as exc:
                found.append(str(exc))
        return [problem for problem in found if problem]

    def split_names(self) -> list[str]:
        return ["train"] if isinstance(self.source.files, str) else list(self.source.files)

    def parts(self) -> list[tuple[str, FileSource]]:
        """Each file of a glob by itself; files that are given as splits together."""
        if isinstance(self.source.files, str):
            paths = matching_files(self.source.files, self.base_dir)
            each = [self.source.model_copy(update={"files": str(path.resolve())}) for path in paths]
            return list(zip(_file_names(paths), each, strict=True))
        if not self.source.files:
            raise ConfigError("`files` is empty; name a file")
        return [(Path(next(iter(self.source.files.values()))).stem, self.source)]


def _stack(tables: list[pa.Table], labels: Sequence[str], split: str) -> pa.Table:
    if len(tables) == 1:
        return tables[0]
    for name in labels:
        tables = one_declaration(tables, name, split)
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as exc:
        raise DataError(f"{split}: its files do not fit together: {exc}; give them the same types of columns") from exc


def _file_names(paths: Sequence[Path]) -> list[str]:
    """A name for each file: its own without its ending; where several have it, with the folders they differ in too."""
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        root = os.path.commonpath([path.parent for path in paths])
        below = [path.relative_to(root) for path in paths]
        names = _told_apart(names, [path.with_suffix("").as_posix() for path in below])
        names = _told_apart(names, [path.as_posix() for path in below])  # a.csv beside a.jsonl
    return names


def _told_apart(names: Sequence[str], longer: Sequence[str]) -> list[str]:
    count = Counter(names)
    return [long if count[name] > 1 else name for name, long in zip(names, longer, strict=True)]
