"""Prompts of every kind in one study: of a set and of a file, with reasoning, with free text, on a local model."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from flows.pipeline import pipeline
from flows.results import print_results
from storage import catalog
from storage.store import Store
from tests.flows.small_study import write_small_study
from tests.fute.tiny_writers import save_writer
from tests.llm_server import LlmServer

pytestmark = pytest.mark.slow

FILE = """
prompts:
  - id: reasoned
    cot: true
    template: "What is said? {{text}}"
    follow_up: Good or bad?
    verbalizer: {g: [good], b: [bad]}
  - {id: rewritten, answer: text, template: "Say it otherwise. {{text}}"}
  - {id: animals, template: "the {{text}}", verbalizer: {a: [cat, dog], b: [tree, lake]}}
"""


def answer(prompt: str, system: str | None) -> list[tuple[str, float]]:
    if prompt.startswith("Say it otherwise"):
        if "memo" in prompt:
            return [("I'm sorry, but I can't help with that.", 1.0)]
        return [(" ".join(reversed(prompt.split())), 1.0)]
    share = 0.2 + 0.6 * (len(prompt) % 7) / 6
    return sorted([("good", share), ("bad", 1 - share)], key=lambda pair: -pair[1])


def test_prompts_of_every_kind_run_are_counted_and_are_not_paid_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUTE_TEST_CALLS", str(tmp_path / "calls"))
    save_writer("gpt2", tmp_path / "writer")
    (tmp_path / "prompts.yaml").write_text(FILE)
    with LlmServer(answer) as server:
        study = write_small_study(
            tmp_path,
            methods=[{"method": "crosscov", "components": 16}],
            prompts=[{"set": "sentiment"}],
            prompt_files=["prompts.yaml"],
            endpoints=[
                {"id": "api", "base_url": server.base_url, "service": "test", "model": "m"},
                {"id": "tiny", "api": "local", "model": "./writer", "local": {"device": "cpu"}},
            ],
            models=[
                {"kind": "prompt", "prompt": ["sentiment-verdict", "reasoned", "rewritten"], "endpoint": "api"},
                {"kind": "prompt", "prompt": "animals", "endpoint": "tiny"},
            ],
        )
        state = pipeline(str(study), return_state=True)
        assert state.is_completed(), state.message
        assert state.name == "Completed", state.message
        assert server.n_requests == 60 + 2 * 60 + 60
        assert pipeline(str(study), return_state=True).is_completed()
        assert server.n_requests == 240
    store = tmp_path / "store"
    kept = catalog.query(store, "SELECT count(*) FROM responses").rows
    assert kept == [(300,)]  # and 60 of the model in this process
    subjects = [r[0] for r in catalog.query(store, "SELECT subject FROM embeddings WHERE kind = 'model'").rows]
    assert sorted(subjects) == ["animals/tiny", "reasoned/api", "rewritten/api", "sentiment-verdict/api"]
    page = Console(file=StringIO(), width=200)
    print_results(page, Store(store), str(state.state_details.flow_run_id))
    (line,) = [line for line in page.file.getvalue().splitlines() if "rewritten/api" in line and "│" in line][-1:]
    refused = sum("memo" in prompt for prompt in server.asked if prompt.startswith("Say it otherwise"))
    assert 0 < refused < 30
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        "rewritten/api",
        "0",
        str(60 - refused),
        str(refused),
    ]
