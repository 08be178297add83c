"""Starting a study: what `fute init` makes of a folder, what `fute check` finds before a run, one section of the
schema, and how errors are told."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from flows.cli import main
from flows.commands import Commands
from fute.first_study import first_study
from tests.flows.small_study import write_small_study
from tests.fute.tiny_surrogates import save_tiny

WORDS = ("grey", "tall", "soft", "late", "near", "warm", "short", "plain", "round", "quiet", "early", "sweet")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env={"FUTE_TEST_CALLS": "/dev/null"})


def texts(number: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [f"{' '.join(draw.choices(WORDS, k=6))} {seed} {row}" for row in range(number)]


def write_csv(path: Path, **columns: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as lines:
        csv.writer(lines).writerows([list(columns), *zip(*columns.values(), strict=True)])


def classes(number: int, names: str = "abc") -> list[str]:
    return [names[row % len(names)] for row in range(number)]


def started(folder: Path) -> tuple[dict[str, Any], str]:
    """The study that `fute init` writes, which `fute check` must accept as it is; and what it said."""
    told = call("init", str(folder))
    assert told.exit_code == 0, told.output
    checked = call("check", str(folder / "study.yaml"))
    assert checked.exit_code == 0, checked.output
    return yaml.safe_load((folder / "study.yaml").read_text()), told.output


def test_a_study_is_made_of_what_lies_in_a_folder_and_accepted_as_it_is(tmp_path: Path) -> None:
    for split, seed in (("train", 1), ("test", 2)):
        write_csv(tmp_path / "tickets" / f"{split}.csv", nr=list(range(60)), body=texts(60, seed), queue=classes(60))
    write_csv(tmp_path / "nli.csv", side_a=texts(40, 3), side_b=texts(40, 4), label=classes(40, "en"))
    write_csv(tmp_path / "gaps.csv", text=["", *texts(39, 5)], label=classes(40))
    write_csv(tmp_path / "stars.csv", text=texts(40, 6), label=[row / 7 for row in range(40)])
    write_csv(tmp_path / "vendor.csv", text=texts(90, 7), predicted=classes(90))
    for number in range(3):
        write_csv(tmp_path / "plain" / f"{number}.csv", text=texts(20, 10 + number))
    save_tiny("bert", tmp_path / "judge")
    config = json.loads((tmp_path / "judge" / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (tmp_path / "judge" / "config.json").write_text(json.dumps(config))

    study, told = started(tmp_path)
    assert study["datasets"] == [
        {"id": "gaps", "data": {"files": "gaps.csv"}, "skip_bad_rows": True},
        {"id": "nli", "data": {"files": "nli.csv"}, "text": "side_a", "text_pair": "side_b"},
        {"id": "stars", "data": {"files": "stars.csv"}, "task": "regression"},
        {"id": "tickets", "data": {"files": {"train": "tickets/train.csv", "test": "tickets/test.csv"}},
         "text": "body", "label": "queue"},
    ]  # fmt: skip
    assert study["models"] == [
        {"kind": "trained", "recipe": "tfidf", "dataset": "*"},
        {"kind": "transformers", "id": "judge", "model": "./judge"},
        {
            "kind": "predictions",
            "id": "vendor",
            "file": "vendor.csv",
            "row": None,
            "text": "text",
            "label": "predicted",
        },
    ]
    assert [source["data"]["files"] for source in study["pool"]["sources"]] == ["plain/*.csv", "vendor.csv"]
    assert "took  tickets/test.csv: dataset tickets, test: texts in body, 3 labels in queue; not used: nr" in told
    assert "rows without text or label are left out" in told


def test_no_labelled_file_is_lost_to_another_of_its_name(tmp_path: Path) -> None:
    for name, start in (("tickets.csv", 0), ("mails-val.csv", 40), ("mails-test.csv", 80)):
        write_csv(tmp_path / name, text=texts(40, start), label=classes(40))
    more = [{"text": text, "label": label} for text, label in zip(texts(40, 120), classes(40), strict=True)]
    (tmp_path / "tickets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in more))
    write_csv(tmp_path / "unlabelled" / "a.csv", text=texts(60, 200))
    study = first_study(tmp_path)
    assert {entry["id"]: entry["data"]["files"] for entry in study.datasets} == {
        "mails": {"train": "mails-val.csv", "test": "mails-test.csv"},
        "tickets": "tickets.csv",
        "tickets.jsonl": "tickets.jsonl",
    }


def test_labels_are_not_given_up_for_a_column_of_predictions(tmp_path: Path) -> None:
    write_csv(tmp_path / "scored.csv", text=texts(40, 0), label=classes(40), prediction=classes(40))
    write_csv(tmp_path / "news.csv", text=texts(40, 40), topic=classes(40), predictor=list(range(40)))
    write_csv(tmp_path / "unlabelled.csv", text=texts(60, 200))
    study = first_study(tmp_path)
    assert [entry["id"] for entry in study.datasets] == ["news", "scored"]
    assert "not used: prediction" in study.taken["scored.csv"]


def test_labels_of_most_unlabelled_texts_may_be_answers_and_that_is_said(tmp_path: Path) -> None:
    write_csv(tmp_path / "pool.csv", text=texts(60, 0))
    write_csv(tmp_path / "vendor.csv", text=texts(45, 0), answer=classes(45))
    write_csv(tmp_path / "own.csv", text=texts(40, 100), label=classes(40))
    study = first_study(tmp_path)
    assert "if these labels are what a model answered, take it out, and add" in study.taken["vendor.csv"]
    assert "predictions" not in study.taken["own.csv"]


def test_what_is_left_is_said_with_the_reason(tmp_path: Path) -> None:
    write_csv(tmp_path / "good.csv", text=texts(40), label=classes(40))
    write_csv(tmp_path / "few.csv", text=texts(8, 1), label=classes(8, "ab"))
    write_csv(tmp_path / "either.csv", text=texts(40, 2), language=classes(40), region=classes(40, "xy"))
    write_csv(tmp_path / "numbers.csv", a=list(range(40)), b=list(range(40)))
    write_csv(tmp_path / "by_row.csv", row=list(range(40)), prediction=classes(40))
    save_tiny("bert", tmp_path / "plain_bert")
    (tmp_path / "empty_model").mkdir()
    (tmp_path / "empty_model" / "config.json").write_text("{}")
    for name in ("old.pkl", "pipeline.skops", "own.py", "notes.md"):
        (tmp_path / name).write_bytes(b"never opened: \x80")
    _, told = started(tmp_path)
    for name, reason in {
        "few.csv": "8 usable rows",
        "either.csv": "any of language, region may be the label",
        "numbers.csv": "no column of texts among a, b",
        "by_row.csv": "numbered by a pool",
        "plain_bert": "a BertModel answers nothing by itself",
        "empty_model": "safetensors",
        "old.pkl": "a pickle runs whatever code is in it",
        "pipeline.skops": "skops.io.load",
        "own.py": "kind: python",
        "other files": "1 .md",
    }.items():
        (line,) = [line for line in told.splitlines() if line.startswith(f"left  {name}: ")]
        assert reason in line
    assert "#   old.pkl: a pickle" in (tmp_path / "study.yaml").read_text()


def test_without_other_texts_the_pool_is_the_datasets_own_and_says_so(tmp_path: Path) -> None:
    for folder in ("one", "two"):  # four sources of two names
        for split in ("train", "test"):
            write_csv(
                tmp_path / folder / f"{split}.csv",
                text=texts(40, len(folder + split) + ord(folder[0])),
                label=classes(40),
            )
    study, _ = started(tmp_path)
    assert study["pool"]["exclude_evaluated"] is False
    assert len({source["id"] for source in study["pool"]["sources"]}) == 4
    assert "No other texts were found" in (tmp_path / "study.yaml").read_text()


def test_init_overwrites_nothing_and_writes_nothing_that_could_not_run(tmp_path: Path) -> None:
    (tmp_path / "old.pkl").write_bytes(b"x")
    refused = call("init", str(tmp_path))
    assert refused.exit_code == 1
    assert "lacks texts" in refused.output
    assert "old.pkl: a pickle" in refused.output
    assert not (tmp_path / "study.yaml").exists()
    (tmp_path / "study.yaml").write_text("mine")
    assert "is there already" in call("init", str(tmp_path)).output
    assert (tmp_path / "study.yaml").read_text() == "mine"


FUNCTIONS = '''
def unary(texts): return [[0.5, 0.5] for _ in texts]
def binary(texts, pairs): return [[0.2, 0.8] if "o" in text else [0.7, 0.3] for text in texts]
def words(texts, pairs): print("a line of its own"); return ["yes" for _ in texts]
def counts(texts, pairs): return [len(text) % 2 for text in texts]
def degrees(texts, pairs): return [len(text) / 7 for text in texts]
def silent(texts, pairs): return [None for _ in texts]
def method(surrogate, features): return None
'''  # fmt: skip


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"kind": "python", "entry_point": "fn:unary"}, "write `def unary(texts, pairs)`"),
        ({"kind": "python", "entry_point": "fn:binary", "kwargs": {"power": 2}}, "`def binary(texts, pairs, power)`"),
        ({"kind": "python", "entry_point": "fn:words"}, "write `outputs: labels`"),
        ({"kind": "python", "entry_point": "fn:counts"}, "write `outputs: labels`"),
        ({"kind": "python", "entry_point": "fn:degrees"}, "write `outputs: scores`"),
        ({"kind": "python", "entry_point": "fn:binary", "outputs": "labels"}, "write `outputs: probabilities`"),
        ({"kind": "sklearn", "entry_point": "fn:binary"}, "`def binary()`, which returns the fitted pipeline"),
        (
            {"kind": "predictions", "file": "answers.csv", "row": None, "text": "text", "label": "answer"},
            "none of the 2 rows of answers.csv belongs to one of the pool's",
        ),
        ({"kind": "python", "entry_point": "fn:silent"}, None),  # it may have answers to other rows
        ({"kind": "python", "entry_point": "fn:words", "outputs": "labels"}, None),
    ],
)
def test_check_tries_each_model_and_says_what_to_write(tmp_path: Path, model: dict[str, Any], told: str | None) -> None:
    (tmp_path / "fn.py").write_text(FUNCTIONS)
    write_csv(tmp_path / "answers.csv", text=["of no", "such pool"], answer=["a", "b"])
    study = write_small_study(tmp_path, models=[{"id": "mine", **model}])
    result = call("check", str(study), "--json")
    steps = {(s["stage"], s["subject"]): s["state"] for s in json.loads(result.stdout)}
    assert steps["outputs", "mine"] == ("to do" if told is None else "would fail")
    assert result.exit_code == (0 if told is None else 1)
    assert (told or "") in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "store").exists()


def test_check_looks_at_the_signature_of_a_method(tmp_path: Path) -> None:
    (tmp_path / "fn.py").write_text(FUNCTIONS)
    study = write_small_study(tmp_path, methods=[{"method": "python", "entry_point": "fn:method"}])
    result = call("check", str(study))
    assert result.exit_code == 1
    assert "write `def method(surrogate, features, pool, seed)`" in result.output


@pytest.mark.parametrize(
    ("section", "shown", "hidden"),
    [
        ("pool", "PoolConfig: ", "SurrogateConfig: "),
        ("sklearn", "a fitted pipeline that takes a list of texts", "PythonModel: "),
        ("rows_per_source", "rows_per_source  (integer >= 1, default: 15)", "max_rows"),
        ("PromptConfig", "template", "PoolConfig: "),
        ("methods", "CrosscovConfig: ", "PoolConfig: "),
    ],
)
def test_one_section_of_the_schema(section: str, shown: str, hidden: str) -> None:
    text = call("schema", section).output
    assert shown in text
    assert hidden not in text


def test_a_section_that_is_not_there_is_named_with_the_nearest() -> None:
    refused = call("schema", "poool")
    assert refused.exit_code == 1
    assert "did you mean 'pool'" in refused.output


def test_errors_are_one_message_and_show_a_traceback_with_debug_only() -> None:
    group = Commands("fute")

    def breaks() -> None:
        raise ZeroDivisionError("\x1b[31m of a library")

    group.add_command(click.command(breaks))
    group.add_command(within := click.Group("within"))
    within.add_command(click.command(breaks))
    group.offer_debug()
    for path in (["breaks"], ["within", "breaks"]):
        short = CliRunner().invoke(group, path)
        assert short.exit_code == 1
        assert short.stderr == (
            "error: ZeroDivisionError: \\x1b[31m of a library\n"
            "fute did not expect this; --debug shows where it happened\n"
        )
        for with_debug in ([*path, "--debug"], ["--debug", *path]):
            long = CliRunner().invoke(group, with_debug)
            assert long.exit_code == 1
            assert "Traceback" in long.stderr
            assert "in breaks\n    raise ZeroDivisionError" in long.stderr


def test_every_command_takes_debug() -> None:
    def commands(group: click.Group) -> list[click.Command]:
        found: list[click.Command] = [group]
        for command in group.commands.values():
            found += commands(command) if isinstance(command, click.Group) else [command]
        return found

    assert all(any(p.name == "debug" for p in command.params) for command in commands(main))
