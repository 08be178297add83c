"""The transfer flow on a small study with a tiny backbone: every score stored, nothing done twice, failures told."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from prefect.client.schemas.objects import State

import tasks.embed
import tasks.transfer
from flows.cli import main
from flows.embed import embed
from flows.transfer import metrics_of, transfer
from flows.unify import unify
from fute.errors import ConfigError, ModelError
from storage import catalog
from storage.store import Store
from storage.vectors import VectorStore
from tasks.selection import CHANCE, SelectionRow, TransferReport, read_report
from tests.flows.small_study import rows_of as draw_rows
from tests.flows.small_study import write_small_study
from tests.fute.tiny_surrogates import save_tiny

pytestmark = pytest.mark.slow

TARGETS, NAMES = ["mood", "topic"], ["mood", "topic", "asks", "prices"]
STRANGER = "prices"
"""The other three are of one family."""
SECTION = {"backbone": "bert", "targets": TARGETS, "rows": 8, "eval_rows": 16, "seeds": 2, "epochs": 1,
           "max_tokens": 16, "source_rows": 24, "source_epochs": 1, "batch_size": 8}  # fmt: skip
SOURCE = {"kind": "trained", "dataset": "*", "recipe": "finetune", "backbone": "bert", "epochs": 1, "batch_size": 8,
          "max_tokens": 16, "max_rows": 24}  # fmt: skip
"""A zoo's model that is trained as the section's sources are."""
METHODS = [{"method": "crosscov", "components": components, "bootstrap": 0} for components in (16, 8)]
CELLS = 2 * 2 * 4  # draws x targets x (three sources and none)
PRICES = {
    "cheap": ["a coat for a penny", "they give lamps away", "half off all chairs", "a bargain of a boat"],
    "dear": ["a coat for a fortune", "the lamps cost too much", "who can pay for chairs", "the boat ruined him"],
}


def write_study(folder: Path, **overrides: Any) -> Path:
    """Four datasets, three of them of one family."""
    save_tiny("bert", folder / "bert")
    settings = {"models": [], "methods": METHODS[:1], "transfer": SECTION}
    study = write_small_study(folder, **{**settings, **overrides})
    rows = [{"text": text, "label": label} for text, label in draw_rows(PRICES, 60, 3)]
    for split, part in (("train", rows[:44]), ("test", rows[44:])):
        lines = "".join(json.dumps(row) + "\n" for row in part)
        (folder / f"{STRANGER}-{split}.jsonl").write_text(lines)
    written = yaml.safe_load(study.read_text())
    files = {split: f"{STRANGER}-{split}.jsonl" for split in ("train", "test")}
    families = [{**d, "family": "talk"} for d in written["datasets"]]
    written["datasets"] = [*families, {"id": STRANGER, "data": {"files": files}}]
    study.write_text(yaml.safe_dump(written, sort_keys=False))
    return study


def run(study: Path) -> State:
    return transfer(str(study), return_state=True)


def report_of(study: Path) -> TransferReport:
    return read_report(str(study.parent / "store" / "reports" / "small.transfer.json"))


def rows_of(study: Path) -> list[dict[str, Any]]:
    sql = "SELECT * FROM evaluations WHERE name = 'transfer' ORDER BY subject, candidate, seed"
    return catalog.query(study.parent / "store", sql).records()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose datasets and source models are embedded in two spaces, and whose transfer was measured."""
    folder = tmp_path_factory.mktemp("transfer")
    for method in METHODS[::-1]:  # one study after the other in one store
        study = write_study(folder, models=[SOURCE], methods=[method])
        embed(str(study))
        unify(str(study))
    assert run(study).is_completed()
    return study


def test_every_source_target_and_draw_is_a_row_of_the_store(finished: Path) -> None:
    rows = rows_of(finished)
    expected = {(t, s, seed) for t in TARGETS for s in [*NAMES, "none"] for seed in (0, 1) if s != t}
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


def test_the_report_holds_the_means_over_the_draws(finished: Path) -> None:
    report, rows = report_of(finished), rows_of(finished)
    assert (report.sources, report.targets, report.rows) == (NAMES, TARGETS, 8)
    for i, source in enumerate(NAMES):
        for j, target in enumerate(TARGETS):
            values = [r["value"] for r in rows if (r["subject"], r["candidate"]) == (target, source)]
            assert report.scores[i][j] == (None if source == target else pytest.approx(sum(values) / 2))


def test_every_space_is_measured_by_what_unify_ranked_all_class_and_in_class_sources_as_datasets_and_models(
    finished: Path,
) -> None:
    report = report_of(finished)
    vectors = VectorStore(Store(finished.parent / "store"))
    spaces = {space["space"] for space in vectors.spaces()}
    assert len(spaces) == 2
    found = {(r.space, r.sources_as, r.candidates): r for r in report.selection}
    kinds = [(None, None), *((space, kind) for space in spaces for kind in ("dataset", "model"))]
    assert set(found) == {(*of, candidates) for of in kinds for candidates in ("all", "family")}
    assert len(report.selection) == len(found)
    for (space, kind, candidates), row in found.items():
        assert row.targets == 2
        if space is None or kind is None:
            assert (row.method, row.frame) == (CHANCE, None)
            continue
        ranked = [n for n in vectors.neighbors(space) if n["query_kind"] == "dataset" and n["candidate_kind"] == kind]
        assert row.method == "crosscov"
        assert row.frame == "pseudo-tasks"
        similarity = {(n["query"], n["candidate"].removeprefix("finetune/")): n["similarity"] for n in ranked}
        assert_measured(row, report, similarity, NAMES if candidates == "all" else [n for n in NAMES if n != STRANGER])


def assert_measured(
    row: SelectionRow, report: TransferReport, similarity: dict[tuple[str, str], float], allowed: list[str]
) -> None:
    """The row's measures are the means over targets of what a ranking by (target, source) similarity earns."""
    each = []
    for j, target in enumerate(report.targets):
        score = {s: report.scores[i][j] for i, s in enumerate(report.sources) if s in allowed and s != target}
        order = sorted(score, key=lambda source: -similarity[target, source])
        assert len(order) == len(allowed) - 1
        best = max(score.values())
        gains = [2 ** score[s] - 1 for s in order]
        dcg, ideal = (sum(g / math.log2(r + 2) for r, g in enumerate(gs)) for gs in (gains, sorted(gains)[::-1]))
        rank = next(rank for rank, source in enumerate(order, start=1) if score[source] == best)
        pick = score[order[0]]
        each.append((rank, dcg / ideal, best - pick, pick - report.baseline[j]))
    means = [sum(values) / len(values) for values in zip(*each, strict=True)]
    assert [row.best_rank, row.ndcg, row.regret, row.pick_gain] == pytest.approx(means)


def test_two_spaces_of_one_method_are_tracked_under_names_of_their_own(finished: Path) -> None:
    rows = report_of(finished).selection
    names = ("best_rank", "ndcg", "ndcg_relative", "regret", "pick_gain")
    metrics = metrics_of(rows)
    assert len(metrics) == len(names) * len(rows)
    for row in rows:
        method = row.method if row.space is None else f"{row.method}_{row.space[:8]}"
        for name in names:
            assert metrics[f"{method}_{row.sources_as or 'none'}_{row.candidates}_{name}"] == getattr(row, name)
    one = [row for row in rows if row.space in (None, rows[-1].space)]
    assert "crosscov_model_family_regret" in metrics_of(one)


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
    for space in {row.space for row in report_of(finished).selection if row.space}:
        assert f"crosscov, space {space[:8]}: frame: pseudo-tasks" in result.output
    assert "whole training split, the fine-tuning got 8 of its rows" in result.output


def test_a_killed_run_goes_on_where_it_was_and_ends_with_the_same_scores(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(tmp_path, workers=1)  # one after the other, so that five are stored
    done, measure = [], tasks.transfer.transfer

    def killed(*args: Any, **kwargs: Any) -> Any:
        if len(done) == 5:
            raise KeyboardInterrupt("killed")
        done.append(args)
        return measure(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(tasks.transfer, "transfer", killed)
        with pytest.raises(KeyboardInterrupt):
            transfer(str(study), return_state=True)
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
    assert {r["candidate"] for r in rows_of(study)} == {"mood", "asks", "prices", "none"}
    assert report_of(study).scores[1] == [None, None]


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
    result = CliRunner().invoke(main, ["ls", "evaluations", "--json", "--store", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == []
