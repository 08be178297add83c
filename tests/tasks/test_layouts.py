"""Layouts of spaces: made once for the same embeddings, kept in the store, and the same from there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fute.report import layout
from fute.report.layout import cluster_tree, projections
from fute.types import TaskEmbedding
from fute.unify.frame import Frame, similarities
from storage.nearest import placed_vectors
from storage.vectors import VectorStore
from tasks.layouts import Layout, layout_of
from tests.storage.small_store import small_frame, write
from tests.storage.test_store import STAMP, embedding_row


def assert_same(one: Layout, other: Layout) -> None:
    np.testing.assert_array_equal(one.similarities, other.similarities)
    assert one.tree == other.tree
    assert len(one.projections) == len(other.projections)
    for a, b in zip(one.projections, other.projections, strict=True):
        np.testing.assert_array_equal(a.places, b.places)
        assert (a.name, a.kept, a.trust, a.variance) == (b.name, b.kept, b.trust, b.variance)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many subjects were laid out, each time."""
    sizes: list[int] = []

    def counting(similarity: np.ndarray) -> object:
        sizes.append(len(similarity))
        return projections(similarity)

    monkeypatch.setattr(layout, "projections", counting)
    return sizes


@pytest.mark.parametrize("n", [1, 2, 15])
def test_a_layout_from_the_store_is_the_one_that_was_made(tmp_path: Path, computed: list[int], n: int) -> None:
    store = write(tmp_path, range(n))
    population = VectorStore(store).population("s1")
    similarity = similarities(placed_vectors(population, None))
    expected = Layout(similarity, projections(similarity), cluster_tree(similarity))
    for _ in range(2):
        assert_same(layout_of(store, "s1", population, None), expected)
    assert computed == [n]


def test_a_new_subject_and_a_frame_are_laid_out_anew_and_replace_the_old(tmp_path: Path, computed: list[int]) -> None:
    store = write(tmp_path, range(12))
    vectors = VectorStore(store)

    def lay_out(frame: Frame | None) -> Layout:
        return layout_of(store, "s1", vectors.population("s1"), frame)

    first = lay_out(None)
    vectors.put(embedding_row("m12", "e0012"), TaskEmbedding(np.array([1, 2, 3, 4], np.float32)), STAMP)
    assert lay_out(None).similarities.shape == (13, 13)
    vectors.put_frame("s1", small_frame(), STAMP)
    stored = vectors.frame("s1")
    framed = lay_out(stored)
    np.testing.assert_array_equal(
        framed.similarities, similarities(placed_vectors(vectors.population("s1"), small_frame()))
    )
    assert not np.allclose(framed.similarities[:12, :12], first.similarities)
    assert_same(lay_out(stored), framed)
    assert computed == [12, 13, 13]
    assert len(list((tmp_path / "layouts").iterdir())) == 1


@pytest.mark.parametrize("damage", [b"", b"PK torn", None])
def test_a_damaged_cache_is_made_again(tmp_path: Path, computed: list[int], damage: bytes | None) -> None:
    store = write(tmp_path, range(12))
    population = VectorStore(store).population("s1")
    made = layout_of(store, "s1", population, None)
    (path,) = (tmp_path / "layouts").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert_same(layout_of(store, "s1", population, None), made)
    assert computed == [12, 12]
    assert_same(layout_of(store, "s1", population, None), made)
    assert computed == [12, 12]
