"""Which space a match reads: one whose surrogate reads texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from fute.errors import NotInStoreError
from fute.types import TaskEmbedding
from storage.stamp import Stamp
from storage.store import Store
from storage.vectors import VectorStore
from tasks.match import space_of
from tests.storage.small_store import ranked, vector, write
from tests.storage.test_store import embedding_row, space_row


def test_a_space_without_a_model_for_a_surrogate_is_left_out_however_many_models_it_has(tmp_path: Path) -> None:
    store = write(Store(tmp_path).root, range(1))
    vectors = VectorStore(store)
    vectors.put_space(space_row("s2") | {"surrogate": "none", "method": "outputs"}, Stamp())
    for i in range(3):
        vectors.put(embedding_row(f"m{i}", f"f{i}", "model", "s2"), TaskEmbedding(vector(i)), Stamp())
    assert space_of(store, None)[0]["space"] == "s1"
    with pytest.raises(NotInStoreError, match="space s2 reads no texts"):
        space_of(store, "s2")


def test_a_space_of_another_pool_that_was_ranked_later_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = write(Store(tmp_path).root, range(3))
    vectors = VectorStore(store)
    space_of(store, None)
    assert caplog.messages == []
    vectors.put_space(space_row("s2") | {"pool": "another"}, Stamp())
    vectors.put(embedding_row("m0", "f0", "model", "s2"), TaskEmbedding(vector(0)), Stamp())
    population = vectors.population("s2")
    vectors.put_ranking("s2", "key", ranked(), population, None, Stamp())
    assert space_of(store, None)[0]["space"] == "s1"
    assert "s2, of another pool, was ranked after it" in caplog.text
