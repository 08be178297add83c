"""Commands that only look import what they look with: nobody waits for torch to read a table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.docs_store import write_docs_store
from tests.flows.small_study import write_small_study
from tests.fute.tiny_surrogates import save_tiny

HEAVY = ("mlflow", "prefect", "sklearn", "torch", "transformers")
PROGRAM = f"""
import sys
from flows.cli import main
try:
    main(sys.argv[1:])
finally:
    print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""


def imported_by(*arguments: str) -> str:
    run = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], cwd=REPOSITORY, capture_output=True, text=True,
                         timeout=120, check=False)  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_docs_store(tmp_path_factory.mktemp("docs") / "store").root


@pytest.mark.parametrize(
    "command",
    [["ls"], ["ls", "models"], ["sql", "SELECT * FROM embeddings"], ["show", "reviews"], ["nearest", "reviews"]],
)
def test_what_looks_at_a_store_imports_neither_engine_nor_models(store: Path, command: list[str]) -> None:
    assert imported_by(*command, "--store", str(store)) == "[]"


def test_a_study_with_models_of_every_kind_is_checked_without_what_they_run_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUTE_TEST_CALLS", "/dev/null")  # functions are tried, and pipelines: those need scikit-learn
    save_tiny("bert", tmp_path / "tiny")
    save_tiny("gpt2", tmp_path / "writer")
    study = write_small_study(
        tmp_path,
        models=[
            *({"kind": "trained", "dataset": "mood", "recipe": recipe} for recipe in ("tfidf", "probe", "finetune")),
            {"kind": "python", "id": "counted", "entry_point": "small_models:counted"},
            {"kind": "transformers", "id": "classifier", "model": "./tiny"},
            {"kind": "span_answerer", "id": "answerer", "model": "./tiny"},
            {"kind": "prompt", "prompt": "p", "endpoint": "*"},
        ],
        methods=[{"method": "crosscov"}, {"method": "tupate"}, {"method": "taskemb"}],
        prompts=[{"id": "p", "template": "Good or bad? {{text}}", "verbalizer": {"a": ["good"], "b": ["bad"]}}],
        endpoints=[
            {"id": "api", "base_url": "http://127.0.0.1:9/v1", "model": "m", "api_key_env": None},
            {"id": "here", "api": "local", "model": "./writer"},
        ],
    )
    assert imported_by("check", str(study)) == "[]"
