"""Two spaces of a store aligned: what is kept of it, what is nearest, and what is refused."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from fute.errors import NotInStoreError, SpaceError
from fute.fingerprint import fingerprint_texts
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov
from fute.space import embedding_id
from fute.types import Features, Outputs, Pool, TextTable
from storage import catalog
from storage.stamp import Stamp
from storage.store import Store, to_json
from storage.vectors import VectorStore
from tasks import align as align_tasks
from tasks.align import align, check_vectors

WORDS = [f"word{i}" for i in range(30)]
RNG = np.random.default_rng(0)
TEXTS = [" ".join(RNG.choice(WORDS, size=6)) for _ in range(240)]
POOL = Pool(TextTable(TEXTS), [f"s{i % 30}" for i in range(len(TEXTS))])
COUNTS = np.array([[text.split().count(word) for word in WORDS] for text in TEXTS], float)
TURN = np.linalg.qr(RNG.standard_normal((30, 30)))[0]


def features(surrogate: str) -> Features:
    """words: counts; turned: the same on other axes; other: nothing to do with the texts."""

    def read(table: TextTable) -> np.ndarray:
        counts = np.array([[text.split().count(word) for word in WORDS] for text in table.texts], np.float32)
        if surrogate == "words":
            return counts
        if surrogate == "turned":
            return (counts @ TURN).astype(np.float32)
        rows = [np.random.default_rng(int(fingerprint_texts([[t]])[:8], 16)).normal(size=30) for t in table.texts]
        return np.array(rows, np.float32)

    return read


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Spaces of three surrogates over one pool, each with the same four models."""

    def of(store: Store, settings: Mapping[str, Any], unkept: Sequence[TextTable]) -> Features:
        return features(settings["model"])

    monkeypatch.setattr(align_tasks, "features_of", of)
    store = Store(tmp_path)
    store.put_pool(POOL, Stamp())
    vectors = VectorStore(store)
    for surrogate in ("words", "turned", "other"):
        settings = to_json({"surrogate": {"model": surrogate}, "method": CrosscovConfig().identity()})
        space = {"space": surrogate, "method": "crosscov", "surrogate": surrogate, "revision": "r", "pool": POOL.id,
                 "seed": 0, "settings": settings}  # fmt: skip
        vectors.put_space(space, Stamp())
        embedder = Crosscov(CrosscovConfig(), features(surrogate), POOL)
        for i in range(4):
            holds = (COUNTS[:, 3 * i : 3 * i + 3].sum(axis=1) > 0).astype(np.float32)
            made = embedder.model(Outputs("probabilities", np.column_stack([holds, 1 - holds])))
            row = {**space, "kind": "model", "subject": f"m{i}", "subject_fingerprint": "1", "subject_kind": "python",
                   "task": None, "fingerprint": embedding_id(surrogate, "model", f"m{i}", "1")}  # fmt: skip
            vectors.put(row, made, Stamp())
    return store


def test_a_model_is_nearest_to_itself_in_a_turned_space(store: Store) -> None:
    found = align(store, "words", "turned")
    assert found.alignment.require_faithful().fidelity == 1.0
    assert (found.shared, found.shared_first) == (4, 4)
    rows = found.nearest(1)
    assert [(r["subject"], r["candidate"], r["rank"]) for r in rows] == [(f"m{i}", f"m{i}", 1) for i in range(4)]
    assert all(r["verdict"] == "fits" for r in rows)


def test_the_map_and_its_fidelity_are_kept_once(store: Store) -> None:
    align(store, "words", "turned")
    (path,) = (store.root / "alignments").glob("*.parquet")
    written = path.read_bytes()
    again = align(store, "words", "turned")
    assert path.read_bytes() == written
    query = "SELECT space_a, space_b, fidelity, shared_first, axes_a, matrix FROM alignments"
    ((space_a, space_b, fidelity, shared_first, axes, matrix),) = catalog.query(store.root, query).rows
    assert (space_a, space_b, fidelity, shared_first) == ("words", "turned", 1.0, 4)
    np.testing.assert_allclose(np.reshape(matrix, (-1, axes)), again.alignment.matrix)


def test_a_surrogate_that_sees_other_things_is_refused_with_the_figure_and_recorded(store: Store) -> None:
    found = align(store, "other", "words")
    with pytest.raises(SpaceError, match="cannot be compared: their fidelity is 0"):
        found.alignment.require_faithful()
    ((fidelity,),) = catalog.query(store.root, "SELECT fidelity FROM alignments").rows
    assert fidelity < 0.5


def test_what_cannot_be_aligned_is_said(store: Store) -> None:
    with pytest.raises(NotInStoreError, match="no space wordz .* did you mean 'words'"):
        align(store, "wordz", "turned")
    vectors = VectorStore(store)
    vectors.put_space({**vectors.space("words"), "space": "elsewhere", "pool": "another"}, Stamp())
    with pytest.raises(SpaceError, match="embed both over one pool"):
        align(store, "elsewhere", "words")
    vectors.put_space({**vectors.space("words"), "space": "trained", "method": "tupate"}, Stamp())
    with pytest.raises(SpaceError, match="trained is of tupate"):
        align(store, "trained", "words")


def test_check_vectors_tell_spaces_apart(store: Store) -> None:
    words, turned = (check_vectors(store, space) for space in ("words", "turned"))
    np.testing.assert_array_equal(words, check_vectors(store, "words"))
    assert np.sum(words * turned, axis=1).min() < 0.9


def call(store: Store, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--store", store.address])


def test_the_command_says_the_figure_and_what_is_nearest(store: Store) -> None:
    told = call(store, "align", "words", "turned", "--json")
    assert told.exit_code == 0
    assert told.stderr.startswith("fidelity 1.00: of ")
    assert "4 of 4 subjects that both spaces hold are nearest to themselves" in told.stderr
    assert [row["candidate"] for row in json.loads(told.stdout)] == ["m0", "m1", "m2", "m3"]
    refused = call(store, "align", "other", "words")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: these spaces cannot be compared: their fidelity is 0")
    assert refused.stdout == ""


@pytest.mark.parametrize("bucket", [False, True], ids=["folder", "object storage"])
def test_a_space_goes_into_a_file_and_comes_into_another_store(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: bool
) -> None:
    monkeypatch.setenv("FUTE_MIRROR", str(tmp_path / "mirrors"))
    file = tmp_path / "vectors.parquet"
    told = call(store, "export", "words", str(file))
    assert told.exit_code == 0
    assert "4 subjects of space words" in told.stdout
    other = Store(f"memory://bucket-{uuid.uuid4().hex}/store" if bucket else tmp_path / "other")
    other.put_pool(POOL, Stamp())
    other.push()
    refused = call(other, "import", str(file), "--as", "acme")
    assert refused.exit_code == 1
    assert "space words, which is not in" in refused.stderr
    VectorStore(other).put_space(VectorStore(store).space("words"), Stamp())
    taken = call(other, "import", str(file), "--as", "acme")
    assert (taken.exit_code, taken.stdout) == (0, "4 subjects of acme in space words, 0 of them known before\n")
    if bucket:  # as another machine sees it
        monkeypatch.setenv("FUTE_MIRROR", str(tmp_path / "others mirrors"))
        other = Store(other.address).pull()
    assert [e.subject for e in VectorStore(other).population("words")] == [f"acme/m{i}" for i in range(4)]
