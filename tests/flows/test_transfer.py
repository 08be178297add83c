"""The transfer flow on a small study with a tiny backbone: every score stored, nothing done twice, failures told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from prefect.client.schemas.objects import State

import tasks.embed
import tasks.transfer
from flows.cli import main
from flows.embed import embed
from flows.session import with_workers
from flows.transfer import transfer
from fute.errors import ConfigError, ModelError
from storage import catalog
from tasks.selection import TransferReport, read_report
from tests.flows.small_study import write_small_study
from tests.fute.tiny_surrogates import save_tiny

SECTION = {"backbone": "bert", "rows": 8, "eval_rows": 16, "seeds": 2, "epochs": 1, "max_tokens": 16,
           "source_rows": 24, "source_epochs": 1, "batch_size": 8}  # fmt: skip
NAMES = ["mood", "topic", "asks"]
CELLS = 2 * 3 * 3  # draws x targets x (two sources and none)


def write_study(folder: Path, **overrides: Any) -> Path:
    save_tiny("bert", folder / "bert")
    settings = {"models": [], "methods": [{"method": "crosscov", "components": 16}], "transfer": SECTION}
    return write_small_study(folder, **{**settings, **overrides})


def run(study: Path) -> State:
    return transfer(str(study), return_state=True)


def report_of(study: Path) -> TransferReport:
    return read_report(str(study.parent / "store" / "reports" / "small.transfer.json"))


def rows_of(study: Path) -> list[dict[str, Any]]:
    sql = "SELECT * FROM evaluations WHERE name = 'transfer' ORDER BY subject, candidate, seed"
    return catalog.query(study.parent / "store", sql).records()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose datasets are embedded and whose transfer was measured."""
    study = write_study(tmp_path_factory.mktemp("transfer"))
    embed(str(study))
    assert run(study).is_completed()
    return study


def test_every_source_target_and_draw_is_a_row_of_the_store(finished: Path) -> None:
    rows = rows_of(finished)
    expected = {(t, s, seed) for t in NAMES for s in [*NAMES, "none"] for seed in (0, 1) if s != t}
    assert {(r["subject"], r["candidate"], r["seed"]) for r in rows} == expected
    assert len(rows) == CELLS
    for row in rows:
        assert (row["measure"], 0 <= row["value"] <= 1) == ("accuracy", True)
        assert row["run_id"]
        assert row["flow_run_id"]
        settings, details = json.loads(row["settings"]), json.loads(row["details"])
        assert (settings["rows"], settings["eval_rows"]) == (8, 16)
        assert settings["target"].startswith(f"{row['subject']}@")
        assert (settings["source_model"] is None) == (row["candidate"] == "none")
        assert 0 <= details["macro_f1"] <= 1


def test_the_report_holds_the_means_and_the_measures_of_the_stored_embeddings(finished: Path) -> None:
    report, rows = report_of(finished), rows_of(finished)
    assert report.sources == report.targets == NAMES
    for i, source in enumerate(NAMES):
        for j, target in enumerate(NAMES):
            values = [r["value"] for r in rows if (r["subject"], r["candidate"]) == (target, source)]
            assert report.scores[i][j] == (None if i == j else pytest.approx(sum(values) / 2))
    chance, crosscov = report.selection  # no families are given, so there is no in-class test
    assert (chance.method, chance.candidates, chance.targets) == ("chance", "all", 3)
    assert (crosscov.method, crosscov.sources_as, crosscov.targets) == ("crosscov", "dataset", 3)
    assert crosscov.best_rank is not None
    assert 1 <= crosscov.best_rank <= 2


def test_source_models_are_in_the_store_and_the_run_is_tracked(finished: Path) -> None:
    store = finished.parent / "store"
    models = catalog.query(store, "SELECT id, kind, task FROM models ORDER BY id").rows
    assert models == [(f"finetune/{name}", "trained finetune", name) for name in sorted(NAMES)]
    ((state, report),) = catalog.query(store, "SELECT state, report FROM runs WHERE flow = 'transfer'").rows
    assert (state, Path(report).name) == ("Completed", "small.transfer.json")


def test_a_second_run_does_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.transfer, "transfer", lambda *a, **k: pytest.fail("transferred again"))
    monkeypatch.setattr(tasks.embed, "train", lambda *a, **k: pytest.fail("trained again"))
    before = report_of(finished)
    result = CliRunner().invoke(main, ["transfer", str(finished), "--json"])
    assert result.exit_code == 0, result.output
    after = TransferReport.model_validate_json(result.stdout)
    assert after.reused == CELLS
    assert (after.scores, after.baseline, after.selection) == (before.scores, before.baseline, before.selection)
    assert len(rows_of(finished)) == CELLS


def test_the_command_prints_the_best_sources_and_the_methods(finished: Path) -> None:
    result = CliRunner().invoke(main, ["transfer", str(finished)])
    assert result.exit_code == 0, result.output
    for expected in ("From which source to start", *NAMES, "crosscov", "chance", "rank of best", "small.transfer.json"):
        assert expected in result.output


def test_a_killed_run_goes_on_where_it_was_and_ends_with_the_same_scores(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(tmp_path)
    done, measure = [], tasks.transfer.transfer

    def killed(*args: Any, **kwargs: Any) -> Any:
        if len(done) == 5:
            raise KeyboardInterrupt("killed")
        done.append(args)
        return measure(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(tasks.transfer, "transfer", killed)
        with pytest.raises(KeyboardInterrupt):
            with_workers(transfer, 1)(str(study), return_state=True)  # one after the other, so that five are stored
    stored = len(rows_of(study))
    assert stored == 5
    done.clear()
    monkeypatch.setattr(tasks.transfer, "transfer", lambda *a, **k: (done.append(a), measure(*a, **k))[1])
    assert run(study).is_completed()
    assert len(done) == CELLS - stored
    assert report_of(study).scores == report_of(finished).scores


def test_a_source_that_cannot_be_trained_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = write_study(tmp_path, transfer={**SECTION, "seeds": 1})
    train = tasks.embed.train

    def failing(config: Any, *args: Any, **kwargs: Any) -> Any:
        if config.dataset == "topic":
            raise ModelError("the loss became nan")
        return train(config, *args, **kwargs)

    monkeypatch.setattr(tasks.embed, "train", failing)
    result = CliRunner().invoke(main, ["transfer", str(study)])
    assert result.exit_code == 3, result.output
    assert "finetune/topic (train): the loss became nan" in result.output
    assert {r["candidate"] for r in rows_of(study)} == {"mood", "asks", "none"}
    assert report_of(study).scores[1] == [None, None, None]


def test_a_study_without_the_section_and_wrong_names_are_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no section transfer"):
        transfer(str(write_study(tmp_path / "a", transfer=None)))
    for section, expected in (({"sources": ["mod"]}, "transfer.sources"), ({"backbone": "./nowhere"}, "nowhere")):
        study = write_study(tmp_path / expected, transfer=section)
        result = CliRunner().invoke(main, ["transfer", str(study)])
        assert result.exit_code == 1
        assert expected in result.output
        assert not (study.parent / "store").exists()


def test_evaluations_of_an_empty_store_are_an_empty_table(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["ls", "evaluations", "--json", "--store", str(tmp_path / "empty")])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == []
