"""A folder of .txt files, each one text: in a folder for each label, or without labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from fute.data.decoding import UTF8, encoding_of
from fute.data.formats.base import FolderFormat
from fute.did_you_mean import listed
from fute.errors import DataError

TEXT, LABEL = "text", "label"


def holds_texts(folder: Path) -> bool:
    """Whether there are .txt files in it, or in the folders right below."""
    return any(folder.glob("*.txt")) or any(folder.glob("*/*.txt"))


class Texts(FolderFormat):
    @cached_property
    def _files(self) -> list[Path]:
        """By name; those of the labels where there are any."""
        found = [f for f in sorted(self.path.glob("*/*.txt")) if not f.parent.name.startswith(".")]
        deeper = sorted({f.parent.parent.name for f in self.path.glob("*/*/*.txt")})
        if deeper:
            splits = ", ".join(f"{name}: {self.path.name}/{name}" for name in deeper)
            raise DataError(
                f"{self.path}: texts are in folders of folders ({listed(deeper)}); name one folder, or one for each "
                f"split (files: {{{splits}}})"
            )
        return found or sorted(self.path.glob("*.txt"))

    @cached_property
    def _labelled(self) -> bool:
        return any(file.parent != self.path for file in self._files)

    @cached_property
    def _encodings(self) -> dict[Path, str]:
        return {file: encoding_of(file, self.dialect.encoding) for file in self._files}

    def columns(self, wanted: Sequence[str]) -> list[str]:
        return [TEXT, LABEL] if self._labelled else [TEXT]

    def read(self, columns: Sequence[str]) -> pa.Table:
        try:
            texts = [file.read_text(encoding=codec).strip() for file, codec in self._encodings.items()]
        except (OSError, UnicodeError) as exc:
            raise self.unreadable("texts", exc) from exc
        table = {TEXT: texts, LABEL: [file.parent.name for file in self._files]}
        return pa.table({name: pa.array(table[name], pa.large_string()) for name in columns})

    def contents(self) -> list[tuple[str, Path]]:
        return [(file.relative_to(self.path).as_posix(), file) for file in self._files]

    def remarks(self, columns: Sequence[str]) -> list[str]:
        told = []
        if self._labelled:
            told.append(f"a label for each of its {len({f.parent for f in self._files})} folders")
            if beside := sum(1 for _ in self.path.glob("*.txt")):
                told.append(f"{beside} .txt files beside them left out")
        if self.dialect.encoding is None and (other := [c for c in self._encodings.values() if c != UTF8]):
            told.append(f"{len(other)} of {len(self._files)} files read as {listed(sorted(set(other)))}, not UTF-8")
        return told
