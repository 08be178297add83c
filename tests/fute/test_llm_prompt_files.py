"""Prompts as data: the sets that ship with fute, and files of one's own."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from fute.errors import ConfigError
from fute.llm.prompt_files import SETS, prompts_of_file, shipped_set, shipped_sets
from fute.llm.prompts import Template
from fute.llm.verbalizer import Verbalizer
from fute.load_study import check_study, study_from_mapping
from tests.conftest import REPOSITORY

LABELS = {"sentiment": ("negative", "positive"), "nli": ("entailment", "neutral", "contradiction")}


def study(base_dir: Path, **fields: object):
    pool = {"sources": [{"data": {"files": "*.csv"}}]}
    return study_from_mapping({"name": "s", "pool": pool, **fields}, base_dir)


def test_the_sets_that_ship_are_those_that_the_documentation_names():
    assert shipped_sets() == ["nli", "sentiment"]


@pytest.mark.parametrize("name", ["sentiment", "nli"])
def test_a_shipped_set_has_ten_direct_prompts_and_three_with_reasoning_all_of_them_usable(name):
    prompts = shipped_set(name)
    assert [sum(p.cot is cot for p in prompts) for cot in (False, True)] == [10, 3]
    assert len({p.id for p in prompts}) == 13
    assert len({p.template for p in prompts}) == 13
    for prompt in prompts:
        template, verbalizer = Template(prompt.template, prompt.id), Verbalizer(prompt.verbalizer, prompt.id)
        assert template.needs_pair == (name == "nli")
        assert verbalizer.label_names == LABELS[name]
        assert prompt.task == name
        assert (prompt.follow_up is not None) == prompt.cot


def test_answer_words_that_yaml_takes_for_booleans_are_words():
    words = {word for name in shipped_sets() for p in shipped_set(name) for ws in p.verbalizer.values() for word in ws}
    assert {"yes", "no", "true", "false"} <= words
    assert all(isinstance(word, str) for word in words)


def test_the_sets_are_part_of_the_package():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "fute.llm" in settings["packages"]
    carried = {path for pattern in settings["package-data"]["fute.llm"] for path in SETS.parent.glob(pattern)}
    assert set(SETS.iterdir()) <= carried


def test_a_set_stands_in_a_study_where_it_is_named(tmp_path):
    own = {"id": "own", "template": "{{text}}?", "verbalizer": {"a": ["x"], "b": ["y"]}}
    prompts = study(tmp_path, prompts=[{"set": "sentiment"}, own, {"set": "nli"}]).prompts
    assert len(prompts) == 27
    assert [prompts[i].id for i in (0, 13, 14)] == ["sentiment-mood", "own", "nli-follows"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"set": "sentimental"}, r"no prompt set 'sentimental'; did you mean 'sentiment'\?.*your own prompts go into"),
        ({"set": "nli", "id": "x"}, r"prompts\[0\]: write a set as \{set: nli\}, with no other field"),
        ({"set": ["nli"]}, "write a set as"),
    ],
)
def test_a_set_that_is_not_there_or_not_written_as_one_is_refused(tmp_path, entry, message):
    with pytest.raises(ConfigError, match=message):
        study(tmp_path, prompts=[entry])


def test_prompts_of_a_file_join_those_of_the_study_and_take_its_task(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        """
task: stance
prompts:
  - {id: one, template: "For it? {{text}}", verbalizer: {pro: ["yes"], con: ["no"]}}
  - {id: two, template: "Rewrite: {{text}}", answer: text, task: other}
"""
    )
    prompts = study(tmp_path, prompt_files=["mine.yaml"]).prompts
    assert [(p.id, p.task, p.answer) for p in prompts] == [("one", "stance", "label"), ("two", "other", "text")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompts: []", r"(?s)not valid:.*prompts"),
        ("prompt: x", r"(?s)not valid:.*prompt: unknown field; did you mean"),
        ("prompts:\n  - {id: a, id: b}", "stands twice"),
        ("prompts: [", "this is no YAML"),
        ("prompts:\n  - {id: a, template: x, verbalizer: {p: [a]}}", "1 labels; give two or more, or answer: text"),
        ("prompts:\n  - {id: a, template: x, verbalizer: {p: [yes], q: [no]}}", r"prompts\[0\]\.verbalizer"),
        (
            "prompts:\n  - {id: a, template: x, answer: text, verbalizer: {p: [a], q: [b]}}",
            "is not read by a verbalizer",
        ),
        ("prompts:\n  - {id: a, template: x, follow_up: y, verbalizer: {p: [a], q: [b]}}", "set cot: true"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_name_and_the_field(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        prompts_of_file(path)
    assert "mine.yaml" in str(caught.value)


def test_a_file_that_is_not_there_is_refused_with_its_near_neighbour(tmp_path):
    (tmp_path / "mine.yaml").write_text("prompts: []")
    with pytest.raises(ConfigError, match=r"there is no prompt file .*mime\.yaml; did you mean 'mine\.yaml'"):
        study(tmp_path, prompt_files=["mime.yaml"])


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"template": "{{text.__class__.__mro__}}"}, r"is no variable of a prompt; only plain names are filled in"),
        ({"template": "Is it good?"}, "holds no {{text}}, so every input would read the same"),
        ({"verbalizer": {"good": ["x"], "awful": ["y"]}}, r"unknown label 'awful'\. Dataset films has: good, bad"),
        ({"verbalizer": {"good": ["x"], "bda": ["y"]}}, r"unknown label 'bda'; did you mean 'bad'"),
        ({"verbalizer": {"good": ["x"], "bad": ["X "]}}, "stands for 'good' and for 'bad'"),
    ],
)
def test_templates_and_verbalizers_that_cannot_work_are_named_before_any_call(tmp_path, prompt, message):
    (tmp_path / "films.csv").write_text("text,label\n" + "\n".join(f"film {i},{i % 2}" for i in range(20)))
    data = {"id": "films", "data": {"files": "films.csv"}, "label_names": ["good", "bad"]}
    whole = {"id": "p", "template": "{{text}}", "verbalizer": {"good": ["x"], "bad": ["y"]}, "task": "films", **prompt}
    with pytest.raises(ConfigError, match="prompt p: .*" + message.replace("{", r"\{").replace("}", r"\}")):
        check_study(study(tmp_path, datasets=[data], prompts=[whole]))
