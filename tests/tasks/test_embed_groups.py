"""Models embedded in groups: stored, found again, and failing one by one as if each had a task of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.embed import settle_groups
from fute.config import SurrogateConfig
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.tupate.config import TupateConfig
from fute.types import Outputs, TaskEmbedding
from storage.vectors import VectorStore
from tasks import resources
from tasks.embed import EmbeddingRef, OutputsRef, embed_model, embed_models, models_at_once
from tasks.run import Failure, Run
from tasks.surrogate import SpaceRef
from tests.fute.test_tupate import QUICK, pool_of, probabilities
from tests.fute.tiny_surrogates import save_tiny


@pytest.fixture
def run(tmp_path: Path) -> Run:
    save_tiny("bert", tmp_path / "bert")
    return Run(study="small", store=str(tmp_path / "store"), base_dir=str(tmp_path), seed=0)


def space_of(run: Run, **settings: Any) -> SpaceRef:
    pool = pool_of()
    run.open_store().put_pool(pool, run.stamp)
    return SpaceRef(
        id=f"space{len(settings)}",
        surrogate=SurrogateConfig(model="bert", max_tokens=24, device="cpu"),
        revision="r",
        method=TupateConfig(**{**QUICK, **settings}),
        pool=pool.id,
        seed=0,
    )


def outputs_of(run: Run, space: SpaceRef, **values: Outputs) -> list[OutputsRef]:
    refs = []
    for name, outputs in values.items():
        ref = f"{name}@{'0' * 16}"
        run.open_store().put_outputs(space.pool, ref, outputs, run.stamp)
        refs.append(OutputsRef(id=name, ref=ref, kind="python", task=None, pool=space.pool, reused=False, metrics={}))
    return refs


def zoo(run: Run, space: SpaceRef) -> list[OutputsRef]:
    pool = pool_of()
    constant = Outputs("probabilities", np.full((40, 2), 0.5, dtype=np.float32))
    return outputs_of(
        run, space, animals=probabilities(pool), constant=constant, sizes=probabilities(pool, "big small")
    )


def test_a_group_stores_what_works_and_lists_what_does_not(run: Run) -> None:
    space = space_of(run, models_at_once=8)
    models = zoo(run, space)
    results = embed_models.fn(run, space, models)
    assert [type(each) for each in results] == [EmbeddingRef, Failure, EmbeddingRef]
    failure = results[1]
    assert isinstance(failure, Failure)
    assert (failure.subject, failure.stage) == ("constant [tupate]", "embed")
    assert "a constant model has no task to embed" in failure.reason
    stored = results[0]
    assert isinstance(stored, EmbeddingRef)
    assert not stored.reused
    assert stored.metrics["rows"] == 40
    assert VectorStore(run.open_store()).has(space.id, "model", stored.fingerprint)


def test_what_is_in_the_store_is_not_made_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    space = space_of(run, models_at_once=8)
    models = zoo(run, space)
    one = embed_model.fn(run, space, models[0])
    made: list[int] = []

    class Counting:
        def models(self, outputs: list[Outputs]) -> list[TaskEmbedding]:
            made.append(len(outputs))
            return [TaskEmbedding(np.eye(1, 8, dtype=np.float32)[0]) for _ in outputs]

    monkeypatch.setattr(resources, "space", lambda *_: Counting())
    results = embed_models.fn(run, space, [models[0], models[2]])
    assert made == [1]
    assert [each.reused for each in results] == [True, False]
    assert results[0].fingerprint == one.fingerprint
    assert [each.reused for each in embed_models.fn(run, space, [models[2], models[0]])] == [True, True]
    assert made == [1]


def test_only_methods_that_gain_from_it_are_given_groups(run: Run) -> None:
    assert models_at_once(space_of(run)) == 1  # a CPU
    assert models_at_once(space_of(run, models_at_once=6)) == 6
    crosscov = space_of(run).model_copy(update={"method": CrosscovConfig()})
    assert models_at_once(crosscov) == 1


class _State:
    def __init__(self, result: Any) -> None:
        self._result = result
        self.message, self.name = None, "Failed"

    def is_final(self) -> bool:
        return True

    def is_completed(self) -> bool:
        return not isinstance(self._result, Exception)

    def result(self, raise_on_failure: bool = True) -> Any:
        return self._result


class _Future:
    def __init__(self, result: Any) -> None:
        self.state = _State(result)

    def wait(self, timeout: float | None = None) -> None:
        return

    def result(self) -> Any:
        return self.state.result()


def test_failures_of_groups_are_listed_model_by_model() -> None:
    failure = Failure(subject="b [tupate]", stage="embed", reason="constant")
    groups: Any = [
        (["a [tupate]", "b [tupate]"], _Future(["ref of a", failure])),
        (["c [tupate]", "d [tupate]"], _Future(RuntimeError("the disk is full"))),
    ]
    results, failures = settle_groups(groups, "embed")
    assert results == ["ref of a"]
    assert [(f.subject, f.reason) for f in failures] == [
        ("b [tupate]", "constant"),
        ("c [tupate]", "the disk is full"),
        ("d [tupate]", "the disk is full"),
    ]


def test_outputs_that_cannot_be_read_fail_alone(run: Run) -> None:
    space = space_of(run, models_at_once=8)
    models = zoo(run, space)
    lost = models[0].model_copy(update={"id": "lost", "ref": "lost@0"})
    results = embed_models.fn(run, space, [lost, models[0]])
    assert [type(each) for each in results] == [Failure, EmbeddingRef]
