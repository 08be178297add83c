"""Ingestion and pools on real public tasks, where they are at hand."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from fute.config import DatasetConfig, PoolConfig
from fute.data.ingest import ingest
from fute.data.pool import build_pool
from fute.data.snapshot import dataset_from_tables, dataset_to_tables

SHARED = Path(os.environ.get("FUTE_SHARED", Path(__file__).parents[3] / "shared")) / "data"
pytestmark = pytest.mark.skipif(
    not (SHARED / "MANIFEST.json").is_file(), reason=f"no real tasks in {SHARED} (set FUTE_SHARED to where they lie)"
)
TASKS = ["ag_news", "rte", "valence_intensity", "stsb", "zsre_relation_qa", "squad_v2"]


def entry(task_id):
    tasks = json.loads((SHARED / "MANIFEST.json").read_text())["tasks"]
    found = [task for task in tasks if task["id"] == task_id]
    if not found:
        pytest.skip(f"no task {task_id} among the real ones")
    return found[0]


def read(task_id, **settings):
    task = entry(task_id)
    columns = task["text_columns"]
    label = "answers" if task["task_type"] == "span_qa" else "label"
    columns = [column for column in columns if column != label]
    config = DatasetConfig(
        id=task_id,
        task=task["task_type"],
        data={"files": {split: f"tasks/{task_id}/{split}.parquet" for split in ("train", "validation", "test")}},
        text=columns[0],
        text_pair=columns[1] if len(columns) > 1 else None,
        label=label,
        label_names=task["label_names"],
        **settings,
    )
    return ingest(config, SHARED, 0), task


@pytest.mark.parametrize("task_id", TASKS)
def test_a_real_task_is_ingested_whole_and_comes_back_from_its_tables(task_id):
    dataset, task = read(task_id)
    for split, rows in task["rows"].items():
        cap = 2000 if split == "train" else 1000
        assert len(dataset.splits[split]) == min(rows, cap)
        assert dataset.report["splits"][split]["seen"] == rows
        assert dataset.report["splits"][split]["left_out"] == {}
    assert all(overlap["exact"] == 0 for overlap in dataset.report["overlap"].values())
    if dataset.task == "classification":
        assert dataset.label_names == tuple(task["label_names"])
    back = dataset_from_tables(dataset_to_tables(dataset))
    assert back.report == dataset.report
    for split in dataset.splits:
        np.testing.assert_array_equal(back.splits[split].targets, dataset.splits[split].targets)


def test_a_pool_of_real_sources_holds_no_row_of_the_evaluated_tasks():
    dataset, _ = read("rotten_tomatoes", max_rows=10_000, max_eval_rows=2000)
    patterns = ["task_rotten_tomatoes", "imdb_c*", "sentiment_*", "asset_source"]
    config = PoolConfig(
        sources=[{"data": {"files": f"unlabeled/{p}.parquet"}, "text_pair": "text_pair"} for p in patterns],
        rows_per_source=20,
    )
    pool = build_pool(config, SHARED, 0, [dataset])
    evaluated = {text for split in dataset.splits.values() for text in split.inputs.texts}
    assert not evaluated & set(pool.inputs.texts)
    assert pool.report["sources"]["task_rotten_tomatoes"]["kept"] == 0
    assert pool.report["left_out"]["evaluated_exact"] >= 900
    assert set(pool.source_ids) >= {"asset_source", "imdb_contrast", "imdb_counterfactual"}
