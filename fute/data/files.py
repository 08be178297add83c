"""Local files and folders of every format: found, opened, and read as Arrow tables.

The one reader of datasets, pools and predictions. Parquet, JSON and saved datasets say what type a value has, and it
keeps it. A cell of a CSV or Excel file is read as text; what it is taken for is decided where its meaning is known
(`fute.data.cells`).
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa

from fute.config import FileSource
from fute.data.columns import describe_missing
from fute.data.decoding import OPENERS
from fute.data.formats.base import AS_FOUND, Dialect, FileFormat
from fute.data.formats.delimited import Csv, Tsv
from fute.data.formats.excel import Excel
from fute.data.formats.parquet import Parquet
from fute.data.formats.records import Json, Jsonl
from fute.data.formats.saved import Saved, is_saved, saved_splits
from fute.data.formats.texts import Texts, holds_texts
from fute.did_you_mean import did_you_mean, listed
from fute.errors import ConfigError, DataError

FORMATS: dict[str, type[FileFormat]] = {
    "parquet": Parquet,
    "csv": Csv,
    "tsv": Tsv,
    "jsonl": Jsonl,
    "json": Json,
    "xlsx": Excel,
    "texts": Texts,
    "saved": Saved,
}
"""`format` of the settings (`fute.config.FileSource`), and those of folders -> what reads it."""

ENDINGS = {f".{form}": form for form in ("parquet", "csv", "tsv", "jsonl", "json", "xlsx")} | {
    ".pq": "parquet",
    ".tab": "tsv",
    ".ndjson": "jsonl",
}
_TEXTUAL = ("csv", "tsv", "jsonl", "json")  # those that are read through `open_bytes`, which unpacks
_GLOB = frozenset("*?[")


def split_files(source: FileSource, base_dir: Path) -> dict[str, list[Path]]:
    """The files of each split (one path alone is the training split, or a folder of saved splits); a glob's files in
    the order of their names.

    Raises:
        ConfigError: no such file.
        DataError: a folder of saved splits that cannot be read.
    """
    if not isinstance(source.files, str):
        return {split: matching_files(pattern, base_dir) for split, pattern in source.files.items()}
    files = matching_files(source.files, base_dir)
    saved = saved_splits(files[0]) if len(files) == 1 else None
    return {"train": files} if saved is None else {split: [folder] for split, folder in saved.items()}


def matching_files(pattern: str, base_dir: Path) -> list[Path]:
    """The file or folder of this name that can be read, or the files that a glob matches, by name.

    Raises:
        ConfigError: there is none.
    """
    path = base_dir / Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if _GLOB & set(pattern):
        found = glob.glob(str(Path(pattern).expanduser()), root_dir=base_dir, recursive=True)
        if files := [file for file in sorted(base_dir / name for name in found) if file.is_file()]:
            return files
        raise ConfigError(f"no file matches {pattern!r} (looked in {base_dir.resolve()})")
    if path.is_dir():
        if is_saved(path) or holds_texts(path):
            return [path]
        raise ConfigError(
            f"{pattern!r} is a folder without .txt files, and no saved dataset; name a file, or the files in it as "
            f"'{pattern.rstrip('/')}/*.parquet'"
        )
    if not path.parent.is_dir():
        raise ConfigError(f"there is no file {pattern!r}: the folder {path.parent.resolve()} does not exist")
    hint = did_you_mean(path.name, (p.name for p in path.parent.iterdir()))
    raise ConfigError(f"there is no file {pattern!r} (looked for {path.resolve()}){hint}")


def without_ending(path: Path) -> Path:
    """The path without the ending of its format, and of its compression."""
    return (path.with_suffix("") if path.suffix.lower() in OPENERS else path).with_suffix("")


def file_format(path: Path, declared: str = "auto") -> str:
    """As declared, or by the file's ending; a folder is told by what is in it.

    Raises:
        ConfigError: the ending says nothing.
    """
    if path.is_dir():
        return "saved" if is_saved(path) else "texts"
    if declared != "auto":
        return declared
    packed = path.suffix.lower() in OPENERS
    ending = (path.with_suffix("") if packed else path).suffix.lower()
    form = ENDINGS.get(ending)
    if form is not None and (form in _TEXTUAL or not packed):
        return form
    if ending == ".txt":
        raise ConfigError(
            f"{path.name} may be one text, or one a line: to read each .txt file as a text, name their folder; for a "
            "text a line, write `text` as its first line and set `format` to tsv (or end it in .tsv)"
        )
    raise ConfigError(
        f"cannot tell the format of {path.name}; give it one of the endings {', '.join(ENDINGS)} (CSV and JSON also "
        f"with {', '.join(OPENERS)}), or set `format`"
    )


def open_file(path: Path, form: str, dialect: Dialect = AS_FOUND) -> FileFormat:
    return FORMATS[form](path, dialect)


def missing_columns(file: FileFormat, wanted: Iterable[str]) -> str | None:
    """What is wrong with the columns of a file, from its header or schema alone; None when all are there."""
    wanted = list(dict.fromkeys(wanted))
    return describe_missing(file.path.name, file.columns(wanted), wanted)


def columns_of(path: Path, form: str, wanted: Iterable[str], dialect: Dialect = AS_FOUND) -> list[str]:
    """Names of the columns of a file; of JSONL those up to the line where all the wanted ones were seen.

    Raises:
        DataError: unreadable.
    """
    return open_file(path, form, dialect).columns(list(dict.fromkeys(wanted)))


def read_columns(file: FileFormat, wanted: Iterable[str]) -> pa.Table:
    """Columns of one file, cells as text and all else in the types that it has there.

    Raises:
        DataError: unreadable, a column is missing, or a JSONL column of values of more than one kind.
    """
    columns = list(dict.fromkeys(wanted))
    if problem := missing_columns(file, columns):
        raise DataError(problem)
    return file.read(columns)


def remarks_on(files: Mapping[str, Iterable[FileFormat]], columns: Iterable[str]) -> list[str]:
    """What had to be guessed to read the files of each split, each thing said once with the first file of its kind."""
    wanted = list(dict.fromkeys(columns))
    said: dict[str, dict[str, None]] = {}
    for file in (file for split in files.values() for file in split):
        for remark in file.remarks(wanted):
            said.setdefault(remark, {})[file.path.name] = None
    return [f"{listed(names, 1)}: {remark}" for remark, names in said.items()]
