"""Local files and folders, and globs of files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from fute.config import FileSource
from fute.data.cells import typed_alike
from fute.data.declared_names import one_declaration
from fute.data.files import (
    FORMATS,
    file_format,
    matching_files,
    missing_columns,
    open_file,
    read_columns,
    remarks_on,
    split_files,
    without_ending,
)
from fute.data.formats.base import Dialect, FileFormat
from fute.errors import ConfigError, DataError


@dataclass(frozen=True)
class FileReader:
    source: FileSource
    base_dir: Path

    @cached_property
    def _files(self) -> dict[str, list[FileFormat]]:
        dialect = Dialect(self.source.separator, self.source.encoding)
        return {
            split: [open_file(file, file_format(file, self.source.format), dialect) for file in files]
            for split, files in split_files(self.source, self.base_dir).items()
        }

    def tables(self, text: Sequence[str], other: Sequence[str]) -> dict[str, pa.Table]:
        tables = {split: [read_columns(f, [*text, *other]) for f in files] for split, files in self._files.items()}
        # Tables of cells: split, and place in it.
        cells = [(split, i) for split, files in self._files.items() for i, file in enumerate(files) if file.cells]
        for name in (name for name in dict.fromkeys(other) if name not in text):
            typed = typed_alike([tables[split][i].column(name) for split, i in cells])
            for (split, i), column in zip(cells, typed, strict=True):
                table = tables[split][i]
                tables[split][i] = table.set_column(table.schema.get_field_index(name), name, column)
        return {split: _stack(parts, other, split) for split, parts in tables.items()}

    def remarks(self, columns: Sequence[str]) -> list[str]:
        return remarks_on(self._files, columns)

    def identity(self) -> dict[str, Any]:
        # Named only where it is set, so that files which were known before keep their identity.
        set_by_hand = {"separator": self.source.separator, "encoding": self.source.encoding}
        how = [given] if (given := {k: v for k, v in set_by_hand.items() if v is not None}) else []
        form = {kind: name for name, kind in FORMATS.items()}
        return {"files": {s: [[form[type(f)], f.digest(), *how] for f in fs] for s, fs in self._files.items()}}

    def problems(self, columns: Sequence[str]) -> list[str]:
        found = []
        for file in [file for files in self._files.values() for file in files]:
            try:
                found.append(missing_columns(file, columns))
            except (ConfigError, DataError) as exc:
                found.append(str(exc))
        return [problem for problem in found if problem]

    def split_names(self) -> list[str]:
        files = self.source.files
        return list(files if isinstance(files, dict) else split_files(self.source, self.base_dir))

    def parts(self) -> list[tuple[str, FileSource]]:
        """Each file of a glob by itself; files that are given as splits together."""
        if isinstance(self.source.files, str):
            paths = matching_files(self.source.files, self.base_dir)
            each = [self.source.model_copy(update={"files": str(path.resolve())}) for path in paths]
            return list(zip(_file_names(paths), each, strict=True))
        if not self.source.files:
            raise ConfigError("`files` is empty; name a file")
        return [(without_ending(Path(next(iter(self.source.files.values())))).name, self.source)]


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
    names = [without_ending(path).name for path in paths]
    if len(set(names)) < len(names):
        root = os.path.commonpath([path.parent for path in paths])
        below = [path.relative_to(root) for path in paths]
        names = _told_apart(names, [without_ending(path).as_posix() for path in below])
        names = _told_apart(names, [path.as_posix() for path in below])  # a.csv beside a.jsonl
    return names


def _told_apart(names: Sequence[str], longer: Sequence[str]) -> list[str]:
    count = Counter(names)
    return [long if count[name] > 1 else name for name, long in zip(names, longer, strict=True)]
