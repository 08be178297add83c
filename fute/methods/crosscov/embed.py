"""The embedding itself: the root of the cross-covariance (`fute.methods.crosscov.root`) without its trace, a vector."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincc

from fute.errors import MethodError
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.few_rows import Completion
from fute.methods.crosscov.intervals import Bootstrap
from fute.methods.crosscov.root import Root, cross_covariance, to_matrix, to_vector, without_identity
from fute.methods.crosscov.whitening import Doubles, Whitening, centred_within, source_groups, unit_rows
from fute.methods.embedder import Embedder
from fute.methods.labels import check_labels
from fute.span_contexts import check_spans, context_lengths
from fute.spans import unpack_spans
from fute.types import UNRELATED, Dataset, Features, Floats, Outputs, Pool, TaskEmbedding, TextTable


class Crosscov(Embedder):
    """Embeds datasets (from labels) and models (from outputs on the pool) without training anything.

    The vector is the upper triangle of (A A')^1/2 less its part along the identity, at unit length, off-diagonals times
    sqrt(2), so that a dot product of two vectors is the inner product of the matrices. It depends neither on the order
    nor on the number of labels. The root weighs a task's directions by their strength and not by its square: with A A'
    itself a task of many classes is judged by its strongest contrast alone.
    """

    pseudo_tasks = 180
    """Of the pool's own, that make the frame. With 36 in place of 180 a foreign model was taken for a fit by 0.31 of
    the datasets in place of 0.03 (29 tasks, seed 0). They cost about half a minute of one core, once for a space."""

    def __init__(self, config: CrosscovConfig, features: Features, pool: Pool) -> None:
        pool_features = features(pool.inputs)
        self.features = pool_rows_first(features, pool.inputs, pool_features)
        self._inputs = pool.inputs
        self._source_ids = np.asarray(pool.source_ids)
        self._context_lengths = context_lengths(pool.inputs)
        sources = source_groups(self._source_ids)
        self.whitening = Whitening.fit(pool_features, config.components, config.ridge, sources)
        self._whitened_pool = self.whitening.apply(pool_features)  # (n, d), the same for every model
        self._pool_features = pool_features

    def model(self, outputs: Outputs) -> TaskEmbedding:
        """MTE from outputs on the pool; rows without an answer do not count.

        Raises:
            OutputsError: wrong shape, not finite, constant, spans outside their text, or too few answers.
            MethodError: the outputs have nothing to do with the features.
        """
        check_spans(outputs.validate(len(self._inputs)), self._inputs)
        groups = source_groups(self._source_ids[outputs.answered_rows])
        return embedding_of(*self.model_rows(outputs), groups)

    def model_rows(self, outputs: Outputs) -> tuple[Doubles, Doubles]:
        """(n, d) features and (n, c) outputs of the answered rows, each centred within its source.

        Spans become the same three numbers as a dataset's answers.

        What differs between sources is what they are about, and a model answers it whether or not that is its task; a
        dataset, centred on its own mean, shows only what differs within it. Centring both alike makes them comparable.

        Of a model that was asked about some rows only, regressors take the features' place (few_rows.py).
        """
        rows = outputs.answered_rows
        groups = source_groups(self._source_ids[rows])
        few = outputs.asked is not None
        if few:
            z = self._completion.regressors(rows)
        elif len(rows) < len(self._inputs):
            z = centred_within(self._whitened_pool[rows], groups)
        else:
            z = self._all_rows
        if outputs.kind == "spans":
            y = expected_positions(*unpack_spans(outputs.values[rows]), self._context_lengths[rows])
        else:
            y = outputs.values[rows].astype(np.float64)
        return z, y - y.mean(axis=0) if few else centred_within(y, groups)

    @cached_property
    def _all_rows(self) -> Doubles:
        """The pool's features, centred, for the models that answered every row: most."""
        return centred_within(self._whitened_pool, source_groups(self._source_ids))

    @cached_property
    def _completion(self) -> Completion:
        return Completion(self._pool_features, self._all_rows)

    def dataset(self, dataset: Dataset) -> TaskEmbedding:
        """DTE from the labels of the training rows, whitened as the pool is and centred on the dataset's own mean.

        Raises:
            MethodError: labels that check_labels refuses, or that have nothing to do with the features.
        """
        check_labels(dataset)
        z, y = self.dataset_rows(dataset)
        return embedding_of(z, y, np.zeros(len(z), dtype=np.intp))

    def dataset_rows(self, dataset: Dataset) -> tuple[Doubles, Doubles]:
        """(n, d) whitened features and (n, c) labels of the training rows."""
        features = self.features(dataset.train.inputs)
        z = self.whitening.apply(features, centre=unit_rows(features).mean(axis=0))
        return z, targets_as_outputs(dataset)

    def resampler(self, mean: Floats, times: int, seed: int) -> Bootstrap:
        """Bootstrap of the rows of the pool, or of the dataset."""
        return Bootstrap(self.dataset_rows, self.model_rows, to_matrix(mean), times, seed)


def embedding_of(z: Doubles, y: Doubles, groups: NDArray[np.intp]) -> TaskEmbedding:
    """The vector, how much of the outputs' variance is linear in the features, and the chance that it would be by luck.

    Args:
        groups: (n,) rows of one group may change places under the null that outputs have nothing to do with texts.

    Raises:
        MethodError: the outputs have nothing to do with the features.
    """
    a = cross_covariance(z, y)
    variance = float(y.var(axis=0).sum())
    explained = float((a**2).sum()) / variance if variance > 0 else 0.0
    if explained <= 1e-12:
        raise MethodError("the outputs have no covariance with the surrogate's features, so there is no task to embed")
    matrix = without_identity(Root.of(a).matrix())
    if not matrix.any():
        raise MethodError(
            f"the outputs vary alike along all of the pool's {len(a)} axes, so there is no task to embed; a pool of so "
            "few different texts may be too small"
        )
    metrics = {"explained_variance": explained, UNRELATED: chance_of_covariance(z, y, groups)}
    return TaskEmbedding(to_vector(matrix).astype(np.float32), metrics)


def chance_of_covariance(z: Doubles, y: Doubles, groups: NDArray[np.intp]) -> float:
    """p-value of the null that outputs have nothing to do with the texts: that they were permuted within groups.

    The squared covariance T = |Z'Y|^2 of permuted outputs is about gamma distributed. Its mean is exact: groups add up,
    each with |Z_g|^2 |Y_g|^2 / (n_g - 1). Its variance is that of normal outputs, 2 |Z'Z|^2 |Y'Y|^2 / df^2, which is
    too large by up to a third for hard labels, so that the p-value errs on the safe side (tests/fute/test_crosscov.py).

    Args:
        z: (n, d) features, centred within groups.
        y: (n, c) outputs.
    """
    y = centred_within(y, groups)
    sizes = np.bincount(groups)
    of_z = np.bincount(groups, np.sum(z**2, axis=1))
    of_y = np.bincount(groups, np.sum(y**2, axis=1))
    mean = float(np.sum(of_z * of_y / np.maximum(sizes - 1, 1)))
    df = max(len(y) - int(np.count_nonzero(sizes)), 1)
    variance = 2 * float(np.sum((z.T @ z) ** 2) * np.sum((y.T @ y) ** 2)) / df**2
    if not variance > 0:
        return 1.0
    return float(gammaincc(mean**2 / variance, float(np.sum((z.T @ y) ** 2)) * mean / variance))


def pool_rows_first(features: Features, inputs: TextTable, known: Floats) -> Features:
    """Features of any table; of one that holds rows of the pool only, those that are known."""
    row_of: dict[tuple[str, str | None], int] = {}

    def look(table: TextTable) -> Floats:
        if not row_of:
            row_of.update({key: row for row, key in enumerate(_rows(inputs))})
        rows = [row_of.get(key, -1) for key in _rows(table)]
        return features(table) if -1 in rows else known[rows]

    return look


def _rows(table: TextTable) -> Iterator[tuple[str, str | None]]:
    return zip(table.texts, table.pairs or [None] * len(table), strict=True)


def targets_as_outputs(dataset: Dataset) -> Doubles:
    """Labels of the training rows as a model would answer them, (n, c).

    Classification: one-hot. Regression: the number. Span QA: whether there is an answer, and where it starts and ends
    as shares of the context, for positions are what a span answerer gives.
    """
    targets = dataset.train.targets
    if dataset.task == "classification":
        return np.eye(int(targets.max()) + 1)[targets]
    if dataset.task == "regression":
        return targets.astype(np.float64)[:, None]
    certain = np.ones((len(targets), 1))
    return expected_positions(targets[:, :1], targets[:, 1:], certain, context_lengths(dataset.train.inputs))


def expected_positions(
    starts: NDArray[np.integer],
    ends: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    context_lengths: NDArray[np.integer],
) -> Doubles:
    """Whether there is an answer, its start and its end as shares of the context, expected over the candidates.

    Shares, for positions are comparable between contexts of other lengths. What the candidates leave of the
    probability belongs to spans that are not known, so they count as if they were all there are.

    Args:
        starts, ends, probabilities: (n, k) candidates; -1, -1 for "no answer", which has position 0.
        context_lengths: (n,) characters.

    Returns:
        (n, 3).
    """
    weights = probabilities.astype(np.float64)
    weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)  # (n, k)
    weights = np.where(starts >= 0, weights, 0.0)
    lengths = np.maximum(context_lengths, 1)
    return np.column_stack(
        [weights.sum(axis=1), (weights * starts).sum(axis=1) / lengths, (weights * ends).sum(axis=1) / lengths]
    )
