"""Axes of a pool: as many as its rows carry, none without variance, and the same on every machine."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from fute.errors import MethodError
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov
from fute.methods.crosscov.whitening import Whitening, carried_axes, source_groups, whole_axes
from fute.types import Dataset, Outputs, Pool, Split, TextTable

pytestmark = pytest.mark.kernels

WIDTH = 256
POOLS = [(60, 3), (240, 12), (3000, 30)]


# ------------------------------------------------------------------------------------------------- how many axes


@pytest.mark.parametrize(
    ("eigenvalues", "most", "kept"),
    [
        ([5, 4, 3, 2, 1], 3, 3),
        ([5, 4, 3, 2, 1], 9, 5),
        ([1, 1, 1, 1, 1], 3, 5),  # one plane, larger than what is wanted: all of it, for no part of it is any
        ([3, 0, 0, 0, 0], 4, 1),  # rank 1
        ([5, 4, 2, 2, 1], 3, 2),  # a plane that would be cut in two
        ([5, 4, 2, 2, 1], 4, 4),
        ([5, 5, 2, 1, 1], 1, 2),
        ([5, 4, 3, 1e-13, 1e-14], 5, 3),  # what rounding leaves is no variance
        ([5, 4, 3, 0, 0], 4, 3),
    ],
)
def test_axes_are_kept_where_there_is_variance_and_of_equal_ones_all_or_none(
    eigenvalues: list[float], most: int, kept: int
) -> None:
    assert whole_axes(np.array(eigenvalues, float), most) == kept


def test_rounding_of_equal_eigenvalues_cuts_no_plane() -> None:
    nearly = np.array([4.0, 2.0 + 1e-14, 2.0, 2.0 - 1e-14, 1.0])
    assert [whole_axes(nearly, most) for most in (1, 2, 3, 4, 5)] == [1, 1, 1, 4, 5]


def test_few_rows_carry_few_axes_and_never_more_than_their_rank() -> None:
    assert [carried_axes(rows, 1) for rows in (100, 300, 1000, 3000)] == [70, 121, 221, 383]
    assert carried_axes(40, 12) == 28
    assert carried_axes(12, 12) == 1
    counts = [carried_axes(rows, 3) for rows in range(4, 400)]
    assert counts == sorted(counts)


@pytest.mark.parametrize("rank", [1, 2, 7])
def test_features_of_low_rank_give_so_many_axes(rank: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(80, rank)) @ rng.normal(size=(rank, 20))
    whitening = Whitening.fit(values.astype(np.float32), 384, 1e-3, np.zeros(80, np.intp))
    assert np.isfinite(whitening.projection).all()
    assert whitening.projection.shape[1] == rank


def test_rows_without_variance_within_their_sources_are_refused() -> None:
    rows = np.repeat(np.eye(3, 8, dtype=np.float32), 10, axis=0)  # all of a source alike
    with pytest.raises(MethodError, match="no spread"):
        Whitening.fit(rows, 384, 1e-3, source_groups(np.repeat(["a", "b", "c"], 10)))


# ------------------------------------------------------------------------------------------------ number of threads


class MadeUp:
    """Features by text; those of datasets also vary where the pool does not."""

    def __init__(self) -> None:
        self._mixing = np.random.default_rng(0).normal(size=(WIDTH, WIDTH)) / 16
        self._known: dict[str, np.ndarray] = {}

    def table(self, name: str, n: int, *, outside: bool) -> TextTable:
        rng = np.random.default_rng(len(self._known))
        held = rng.normal(size=(n, WIDTH))
        if not outside:
            held[:, WIDTH // 2 :] = 0
        texts = TextTable([f"{name} {i}" for i in range(n)])
        self._known[texts.fingerprint] = np.tanh(held @ self._mixing).astype(np.float32)
        return texts

    def __call__(self, table: TextTable) -> np.ndarray:
        return self._known[table.fingerprint]


@pytest.mark.parametrize(("rows", "sources"), POOLS)
def test_vectors_do_not_depend_on_the_number_of_threads(rows: int, sources: int) -> None:
    features = MadeUp()
    pool = Pool(features.table("pool", rows, outside=False), [f"s{i % sources}" for i in range(rows)])
    datasets = []
    for number in range(3):
        texts = features.table(f"d{number}", 150, outside=True)
        labels = (features(texts)[:, number] > 0).astype(np.int64)
        datasets.append(
            Dataset(f"d{number}", "classification", {"train": Split(texts, labels)}, f"f{number}", ("a", "b"))
        )
    margin = features(pool.inputs)[:, :3] @ np.random.default_rng(1).normal(size=(3, 3))
    answers = Outputs("scores", margin.astype(np.float32))
    made = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            space = Crosscov(CrosscovConfig(), features, pool)
            made.append(np.stack([*(space.dataset(d).vector for d in datasets), space.model(answers).vector]))
    for other in made[1:]:
        cosines = (made[0] * other).sum(axis=1)
        assert cosines.min() > 1 - 1e-5
        np.testing.assert_allclose(other @ other.T, made[0] @ made[0].T, atol=1e-5)
