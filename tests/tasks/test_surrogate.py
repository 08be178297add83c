"""The surrogate's precision is decided where the run starts, whatever hardware its workers have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fute.config import Study, SurrogateConfig
from fute.methods.crosscov.config import CrosscovConfig
from fute.surrogate import device
from fute.types import Outputs
from storage.vectors import VectorStore
from tasks.embed import OutputsRef, embed_model
from tasks.ingest import PoolRef
from tasks.run import Run
from tasks.study import parts_of
from tasks.surrogate import SpaceRef, register_space
from tests.fute.test_tupate import pool_of
from tests.fute.tiny_surrogates import save_tiny

AUTO = SurrogateConfig(model="bert", max_tokens=24, device="cpu", dtype="auto")


def machine(patch: pytest.MonkeyPatch, *, bfloat16: bool) -> None:
    patch.setattr(device, "has_bfloat16", lambda _: bfloat16)


def run_in(folder: Path) -> Run:
    if not (folder / "bert").exists():
        save_tiny("bert", folder / "bert")
    return Run(study="small", store=str(folder / "store"), base_dir=str(folder), seed=0)


def space_of(run: Run) -> SpaceRef:
    pool = pool_of()
    run.open_store().put_pool(pool, run.stamp)
    ref = PoolRef(id=pool.id, rows=len(pool))
    space = register_space.fn(run, AUTO, CrosscovConfig(components=8), ref)
    return SpaceRef.model_validate_json(space.model_dump_json())  # as a worker gets it


def vector_of(run: Run, space: SpaceRef) -> Any:
    store, pool = run.open_store(), pool_of()
    store.put_pool(pool, run.stamp)
    answers = np.random.default_rng(3).dirichlet(np.ones(3), size=len(pool)).astype(np.float32)
    ref = f"m@{'0' * 16}"
    store.put_outputs(pool.id, ref, Outputs("probabilities", answers), run.stamp)
    model = OutputsRef(id="m", ref=ref, kind="python", task=None, pool=pool.id, reused=False, metrics={})
    made = embed_model.fn(run, space, model)
    return VectorStore(store).get(space.id, "model", made.fingerprint).vector


@pytest.mark.parametrize("bfloat16", [True, False])
def test_a_worker_with_other_hardware_makes_the_same_vector_in_the_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bfloat16: bool
) -> None:
    machine(monkeypatch, bfloat16=bfloat16)
    space = space_of(run_in(tmp_path / "flow"))
    at_home = vector_of(run_in(tmp_path / "flow"), space)
    machine(monkeypatch, bfloat16=not bfloat16)
    np.testing.assert_array_equal(vector_of(run_in(tmp_path / "worker"), space), at_home)
    assert space_of(run_in(tmp_path / "worker")).id != space.id  # the two precisions are two spaces


def test_the_store_says_which_dtype_auto_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, bfloat16=True)
    run = run_in(tmp_path)
    space = space_of(run)
    (row,) = VectorStore(run.open_store()).spaces()
    assert json.loads(row["settings"])["surrogate"]["dtype"] == space.surrogate.dtype == "bfloat16"


def test_the_parts_of_a_study_name_the_dtype_for_tasks_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, bfloat16=True)
    pool = {"sources": [{"data": {"files": "texts.txt"}}]}
    study = Study.model_validate({"name": "s", "surrogate": AUTO.model_dump(), "pool": pool})
    assert parts_of(study).surrogate.dtype == "bfloat16"
