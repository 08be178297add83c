"""The unify stage ranks the versions of its own run, and says which in the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fute.config import SurrogateConfig, UnifyConfig
from fute.methods.taskemb.config import TaskembConfig
from fute.types import TaskEmbedding
from storage.vectors import VectorStore
from tasks.embed import EmbeddingRef
from tasks.fold import fold_embeddings
from tasks.intervals import Interval, neighbor_intervals
from tasks.run import Run
from tasks.surrogate import SpaceRef
from tasks.unify import unify_space
from tests.storage.small_store import write
from tests.storage.test_store import embedding_row, space_row

SPACE = SpaceRef(id="s1", surrogate=SurrogateConfig(), revision="r", method=TaskembConfig(), pool="p", seed=0)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(study="small", store=str(tmp_path), base_dir=str(tmp_path), seed=0)


def ref(subject: str, fingerprint: str, space: str = "s1") -> EmbeddingRef:
    return EmbeddingRef(space=space, subject=subject, kind="model", fingerprint=fingerprint, reused=True, metrics={})


def test_a_study_that_goes_back_to_an_earlier_version_ranks_that_one(run: Run) -> None:
    vectors = VectorStore(run.open_store())
    vectors.put_space(space_row(), run.stamp)
    for subject, fingerprint, values in (
        ("m", "m-1", [1, 0]), ("a", "a-1", [1, 0.1]), ("b", "b-1", [0.1, 1]), ("m", "m-2", [0, 1])
    ):  # fmt: skip
        vectors.put(embedding_row(subject, fingerprint), TaskEmbedding(np.array(values, np.float32)), run.stamp)

    def ranked(*embedded: EmbeddingRef) -> tuple[str, str]:
        """Which version of m was ranked, and its nearest."""
        unify_space.fn(run, SPACE, UnifyConfig(frame="none"), list(embedded) or None)
        (m,) = (e.fingerprint for e in vectors.population("s1") if e.subject == "m")
        return m, next(n["candidate"] for n in vectors.neighbors("s1") if n["query"] == "m")

    assert ranked() == ("m-2", "b")
    assert ranked(ref("m", "m-1"), ref("m", "m-2", space="another")) == ("m-1", "a")
    assert ranked() == ("m-1", "a")  # alone: as it was ranked last
    assert ranked(ref("m", "m-2")) == ("m-2", "b")  # a ranking that is stored
    vectors.put(embedding_row("m", "m-3"), TaskEmbedding(np.array([1, 0.2], np.float32)), run.stamp)
    assert ranked() == ("m-3", "a")  # alone: embedded since


def test_what_another_run_embeds_meanwhile_is_ranked_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = VectorStore(run.open_store())
    vectors.put_space(space_row(), run.stamp)

    def embed(subject: str, *values: float) -> None:
        made = TaskEmbedding(np.array(values, np.float32))
        vectors.put(embedding_row(subject, f"{subject}-1"), made, run.stamp)

    embed("a", 1, 0.1)
    embed("b", 0.1, 1)
    passes = []

    def meanwhile(*given: Any) -> list[Interval]:
        """The other run embeds and ranks while the first one works."""
        passes.append(1)
        if len(passes) == 1:
            embed("late", 1, 0.2)
            unify_space.fn(run, SPACE, UnifyConfig(frame="none"))
        return neighbor_intervals(*given)

    monkeypatch.setattr("tasks.unify.neighbor_intervals", meanwhile)
    assert unify_space.fn(run, SPACE, UnifyConfig(frame="none")).subjects == 3
    assert {n["candidate"] for n in vectors.neighbors("s1") if n["query"] == "a"} == {"b", "late"}


def test_what_a_run_embedded_is_folded_at_its_end(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    store = write(Path(run.store), range(16))
    write(Path(run.store), range(3), kind="dataset")
    (store.root / "embeddings" / "space=s1" / "kind=model" / "torn.parquet").write_bytes(b"PAR1")
    fold_embeddings.fn(run, ["s1", "another"])
    left = sorted(path.name for path in (store.root / "embeddings").glob("*/*/*.parquet"))
    assert left == ["e0000.parquet", "e0001.parquet", "e0002.parquet", "torn.parquet"]
    assert "torn.parquet" in caplog.text
