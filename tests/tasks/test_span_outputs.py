"""A question answerer's spans on their way into the store."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fute.config import PredictionsModel, PythonModel, SurrogateConfig
from fute.errors import ModelError
from fute.span_contexts import check_spans
from fute.types import Pool, TextTable
from storage.store import Store
from tasks.embed import query_model
from tasks.run import Run
from tasks.study import StudyParts

N = 20
POOL = Pool(
    TextTable([f"which word is number {i}" for i in range(N)] + ["a single text"] * 30,
              [f"{'word ' * (i + 1)}last" for i in range(N)] + [None] * 30),
    ["questions"] * N + ["texts"] * 30,
)  # fmt: skip
ANSWERER = """
def last_word(texts, pairs, too_far=0):
    where = [None if p is None else p.index("last") for p in pairs]
    return [None if s is None else [s, s + 4 + too_far, 0.5] for s in where]
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "answerer.py").write_text(ANSWERER)
    run = Run(study="s", store=str(tmp_path / "store"), base_dir=str(tmp_path), seed=0)
    Store(run.store).put_pool(POOL, run.stamp)
    return run


def config(**settings: object) -> PythonModel:
    return PythonModel(kind="python", id="qa", entry_point="answerer:last_word", outputs="spans", **settings)


def test_spans_of_the_questions_in_a_pool_of_mostly_single_texts_are_stored(run: Run) -> None:
    parts = StudyParts(surrogate=SurrogateConfig())
    ref = query_model.fn(run, config(), parts, POOL.id)
    outputs = Store(run.store).outputs(POOL.id, ref.ref)
    assert check_spans(outputs, POOL.inputs).answered_rows.tolist() == list(range(N))
    assert outputs.values[3].tolist() == [20, 24, 0.5]
    assert ref.metrics["rows_without_context"] == 30
    assert query_model.fn(run, config(), parts, POOL.id).reused


def test_a_span_outside_its_text_is_refused_before_anything_is_stored(run: Run) -> None:
    wrong = config(kwargs={"too_far": 1})
    with pytest.raises(ModelError, match=r"qa: a span outside its text: row 0 has \[5, 10\), but .* 9 characters"):
        query_model.fn(run, wrong, StudyParts(surrogate=SurrogateConfig()), POOL.id)
    assert not (Path(run.store) / "outputs").exists()


def test_predicted_spans_reach_the_store_too(run: Run, tmp_path: Path) -> None:
    pq.write_table(pa.table({"pool": [POOL.id] * N, "row": range(N), "a": ["last"] * N}), tmp_path / "answers.parquet")
    table = PredictionsModel(kind="predictions", id="table", file="answers.parquet", answer="a")
    ref = query_model.fn(run, table, StudyParts(surrogate=SurrogateConfig()), POOL.id)
    assert Store(run.store).outputs(POOL.id, ref.ref).values[3].tolist() == [20, 24, 1]
