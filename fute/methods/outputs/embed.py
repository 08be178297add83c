"""Answers alone: debiased centred kernel alignment of whitened outputs, as the cosine of two vectors.

Two models are alike where they tell the same rows of the pool apart. With U a model's outputs, centred within the
pool's sources and whitened, K = U U' says which pairs of rows it answers alike, however its classes are called or
numbered. The cosine of two such matrices is the centred kernel alignment (Kornblith et al. 2019, arXiv 1905.00414).
Debiased, it is that of matrices without what chance alone makes alike (Song et al. 2012, JMLR 13; Nguyen et al. 2021,
arXiv 2010.15327): no diagonal, and within each source U-centred (Szekely and Rizzo 2014, arXiv 1310.2926). So outputs
that were permuted within the sources have similarity 0 on average, however many columns there are.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fute.data.duplicates import keys_of
from fute.errors import MethodError
from fute.methods.crosscov.embed import expected_positions, targets_as_outputs
from fute.methods.crosscov.whitening import NO_VARIANCE, Doubles, centred_within, source_groups
from fute.methods.embedder import Embedder
from fute.methods.labels import check_labels
from fute.methods.outputs.config import OutputsConfig
from fute.span_contexts import check_spans, context_lengths
from fute.spans import unpack_spans
from fute.types import Dataset, Outputs, Pool, TaskEmbedding

FEWEST_ROWS = 16
"""Pool rows that a dataset must have labels of."""
LEAST_ANSWERED = 0.9
"""Share of the pool that a model must have answered: with less, a vector tells rather which rows these were (models
asked about the same half of 625 rows were like each other, whatever their task). Set by hand."""
FEWEST_CENTRED = 4  # rows of a source: U-centring divides by two and three fewer
BLOCK = 512  # rows of the kernel at once


class OutputsAlone(Embedder):
    """Embeds models from their outputs, and datasets from their labels of pool rows.

    The vector is the upper triangle of the debiased kernel, (n, n), at unit length; where it has more than `dim`
    numbers, its count sketch (Charikar et al. 2002): each entry is added with a sign to one of `dim` numbers, both
    drawn from the entry's place. It leaves cosines as they are on average, with a standard deviation of at most
    sqrt((1 + cosine^2) / dim).

    The places of n rows take 2.5 n^2 bytes, and a model n^2 steps: with 3,000 rows 23 MB and 0.15 s.
    """

    pseudo_tasks = 180

    def __init__(self, config: OutputsConfig, pool: Pool) -> None:
        self._config = config
        self._inputs = pool.inputs
        self._source_ids = np.asarray(pool.source_ids)
        self._context_lengths = context_lengths(pool.inputs)

    def model(self, outputs: Outputs) -> TaskEmbedding:
        """MTE from outputs on the pool; pairs with a row without an answer count as 0.

        Raises:
            OutputsError: wrong shape, not finite, constant, or spans outside their text.
            MethodError: fewer than LEAST_ANSWERED answers, or they do not vary within the pool's sources.
        """
        check_spans(outputs.validate(len(self._inputs)), self._inputs)
        rows = outputs.answered_rows
        if len(rows) < LEAST_ANSWERED * len(self._inputs):
            raise MethodError(
                f"it answered {len(rows)} of the pool's {len(self._inputs)} rows, and method outputs needs "
                f"{LEAST_ANSWERED:.0%}, to compare answers to the same rows; use crosscov, or a pool that it can answer"
            )
        if outputs.kind == "spans":
            y = expected_positions(*unpack_spans(outputs.values[rows]), self._context_lengths[rows])
        else:
            y = outputs.values[rows].astype(np.float64)
        if outputs.kind == "scores":  # each column has a unit of its own, which must not decide what the ridge takes
            spread = y.std(axis=0)
            y = y / np.where(spread > 0, spread, 1.0)
        return self._embedding(rows, y)

    def dataset(self, dataset: Dataset) -> TaskEmbedding:
        """Embed a task of the pool's own by its labels of pool rows, as if a model had answered these alone.

        For the frame. Of the user's datasets few rows are the pool's, and a vector of few rows tells which these are.

        Raises:
            MethodError: labels that check_labels refuses, or of fewer than FEWEST_ROWS pool rows.
        """
        check_labels(dataset)
        row_of = {key: row for row, key in enumerate(keys_of(dataset.train.inputs))}
        own = np.array([row_of.get(key, -1) for key in keys_of(self._inputs)])
        rows = np.flatnonzero(own >= 0)
        if len(rows) < FEWEST_ROWS:
            raise MethodError(
                f"dataset {dataset.id}: it has labels of {len(rows)} of the pool's {len(own)} rows, and {FEWEST_ROWS} "
                "are needed; crosscov reads a dataset through a surrogate"
            )
        return self._embedding(rows, targets_as_outputs(dataset)[own[rows]])

    def _embedding(self, rows: NDArray[np.intp], y: Doubles) -> TaskEmbedding:
        groups = source_groups(self._source_ids[rows])
        u = whitened(centred_within(y, groups), self._config.ridge)
        vector = self._packed(u, rows, groups)
        norm = np.linalg.norm(vector)
        if not norm > 1e-9 * len(rows):
            raise MethodError(f"{len(rows)} answered rows tell nothing of a task; give the pool more rows of a source")
        return TaskEmbedding((vector / norm).astype(np.float32), {"axes": u.shape[1], "rows": len(rows)})

    def _packed(self, u: Doubles, rows: NDArray[np.intp], groups: NDArray[np.intp]) -> Doubles:
        """The debiased kernel of some rows as a vector: the places of all pairs of the pool, or their sketch."""
        n = len(self._inputs)
        whole, of = np.zeros((n, u.shape[1])), np.full(n, -1)
        whole[rows], of[rows] = u, groups
        own = (whole**2).sum(axis=1)
        within, rest = _u_centring(own, of)
        parts = []
        sketch = np.zeros(self._config.dim)
        for number, first in enumerate(range(0, n, BLOCK)):
            block = slice(first, min(first + BLOCK, n))
            kernel = whole[block] @ whole[first:].T
            same = (of[block, None] == of[first:]) & (of[block, None] >= 0)
            kernel = np.where(same, within[block, None] * (kernel + rest[block, None] + rest[first:]), kernel)
            if self._places is None:
                parts += [kernel[i, i + 1 :] for i in range(len(kernel))]
            else:
                places, signs = self._places[number]
                sketch += np.bincount(places.ravel(), (np.triu(kernel, 1) * signs).ravel(), len(sketch))
        return np.concatenate(parts) if self._places is None else sketch

    @cached_property
    def _places(self) -> list[tuple[NDArray[np.int32], NDArray[np.int8]]] | None:
        """For each block of the kernel, where its entries go, and their signs; None: there is a place for each."""
        n, dim = len(self._inputs), self._config.dim
        if n * (n - 1) // 2 <= dim:
            return None
        made = []
        for first in range(0, n, BLOCK):
            rows, columns = np.arange(first, min(first + BLOCK, n)), np.arange(first, n)
            drawn = _mixed((rows[:, None] * n + columns).astype(np.uint64))
            made.append(((drawn % np.uint64(dim)).astype(np.int32), 1 - 2 * (drawn >> np.uint64(63)).astype(np.int8)))
        return made


def whitened(y: Doubles, ridge: float) -> Doubles:
    """(n, c) centred outputs -> (n, r) on their principal axes, each at variance 1 less what the ridge takes.

    Raises:
        MethodError: they do not vary.
    """
    variances, axes = np.linalg.eigh(y.T @ y / len(y))
    if not variances[-1] > 1e-14 * max(1e-14, float((y**2).max())):
        raise MethodError("the outputs are the same for all rows of a source, so there is no task to embed")
    kept = variances > NO_VARIANCE * variances[-1]
    return np.asarray(y @ axes[:, kept] / np.sqrt(variances[kept] + ridge * variances[-1]))


def _u_centring(own: Doubles, groups: NDArray[np.intp]) -> tuple[Doubles, Doubles]:
    """What makes a kernel of rows that are centred within groups U-centred there.

    With k_i its diagonal, row i of a group of m sums to -k_i beside it, so that an entry becomes
    K_ij + (k_i + k_j) / (m - 2) - sum(k) / ((m - 1)(m - 2)); in groups that are too small, 0.

    Args:
        own: (n,) the diagonal.
        groups: (n,) of each row; -1: not answered.

    Returns:
        (n,) whether its group is large enough, and (n,) what each of the two rows adds to an entry.
    """
    known = groups >= 0
    sizes = np.bincount(groups[known])[groups * known] * known
    sums = np.bincount(groups[known], own[known])[groups * known]
    large = sizes >= FEWEST_CENTRED
    m = np.where(large, sizes, FEWEST_CENTRED)
    return large.astype(np.float64), own / (m - 2) - sums / (2 * (m - 1) * (m - 2))


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64: the same on every machine and in every version of NumPy, which a generator is not."""
    with np.errstate(over="ignore"):
        x = numbers + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)))
