"""Prompts through a real HTTP API: asked once, kept, tracked, and the key stays out of everything."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from flows.pipeline import pipeline
from storage import catalog
from tests.flows.small_study import write_small_study
from tests.llm_server import LlmServer, echo_of_the_key

CANARY = "sk-canary-0123456789"


def answer(prompt: str, system: str | None) -> list[tuple[str, float]]:
    share = 0.2 + 0.6 * (len(prompt) % 7) / 6
    return sorted([("good", share), ("bad", 1 - share)], key=lambda pair: -pair[1])


def write_study(folder: Path, base_url: str, **endpoint: object) -> Path:
    prompts = [
        {"id": id_, "template": template, "verbalizer": {"good": ["good"], "bad": ["bad"]}}
        for id_, template in (("one", "Is it good or bad?\nText: {{text}}"), ("two", "Text: {{text}}\nGood or bad?"))
    ]
    settings = {"id": "api", "base_url": base_url, "service": "test", "model": "m", "api_key_env": "FUTE_TEST_KEY"}
    return write_small_study(
        folder,
        methods=[{"method": "crosscov", "components": 16}],
        models=[{"kind": "prompt", "prompt": "*", "endpoint": "api"}],
        prompts=prompts,
        endpoints=[settings | endpoint],
    )


def everything_written(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_prompts_are_asked_once_and_the_key_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUTE_TEST_KEY", CANARY)
    store = tmp_path / "store"
    with LlmServer(answer) as server:
        study = write_study(tmp_path, server.base_url)
        assert pipeline(str(study), return_state=True).is_completed()
        assert server.n_requests == 120  # 60 pool rows, two prompts
        assert pipeline(str(study), return_state=True).is_completed()
        assert server.n_requests == 120
    assert catalog.query(store, "SELECT count(*), count(DISTINCT key) FROM responses").rows == [(120, 120)]
    assert [r[0] for r in catalog.query(store, "SELECT id FROM prompts ORDER BY id").rows] == ["one", "two"]
    ((run_id,),) = catalog.query(store, "SELECT run_id FROM runs ORDER BY created_at LIMIT 1").rows
    metrics = mlflow.MlflowClient(tracking_uri=f"sqlite:///{store}/mlflow.db").get_run(run_id).data.metrics
    assert metrics["llm_calls"] == 120
    assert metrics["llm_tokens_in"] > 0
    assert CANARY.encode() not in everything_written(tmp_path)


def test_a_moved_service_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUTE_TEST_KEY", CANARY)
    with LlmServer(answer) as server:
        study = write_study(tmp_path, server.base_url)
        assert pipeline(str(study), return_state=True).is_completed()
    with LlmServer(answer) as moved:
        assert pipeline(str(study), {"api": moved.base_url}, return_state=True).is_completed()
        assert moved.n_requests == 0


def test_a_missing_key_is_told_before_any_work(tmp_path: Path) -> None:
    with LlmServer(answer) as server:
        study = write_study(tmp_path, server.base_url, api_key_env="FUTE_NO_SUCH_KEY")
        state = pipeline(str(study), return_state=True)
        assert server.n_requests == 0
    assert state.is_failed()
    assert "environment variable FUTE_NO_SUCH_KEY is not set" in str(state.message)
    assert not (tmp_path / "store" / "datasets").exists()


def test_a_refused_key_fails_the_prompts_without_showing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUTE_TEST_KEY", CANARY)
    with LlmServer(answer) as server:
        server.misbehave(echo_of_the_key(401), times=1000)
        state = pipeline(str(write_study(tmp_path, server.base_url)), return_state=True)
    assert state.name == "CompletedWithFailures"
    assert CANARY not in str(state.message)
    assert CANARY.encode() not in everything_written(tmp_path)
