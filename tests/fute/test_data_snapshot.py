import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fute.data.snapshot import dataset_from_tables, dataset_to_tables, pool_from_table, pool_to_table
from fute.errors import DataError
from fute.types import Pool, TextTable
from tests.fute.memory_rows import dataset_from_rows

CONTEXT = "The tower clock stopped at noon."
ROWS = {
    "classification": {"text": [f"text {i}" for i in range(20)], "label": ["a", "ü"] * 10},
    "pair": {"text": [f"text {i}" for i in range(20)], "text_pair": ["p"] * 20, "label": [0, 1] * 10},
    "regression": {"text": [f"text {i}" for i in range(20)], "label": [i / 3 for i in range(20)]},
    "span_qa": {
        "text": [f"question {i}" for i in range(20)],
        "text_pair": [CONTEXT] * 20,
        "label": [{"text": ["noon"], "answer_start": [27]}, {"text": [], "answer_start": []}] * 10,
    },
}


def dataset(kind):
    task = "classification" if kind == "pair" else kind
    rows = {"train": ROWS[kind], "test": {name: values[:6] for name, values in ROWS[kind].items()}}
    return dataset_from_rows("d", task, rows, text_pair="text_pair" if "text_pair" in ROWS[kind] else None)


@pytest.mark.parametrize("kind", list(ROWS))
def test_a_dataset_comes_back_from_parquet_as_it_was(tmp_path, kind):
    original = dataset(kind)
    for name, table in dataset_to_tables(original).items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
    back = dataset_from_tables({name: pq.read_table(tmp_path / f"{name}.parquet") for name in original.splits})
    for field in ("id", "task", "fingerprint", "label_names", "provenance", "report"):
        assert getattr(back, field) == getattr(original, field)
    for name, split in original.splits.items():
        assert back.splits[name].inputs.fingerprint == split.inputs.fingerprint
        assert (back.splits[name].inputs.pairs is None) == (split.inputs.pairs is None)
        np.testing.assert_array_equal(back.splits[name].targets, split.targets, strict=True)


def test_a_pool_comes_back_with_its_id(tmp_path):
    for pairs in (None, [None, "second", "Dritter"], [None, None, None]):
        pool = Pool(TextTable(["a", "b", "ç"], pairs), ["s", "s", "t"], {"left_out": {"empty": 1}})
        pq.write_table(pool_to_table(pool), tmp_path / "pool.parquet")
        back = pool_from_table(pq.read_table(tmp_path / "pool.parquet"))
        assert back.id == pool.id
        assert list(back.source_ids) == ["s", "s", "t"]
        assert back.report == pool.report


def test_a_changed_or_shuffled_pool_is_refused():
    table = pool_to_table(Pool(TextTable(["a", "b"]), ["s", "s"]))
    changed = table.set_column(1, table.schema.field(1), pa.chunked_array([pa.array(["a", "x"], pa.large_string())]))
    with pytest.raises(DataError, match="were changed"):
        pool_from_table(changed)
    with pytest.raises(DataError, match="out of order"):
        pool_from_table(table.take([1, 0]))


def test_tables_of_others_are_refused():
    with pytest.raises(DataError, match=r"lack fute\.pool"):
        pool_from_table(pa.table({"text": ["a"]}))
    with pytest.raises(DataError, match="needs its split train"):
        dataset_from_tables({})
