"""Features without a model: the user's own vectors, or what the rows of a pool say of themselves.

`vectors:FILE` looks each input up in a table of the user's. `vectors` takes the rows' own values, each column on the
scale that it has in the pool. `none` has no features that anything is embedded by; what is made here serves the pool's
own tasks, which say what similarity is chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fute.data.duplicates import keys_of
from fute.data.files import file_format, open_file, read_columns
from fute.errors import DataError, SurrogateError
from fute.rows import arrays_of, row_texts
from fute.types import Features, Floats, Pool, TextTable

NONE, VECTORS = "none", "vectors"
READING_VERSION = 1
"""Raised when the same rows or file would give other features."""
VECTOR = "vector"
"""The column of a file with the vectors, one list of numbers a row."""
MOST_VALUES = 32  # of a column of texts; with more it is a name or an id, of which no feature is made
TEXT_AXES = 100


def has_no_model(model: str) -> bool:
    """Whether a surrogate of this name is none that is loaded."""
    return model in (NONE, VECTORS) or model.startswith(f"{VECTORS}:")


def vectors_file(model: str, base_dir: Path) -> Path | None:
    """The file that a surrogate names, if any. Raises SurrogateError: it is not there."""
    _, named, file = model.partition(":")
    if not named:
        return None
    path = (base_dir / Path(file).expanduser()).resolve()
    if not path.is_file():
        raise SurrogateError(f"surrogate {model}: there is no file {path}; it is relative to the study file")
    return path


def vector_features(model: str, base_dir: Path, pool: Pool) -> Features:
    """Features of inputs like the pool's: (n, width).

    Raises:
        SurrogateError: a file without vectors of these inputs, or rows that have no values of their own.
    """
    file = vectors_file(model, base_dir)
    if file is not None:
        return _looked_up(file, pool.inputs.columns)
    if pool.inputs.columns is not None:
        return _of_rows(pool.inputs)
    if model == NONE:
        return _of_texts(pool.inputs)
    raise SurrogateError(
        f"surrogate {model}: the pool's inputs are texts, which have no numbers of their own; name `columns` of its "
        "sources, or a file that holds their vectors (vectors:FILE)"
    )


def _looked_up(file: Path, columns: tuple[str, ...] | None) -> Features:
    keyed = list(columns or ("text",))
    try:
        opened = open_file(file, file_format(file))
        opened.columns([*keyed, VECTOR])
        table = read_columns(opened, [*keyed, VECTOR])
        texts = row_texts(table, keyed, file.name) if columns else table.column("text").to_pylist()
        vectors = np.array(table.column(VECTOR).to_pylist(), dtype=np.float32)
    except (DataError, pa.ArrowException, ValueError, TypeError) as exc:
        raise SurrogateError(
            f"{file}: {exc}. A table of vectors has the columns {', '.join(keyed)} and {VECTOR}, a list of as many "
            "numbers in each row"
        ) from exc
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise SurrogateError(f"{file}: column {VECTOR!r} is no list of as many finite numbers in each row")
    row_of: dict[Any, int] = {}
    for row, text in enumerate(texts):
        if not np.array_equal(vectors[row_of.setdefault(text, row)], vectors[row]):
            raise SurrogateError(f"{file} has two vectors of one input ({str(text)[:80]!r}); leave one of them")

    def features(inputs: TextTable) -> Floats:
        rows = [row_of.get(key, -1) for key in keys_of(inputs)]
        if missing := rows.count(-1):
            first = inputs.texts[rows.index(-1)]
            raise SurrogateError(
                f"{file} has no vector of {missing} of {len(rows)} inputs ({first[:80]!r}, for one); add them"
            )
        return vectors[rows]

    return features


Encode = Callable[[NDArray[Any]], NDArray[np.float64]]


def _of_rows(pool: TextTable) -> Features:
    """Numbers by the pool's mean and deviation of their column, a missing one at the mean; texts as one of the pool's.

    A constant stands beside them, as long as all of them together: rows are brought to unit length before they are
    compared, and with it two rows stay different that differ in length alone.
    """
    encoders = {name: _encoder(name, values) for name, values in arrays_of(pool).items()}

    def features(inputs: TextTable) -> Floats:
        if inputs.columns != tuple(encoders):
            raise SurrogateError("the inputs are no rows of the pool's columns; give a dataset the pool's `columns`")
        try:
            encoded = [encoders[name](values) for name, values in arrays_of(inputs).items()]
        except ValueError as exc:
            raise SurrogateError(f"the rows are not like the pool's: {exc}; write both alike") from exc
        varying = np.column_stack(encoded)
        constant = np.full((len(varying), 1), max(varying.shape[1], 1) ** 0.5)
        return np.column_stack([varying, constant]).astype(np.float32)

    return features


def _encoder(name: str, values: NDArray[Any]) -> Encode:
    if values.dtype == object:
        return _one_hot(name, values)
    flat = values.reshape(len(values), -1)
    known = ~np.isnan(flat)
    counts = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, flat, 0).sum(axis=0) / counts
    spread = np.sqrt(np.where(known, (flat - mean) ** 2, 0).sum(axis=0) / counts)
    varies = spread > 1e-9 * np.maximum(abs(mean), 1e-300)

    def encode(values: NDArray[Any]) -> NDArray[np.float64]:
        if not len(values) or all_missing(values):
            return np.zeros((len(values), int(varies.sum())))
        if values.dtype == object:
            raise ValueError(f"column {name!r} holds numbers in the pool, and here texts or lists of other lengths")
        if values.shape[1:] != shape:
            raise ValueError(f"column {name!r} has shape {shape} in the pool, and here {values.shape[1:]}")
        scaled = (values.reshape(len(values), -1)[:, varies] - mean[varies]) / spread[varies]
        return np.nan_to_num(scaled)

    shape = values.shape[1:]
    return encode


def all_missing(values: NDArray[Any]) -> bool:
    return all(value is None for value in values) if values.dtype == object else bool(np.isnan(values).all())


def _one_hot(name: str, values: NDArray[Any]) -> Encode:
    known: Sequence[str] = sorted({str(value) for value in values if value is not None})
    known = known if len(known) <= MOST_VALUES else []

    def encode(values: NDArray[Any]) -> NDArray[np.float64]:
        if values.dtype != object and not all_missing(values):
            raise ValueError(f"column {name!r} holds texts in the pool, and here numbers")
        return np.array([[float(str(value) == one) for one in known] for value in values]).reshape(len(values), -1)

    return encode


def _of_texts(pool: TextTable) -> Features:
    """Latent semantic analysis: words and word pairs of the pool on their leading axes."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    counted = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\S+")
    words = len(counted.fit(pool.joined()).vocabulary_)
    axes = min(TEXT_AXES, words - 1, len(pool) - 1)
    if axes < 1:
        raise SurrogateError("the pool's texts have no words to tell them apart by")
    lsa = make_pipeline(counted, TruncatedSVD(axes, random_state=0)).fit(pool.joined())
    return lambda inputs: lsa.transform(inputs.joined()).astype(np.float32)
