"""What the files of a folder are to fute: rows of text with labels, predictions or neither, and models.

Only looked at: names and sizes of columns, configurations of models. No pickle is opened, and no code is run.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from fute.config import FileSource
from fute.data.files import columns_of, file_format, matching_files
from fute.data.label_column import is_text
from fute.data.read import reader_of
from fute.errors import ConfigError, FuteError
from fute.surrogate.model_files import check_model_folder

PICKLES = {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin", ".ckpt"}
PAIRS = [("text", "text_pair"), ("premise", "hypothesis"), ("sentence1", "sentence2"), ("question", "context")]
MODEL_KINDS = {"ForSequenceClassification": "transformers", "ForQuestionAnswering": "span_answerer"}
PREDICTED = re.compile(r"pred(s|icted|ictions?)?([ _-]?(labels?|class|classes|answers?))?", re.IGNORECASE)
"""What a column of predictions is called."""
SAMPLE = 2000
MAX_FILES = 2000


@dataclass(frozen=True)
class Rows:
    """A file of rows, or a folder that is read as one.

    Attributes:
        path: relative to the folder that was looked at.
        text: column of the text.
        pair: column of the second text.
        labels: columns that may be the label; none where it has no labels.
        predicted: column of a predicted label.
        numbered: whether its rows are named by a pool's row.
        rest: columns that are none of these.
    """

    path: str
    text: str | None
    pair: str | None
    labels: tuple[str, ...]
    predicted: str | None
    numbered: bool
    rest: tuple[str, ...]


@dataclass
class Found:
    """Attributes:
    rows: files of rows.
    models: folder and kind of each pretrained model.
    left: what is of no use as it is, and why.
    """

    rows: list[Rows] = field(default_factory=list)
    models: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def look_at(folder: Path) -> Found:
    """Look at a folder and those below it; hidden ones, stores and environments are passed over."""
    found = Found()
    others: Counter[str] = Counter()
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if len(found.rows) + len(found.left) >= MAX_FILES:
            found.left["(others)"] = f"only the first {MAX_FILES} files are looked at"
            break
        try:
            if path.is_dir() and (path / "config.json").is_file():
                found.models[name] = model_kind(path, name)
            elif path.suffix.lower() in PICKLES:
                found.left[name] = (
                    "a pickle runs whatever code is in it, so fute opens none; load it in a function of yours and name "
                    "that (kind: sklearn or python)"
                )
            elif path.suffix.lower() == ".skops":
                found.left[name] = (
                    "name a function that returns it (kind: sklearn): "
                    f"`def make(): return skops.io.load({path.name!r}, trusted=[...])`"
                )
            elif path.suffix == ".py":
                found.left[name] = "its functions can be models: kind: python, entry_point: module:function"
            elif path.is_dir() or _is_data(path):
                found.rows.append(look_at_rows(name, folder))
            else:
                others[path.suffix] += 1
        except FuteError as exc:
            found.left[name] = str(exc).splitlines()[0]
    if others:
        endings = ", ".join(f"{count} {ending or 'without ending'}" for ending, count in others.most_common(6))
        found.left["other files"] = f"no format that fute reads ({endings})"
    return found


def _walk(folder: Path) -> Iterator[Path]:
    """Files, and folders that count as one thing: a model's, or one that is read like a file."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__")):
            continue
        if not path.is_dir() or (path / "config.json").is_file() or _is_data(path):
            yield path
        elif not (path / "pyvenv.cfg").exists() and path.name not in ("store", "mlruns", "node_modules"):
            yield from _walk(path)


def _is_data(path: Path) -> bool:
    try:
        if path.is_dir():
            return bool(matching_files(path.name, path.parent))
        return bool(file_format(path, "auto"))
    except ConfigError:
        return False


def model_kind(folder: Path, name: str) -> str:
    """The kind of a pretrained model's folder.

    Raises:
        FuteError: it is none that answers, or holds what fute does not load.
    """
    check_model_folder(folder, name)
    architectures = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or ["unknown"]
    for ending, kind in MODEL_KINDS.items():
        if str(architectures[0]).endswith(ending):
            return kind
    raise ConfigError(
        f"a {architectures[0]} answers nothing by itself; name it as `surrogate.model`, as the `backbone` of a trained "
        "model or, if it writes, as an endpoint with `api: local`"
    )


def look_at_rows(name: str, folder: Path) -> Rows:
    """Which columns of a file are what.

    Raises:
        FuteError: it cannot be read, or has no column of texts.
    """
    path = folder / name
    columns = columns_of(path, file_format(path, "auto"), [])
    tables = reader_of(FileSource(files=name), folder).tables([], columns)
    table = next(iter(tables.values())).slice(0, SAMPLE)
    values = {column: table.column(column) for column in columns}
    text, pair = _texts(values)
    # Beside what is named as the label, predictions are one more column: a table of an evaluated model.
    given = next((c for c in ("label", "answers") if c in columns), None)
    several = (c for c in columns if PREDICTED.fullmatch(c) and len(set(values[c].to_pylist())) > 1)
    predicted = None if given else next(several, None)
    numbered = "row" in values and pa.types.is_integer(values["row"].type)
    if text is None and not (numbered and predicted):
        raise ConfigError(f"no column of texts among {', '.join(columns)}; rename the one that is meant to `text`")
    rest = [c for c in columns if c not in (text, pair, predicted, "row" if numbered else None)]
    labels = (given,) if given else tuple(c for c in rest if _few_values(values[c]))
    return Rows(name, text, pair, labels, predicted, numbered, tuple(c for c in rest if c not in labels))


def _texts(values: dict[str, pa.ChunkedArray]) -> tuple[str | None, str | None]:
    """The column of the text, and of the second text: by their names, else the longest that holds words, and the one
    that is called like it but for the last letter (`text_a`, `text_b`)."""
    for text, pair in PAIRS:
        if text in values and is_text(values[text].type):
            return text, pair if pair in values and is_text(values[pair].type) else None
    lengths: dict[str, float] = {}
    for name, column in values.items():
        if not is_text(column.type):
            continue
        texts = [text for text in column.to_pylist() if text]
        several = sum(len(text.split()) > 1 for text in texts) > len(texts) / 2
        if several and len(set(texts)) > len(texts) / 2:
            lengths[name] = sum(map(len, texts)) / len(texts)
    if not lengths:
        return None, None
    longest = max(lengths, key=lengths.__getitem__)
    twins = sorted(name for name in lengths if name[:-1] == longest[:-1])
    return (twins[0], twins[1]) if len(twins) == 2 else (longest, None)


def _few_values(column: pa.ChunkedArray) -> bool:
    """Whether a column may be one of labels: a few values, each of which stands there several times."""
    if not (is_text(column.type) or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)):
        return False
    values = [value for value in column.to_pylist() if value not in (None, "")]
    return 2 <= len(set(values)) <= len(values) / 4
