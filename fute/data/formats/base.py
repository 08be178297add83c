"""What every format of local files has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from fute.errors import DataError
from fute.fingerprint import digest_file, fingerprint


@dataclass(frozen=True)
class Dialect:
    """How to read a text file; None: by what it holds."""

    separator: str | None = None
    encoding: str | None = None


AS_FOUND = Dialect()


@dataclass(frozen=True)
class FileFormat(ABC):
    """One file of a format. What cannot be read is raised as DataError."""

    path: Path
    dialect: Dialect = AS_FOUND

    cells: ClassVar[bool] = False
    """Whether its values have no type, and come as text (`fute.data.cells`)."""

    @abstractmethod
    def columns(self, wanted: Sequence[str]) -> list[str]:
        """Names of its columns, read no further than until the wanted ones were seen."""

    @abstractmethod
    def read(self, columns: Sequence[str]) -> pa.Table:
        """These columns, which are there."""

    def remarks(self, columns: Sequence[str]) -> list[str]:
        """What had to be guessed in order to read these columns, in words."""
        return []

    def digest(self) -> str:
        """What decides its rows."""
        return digest_file(self.path)

    def unreadable(self, form: str, exc: Exception) -> DataError:
        what = f"it is no text in its encoding ({exc})" if isinstance(exc, UnicodeError) else str(exc)
        return DataError(f"{self.path} cannot be read as {form}: {what}. Fix the file, or set `format` to what it is")


class FolderFormat(FileFormat):
    """A folder that is read like one file."""

    @abstractmethod
    def contents(self) -> list[tuple[str, Path]]:
        """The files that decide its rows, each with its place in the folder."""

    def digest(self) -> str:
        return fingerprint(files=[[name, digest_file(file)] for name, file in self.contents()])
