"""A new pool is told before anything is asked again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fute.types import Outputs, Pool, TextTable
from storage.stamp import Stamp
from storage.store import Store
from storage.vectors import VectorStore
from tasks.pool_change import pool_change
from tests.fute.memory_rows import dataset_from_rows
from tests.storage.test_store import space_row

TEXTS = [f"a text with the number {i}" for i in range(20)]


def study_that_ran(folder: Path) -> tuple[Store, Pool]:
    store, pool, stamp = Store(folder / "store"), Pool(TextTable(TEXTS), ["s"] * 20), Stamp()
    store.put_pool(pool, stamp)
    store.put_outputs(pool.id, "m@1", Outputs("labels", np.eye(2, dtype=np.float32)[[0, 1] * 10]), stamp)
    VectorStore(store).put_space({**space_row("s1"), "pool": pool.id}, stamp)
    store.put_run({"study": "s", "flow": "pipeline", "state": "Completed", "spaces": ["s1"]}, stamp)
    return store, pool


def labelled(name: str, texts: list[str]):
    return dataset_from_rows(
        name, "classification", {"train": {"text": texts, "label": ["a", "b"] * (len(texts) // 2)}}
    )


def test_a_dataset_that_takes_texts_out_of_the_pool_is_named_with_what_it_costs_and_how_to_keep_it(tmp_path):
    store, pool = study_that_ran(tmp_path)
    datasets = [labelled("old", [f"other {i}" for i in range(20)]), labelled("new", TEXTS[:3] + TEXTS[3:16])]
    told = pool_change("s", store, Pool(TextTable(TEXTS[16:]), ["s"] * 4), datasets)
    assert told is not None
    assert f"not that of the last run ({pool.id}), because new holds 16 of its 20 texts" in told
    assert "all models are asked again (1 have answered the old one)" in told
    assert told.endswith(f"pool: {{reuse: {pool.id}}}")


def test_other_sources_are_a_reason_too(tmp_path):
    store, _ = study_that_ran(tmp_path)
    told = pool_change("s", store, Pool(TextTable(["another"]), ["s"]), [])
    assert told is not None
    assert "because its sources, their files or its settings are others" in told


def test_nothing_is_said_of_a_pool_that_is_known_of_another_study_or_of_an_empty_store(tmp_path):
    store, pool = study_that_ran(tmp_path)
    assert pool_change("s", store, pool, []) is None
    assert pool_change("t", store, Pool(TextTable(["another"]), ["s"]), []) is None
    assert pool_change("s", Store(tmp_path / "none"), pool, []) is None
