"""The command line: each command, its output and its exit code."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from flows.cli import main
from fute.config import Study
from tests.flows.small_study import PARTS, rows_of, write_small_study


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env={"FUTE_TEST_CALLS": "/dev/null"})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("cli")
    study = write_small_study(folder, methods=[{"method": "crosscov", "components": 16}])
    return study, call("run", str(study))


def test_run_shows_ranked_tables_where_things_lie_and_commands_to_try_next(finished: tuple[Path, Result]) -> None:
    study, result = finished
    assert result.exit_code == 0, result.output
    store = str(study.parent / "store")
    tables = ("Which model fits which dataset", "What each model does", "tfidf/topic")
    for expected in (*tables, store, "fute match --store", "fute sql --store", "mlflow ui", "prefect server start"):
        assert expected in result.output
    reports = study.parent / "store" / "reports"
    assert sorted(page.name for page in reports.glob("*.html")) == ["store.html", "study-small.html"]
    assert str(reports / "study-small.html") in result.output


def test_the_page_of_the_store_is_written_anew_on_demand(finished: tuple[Path, Result], tmp_path: Path) -> None:
    store = finished[0].parent / "store"
    page = store / "reports" / "store.html"
    page.unlink()
    result = call("atlas", "--store", str(store))
    assert (result.exit_code, result.output.strip()) == (0, str(page))
    assert "tfidf/topic" in page.read_text(encoding="utf-8")
    empty = call("atlas", "--store", str(tmp_path))
    assert empty.exit_code == 1
    assert "nothing is embedded" in empty.output


def test_the_sql_command_that_a_run_proposes_works(finished: tuple[Path, Result]) -> None:
    study, result = finished
    proposed = next(line for line in result.output.splitlines() if "fute sql" in line)
    query = proposed.partition('"')[2].rpartition('"')[0]
    answer = call("sql", "--store", str(study.parent / "store"), "--json", query)
    assert answer.exit_code == 0, answer.output
    assert {row["candidate_kind"] for row in json.loads(answer.output)} == {"dataset", "model"}


def test_check_after_a_run_says_that_nothing_is_left_to_do(finished: tuple[Path, Result]) -> None:
    result = call("check", str(finished[0]))
    assert result.exit_code == 0, result.output
    assert "Everything is in the store" in result.output


def test_check_before_a_run_lists_the_work_and_does_none(tmp_path: Path) -> None:
    study = write_small_study(tmp_path)
    result = call("check", str(study), "--json")
    assert result.exit_code == 0, result.output
    steps = {(s["stage"], s["subject"]): s["state"] for s in json.loads(result.output)}
    assert steps["train", "tfidf/mood"] == "to do"
    assert steps["ingest", "topic"] == "to do"
    assert steps["embed", "counted [tupate]"] == "to do"
    assert not (tmp_path / "store").exists()


def test_check_says_what_is_to_be_known_of_the_data(tmp_path: Path) -> None:
    study = write_small_study(tmp_path)
    (tmp_path / "mood-test.parquet").write_bytes((tmp_path / "mood-train.parquet").read_bytes())
    result = call("check", str(study))
    assert result.exit_code == 0, result.output
    assert "note: mood: test is train: all of its rows are training rows" in result.output


def test_nothing_to_watch_is_told_before_anything_is_started(tmp_path: Path) -> None:
    study = write_small_study(tmp_path)
    result = call("drift", str(study))
    assert result.exit_code == 1
    assert "has no prompted model to watch; add one of kind prompt" in result.output
    assert not (tmp_path / "store").exists()


def test_check_counts_llm_calls(tmp_path: Path) -> None:
    prompt = {
        "id": "p",
        "template": "Is it good or bad? Text: {{text}}",
        "verbalizer": {"good": ["good"], "bad": ["bad"]},
    }
    endpoint = {"id": "e", "base_url": "http://127.0.0.1:9/v1", "model": "m", "api_key_env": "NOT_SET_ANYWHERE"}
    study = write_small_study(
        tmp_path,
        models=[{"kind": "prompt", "prompt": "*", "endpoint": "*"}],
        prompts=[prompt],
        endpoints=[endpoint],
    )
    result = call("check", str(study))
    assert result.exit_code == 0, result.output
    assert "LLM calls: 60" in result.output

    study = write_small_study(
        tmp_path,
        models=[{"kind": "prompt", "prompt": "*", "endpoint": "*", "ask": 50}],
        prompts=[prompt],
        endpoints=[endpoint],
    )
    result = call("check", str(study))
    assert "LLM calls: 50" in result.output
    assert "note: p/e: asked about 50 of the pool's 60 rows" in result.output


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"sed": 1}, "seed"),
        ({"seed": "one"}, "one"),
        ({"datasets": [{"id": "d", "data": {"files": "nowhere.parquet"}}]}, "nowhere.parquet"),
        ({"models": [{"kind": "python", "id": "mood", "entry_point": "small_models:counted"}]}, "mood"),
        ({"models": [{"kind": "pyton", "id": "x"}]}, "pyton"),
    ],
)
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_wrong_study_is_one_clear_message_before_any_work(
    tmp_path: Path, command: str, change: dict[str, object], expected: str
) -> None:
    result = call(command, str(write_small_study(tmp_path, **change)))
    assert result.exit_code == 1
    assert expected in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "store").exists()


def test_a_label_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    study = write_small_study(tmp_path)
    settings = yaml.safe_load(study.read_text())
    settings["datasets"][0]["label"] = "lable"
    study.write_text(yaml.safe_dump(settings))
    result = call("check", str(study))
    assert result.exit_code == 1
    assert "lable" in result.output
    assert "label" in result.output.replace("lable", "")


def test_every_command_works_on_an_empty_store_and_refuses_one_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    store = ["--store", str(tmp_path / "empty")]
    assert call("ls", *store).exit_code == 0
    assert call("ls", "embeddings", *store).exit_code == 0
    assert json.loads(call("sql", "SELECT * FROM neighbors", "--json", *store).stdout) == []
    missing = call("show", "nothing", *store)
    assert missing.exit_code == 1
    assert "nothing named" in missing.output
    for command in (["ls"], ["ls", "models"], ["show", "x"], ["nearest", "x"], ["sql", "SELECT 1"], ["atlas"]):
        refused = call(*command, "--store", str(tmp_path / "nowhere"))
        assert refused.exit_code == 1
        assert f"error: no store at {tmp_path / 'nowhere'}; give --store" in refused.output
    assert not (tmp_path / "nowhere").exists()


def test_csv_holds_whole_values(finished: tuple[Path, Result]) -> None:
    store = str(finished[0].parent / "store")
    output = call("sql", "--store", store, "--csv", "SELECT subject, vector FROM embeddings").output
    rows = list(csv.DictReader(io.StringIO(output)))
    assert len(rows) == 8
    assert len(json.loads(rows[0]["vector"])) > 100


def test_show_tells_what_a_model_is_and_what_is_near(finished: tuple[Path, Result]) -> None:
    result = call("show", "tfidf/topic", "--store", str(finished[0].parent / "store"))
    assert result.exit_code == 0, result.output
    assert "trained tfidf" in result.output
    assert "nearest" in result.output


def test_match_finds_the_model_of_a_file_and_keeps_nothing(finished: tuple[Path, Result], tmp_path: Path) -> None:
    store = finished[0].parent / "store"
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    file = tmp_path / "mine.csv"
    rows = rows_of(PARTS["topic"], 100, 7)
    with file.open("w", newline="") as lines:
        csv.writer(lines).writerows([("words", "about"), *rows, rows[0], ("no label", "")])
    command = ("match", str(file), "--text", "words", "--label", "about", "--store", str(store))
    told = call(*command)
    assert told.exit_code == 0, told.output
    assert "mine.csv: 100 labelled texts, 3 labels" in told.output
    assert "2 rows were left out" in told.output
    assert "no test split" not in told.output
    # So few texts of a pool say that it has to do with the topics, but not what it would answer.
    assert "how often they will be right is unknown: tfidf/topic." in told.output
    found = json.loads(call(*command, "--json").stdout)
    models = {model["model"]: model for model in found["models"]}
    assert set(models) == {"tfidf/mood", "tfidf/topic", "tfidf/asks", "finetune/mood", "counted"}
    assert max(models, key=lambda m: models[m]["score"]) == "tfidf/topic"
    for model in models.values():
        if told_by := model["accuracy"]:
            assert told_by["low"] <= told_by["expected"] <= told_by["high"]
        assert (model["unknown"] is None) == (model["accuracy"] is not None)
    assert before == {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}


def test_match_of_a_file_without_labels_says_what_is_not_known_and_how_to_know_more(
    finished: tuple[Path, Result], tmp_path: Path
) -> None:
    store = finished[0].parent / "store"
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    file = tmp_path / "mine.csv"
    file.write_text("words,mood\n" + "".join(f"{text},{mood}\n" for text, mood in rows_of(PARTS["mood"], 60, 7)))
    result = call("match", str(file), "--text", "words", "--store", str(store))
    assert result.exit_code == 0, result.output
    unnamed = "No column 'label', so mine.csv counts as texts without labels. If they are in another column (mood)"
    for expected in (unnamed, "60 texts without labels", "3 are needed to compare", "--ask STUDY", "--labels 10"):
        assert expected in result.output
    assert before == {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}


def test_match_asks_the_models_once_counts_right_answers_and_has_texts_labelled(
    finished: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, _ = finished
    monkeypatch.chdir(tmp_path)
    rows = rows_of(PARTS["mood"], 60, 7)
    for name, lines in (
        ("with.csv", [("text", "label"), *rows]),
        ("without.csv", [("text",), *((t,) for t, _ in rows)]),
    ):
        with Path(name).open("w", newline="") as handle:
            csv.writer(handle).writerows(lines)
    counted = call("match", "with.csv", "--ask", str(study), "--model", "*/mood", "--json")
    assert counted.exit_code == 0, counted.output
    (group,) = json.loads(counted.stdout)["groups"]
    assert {m["model"] for m in group["models"]} == {"tfidf/mood", "finetune/mood"}
    best = group["models"][0]
    assert best["expected"] > 0.8
    assert best["low"] < best["expected"] <= best["high"]
    asked = ("match", "without.csv", "--ask", str(study), "--model", "*/mood", "--labels", "30")
    waiting = call(*asked)
    assert "without.to_label.csv" in waiting.output
    labels = dict(rows)
    with Path("without.to_label.csv").open(newline="") as handle:
        to_label = list(csv.DictReader(handle))
    with Path("without.to_label.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, to_label[0])
        writer.writeheader()
        writer.writerows({**line, "label": labels[line["text"]]} for line in to_label)
    told = json.loads(call(*asked, "--json").stdout)
    assert (told["to_label"], told["groups"][0]["labelled"]) == ("", 30)
    for model in told["groups"][0]["models"]:
        assert model["low"] <= {m["model"]: m["expected"] for m in group["models"]}[model["model"]] <= model["high"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--model", "tfidf/mod"), "did you mean 'tfidf/mood'"),
        (("--model", "*/mood", "--classes", "x,y"), "no model answers x, y"),
    ],
)
def test_match_names_a_model_or_class_that_is_not_there(
    finished: tuple[Path, Result], tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("text\n" + "".join(f"text {i}\n" for i in range(30)))
    refused = call("match", str(file), "--ask", str(finished[0]), *arguments)
    assert refused.exit_code == 1
    assert expected in refused.output


def test_match_refuses_what_it_cannot_judge(finished: tuple[Path, Result], tmp_path: Path) -> None:
    store = ("--store", str(finished[0].parent / "store"))
    file = tmp_path / "few.csv"
    file.write_text("text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(10)))
    few, pairs = tmp_path / "unlabelled.csv", tmp_path / "pairs.csv"
    few.write_text("text\n" + "".join(f"text {i}\n" for i in range(10)))
    pairs.write_text("text,text_pair\n" + "".join(f"text {i},other {i}\n" for i in range(40)))
    for arguments, expected in (
        ((str(few),), "10 different texts; give at least 20"),
        ((str(pairs),), "what models make of two texts cannot be read out"),
        (("topic", "--rows", "30"), "--rows: for a file, and topic is none"),
        (("topic", "--label", "about", "--separator", ";"), "--label, --separator: for a file"),
        (("topic", "--keep", "copy"), "--keep: for a file"),
        ((str(file), "--ask", str(finished[0]), "--space", "s"), "--space is for a match without --ask"),
        ((str(file),), "10 labelled texts with 2 labels; give at least 20"),
        ((str(file), "--model", "tfidf/mood"), "--model is for --ask STUDY"),
        ((str(file), "--label", "text"), "of texts and of labels; they are two"),
        ((str(file), "--label", "lable"), "no column 'lable'"),
        (("topic", "--classes", "a,b"), "--classes is for a file without labels, and topic is not one"),
        ((str(file), "--labels", "5"), "--labels is for a file without labels"),
        (("topics",), "did you mean 'topic'"),
        (("topic", "--space", "none"), "no models in space none"),
    ):
        refused = call("match", *arguments, *store)
        assert refused.exit_code in (1, 2)
        assert expected in refused.output
        assert "Traceback" not in refused.output


def test_no_field_of_a_study_lacks_its_meaning() -> None:
    schema = Study.model_json_schema()
    undocumented = [
        f"{name}.{field}"
        for name, section in {"Study": schema, **schema["$defs"]}.items()
        for field, details in section.get("properties", {}).items()
        if not details.get("description")
    ]
    assert undocumented == []


def test_schema_documents_every_field() -> None:
    text = call("schema").output
    for field in ("rows_per_source", "api_key_env", "skip_bad_rows", "components", "frame"):
        assert field in text
    assert json.loads(call("schema", "--json").output)["properties"]["pool"]


def test_a_wrong_base_url_option_is_explained(tmp_path: Path) -> None:
    result = call("run", str(write_small_study(tmp_path)), "--base-url", "nonsense")
    assert result.exit_code == 2
    assert "ID=URL" in result.output
