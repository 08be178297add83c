"""Datasets of the hub, which is not asked: stand-ins answer in its place."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fute.config import HubSource
from fute.data.read import read_tables, source_identity
from fute.errors import DataError

COMMIT, OTHER = "1" * 40, "2" * 40
HUB = HubSource(source="hub", name="someone/reviews", splits={"train": "train", "test": "validation"})


class FakeBuilder:
    """Stands in for a builder of `datasets`; gives real Dataset objects."""

    def __init__(self, commit):
        self.hash = commit
        self.info = SimpleNamespace(splits={"train": None, "validation": None})

    def download_and_prepare(self):
        pass

    def as_dataset(self, split):
        import datasets

        features = datasets.Features(
            {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
        )
        rows = {"text": [f"{split} {i}" for i in range(4)], "label": [0, 1, 0, 1]}
        return datasets.Dataset.from_dict(rows, features=features).shuffle(seed=1)


@pytest.fixture
def hub_answers(monkeypatch):
    """Set what the hub answers: a commit, or an exception; and the commit of the cached copy."""
    import datasets
    import huggingface_hub

    def set_to(answer, cached=COMMIT):
        def dataset_info(self, name, revision=None, timeout=None):
            if isinstance(answer, Exception):
                raise answer
            return SimpleNamespace(sha=answer)

        def builder(name, subset, revision=None):
            if cached is None:
                raise ConnectionError("no hub, no cache")
            return FakeBuilder(cached)

        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
        monkeypatch.setattr(datasets, "load_dataset_builder", builder)

    return set_to


def test_a_hub_dataset_is_read_at_the_commit_its_revision_stands_for(hub_answers, tmp_path):
    hub_answers(COMMIT)
    assert source_identity(HUB, tmp_path)["commit"] == COMMIT
    tables = read_tables(HUB, ["text"], ["label"], tmp_path)
    assert sorted(tables) == ["test", "train"]
    assert sorted(tables["test"].column("text").to_pylist()) == [f"validation {i}" for i in range(4)]
    assert b"ClassLabel" in tables["train"].schema.metadata[b"huggingface"]


def test_without_a_hub_the_cached_copy_is_used_and_its_commit_recorded(hub_answers, tmp_path):
    hub_answers(ConnectionError("offline mode is enabled"), cached=OTHER)
    assert source_identity(HUB, tmp_path)["commit"] == OTHER
    assert len(read_tables(HUB, ["text"], [], tmp_path)["train"]) == 4


def test_without_a_hub_another_commit_than_the_one_asked_for_is_refused(hub_answers, tmp_path):
    hub_answers(ConnectionError("offline"), cached=OTHER)
    with pytest.raises(DataError, match=f"only {OTHER} is in the cache"):
        read_tables(HUB.model_copy(update={"revision": COMMIT}), ["text"], [], tmp_path)


def test_without_a_hub_and_a_cache_the_error_says_what_to_do(hub_answers, tmp_path):
    hub_answers(ConnectionError("offline"), cached=None)
    for source in (HUB, HUB.model_copy(update={"revision": "main"})):
        with pytest.raises(DataError, match=r"HF_HUB_OFFLINE.*cache.*Parquet"):
            source_identity(source, tmp_path)


def test_a_split_or_column_that_the_hub_has_not_is_named(hub_answers, tmp_path):
    hub_answers(COMMIT)
    with pytest.raises(DataError, match="it has: train, validation"):
        read_tables(HUB.model_copy(update={"splits": {"train": "trian"}}), ["text"], [], tmp_path)
    with pytest.raises(DataError, match="no column 'sentence'"):
        read_tables(HUB, ["sentence"], [], tmp_path)
