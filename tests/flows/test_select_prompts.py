"""Choosing a prompt through a real HTTP API: no label is looked at, nothing is asked twice, opposites are found out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from flows.cli import main
from flows.select_prompts import select_prompts
from fute.errors import ConfigError
from storage import catalog
from tasks.select import PromptSelection
from tests.flows.small_study import PARTS, write_small_study
from tests.llm_server import LlmServer

pytestmark = pytest.mark.slow

GLAD = tuple(PARTS["mood"]["glad"])
WORDS = {"glad": ["yes"], "sad": ["no"]}


def answer(prompt: str, system: str | None) -> list[tuple[str, float]]:
    """A model that reads moods, less surely the vaguer it is asked, and is always glad when asked about nothing."""
    question, _, text = prompt.partition("\n")
    glad = text.startswith(GLAD)
    sure = {"Is the writer glad?": 0.9, "Glad, perhaps?": 0.7, "Is the writer sad?": 0.1}.get(question)
    yes = 0.8 if sure is None else sure if glad else 1 - sure
    return sorted([("yes", yes), ("no", 1 - yes)], key=lambda pair: -pair[1])


def write_study(folder: Path, base_url: str, **overrides: Any) -> Path:
    questions = {"clear": "Is the writer glad?", "vague": "Glad, perhaps?", "opposite": "Is the writer sad?",
                 "empty": "Well?"}  # fmt: skip
    return write_small_study(
        folder,
        models=[{"kind": "prompt", "prompt": "*", "endpoint": "api"}],
        prompts=[
            {"id": name, "template": f"{question}\n{{{{text}}}}", "verbalizer": WORDS}
            for name, question in questions.items()
        ],
        endpoints=[{"id": "api", "base_url": base_url, "service": "test", "model": "m"}],
        select={"rows": 40, "share": 1.0, "resamples": 20},
        **overrides,
    )


def choose(study: Path, target: str, **options: Any) -> PromptSelection:
    state = select_prompts(str(study), target, **options, return_state=True)
    assert state.is_completed(), state.message
    return state.result()


def test_the_clear_prompt_is_chosen_and_asking_again_is_free(tmp_path: Path) -> None:
    with LlmServer(answer) as server:
        study = write_study(tmp_path, server.base_url)
        # Another dataset of moods is the reference; the target's own labels are turned round, and nobody notices.
        turned = write_turned(tmp_path)
        study = write_study(tmp_path, server.base_url, datasets=[*datasets(study), turned])
        first = choose(study, "turned")
        assert [c.id for c in first.choices][:2] == ["clear/api", "vague/api"]
        assert first.choices[-1].id == "opposite/api"
        assert first.method == "oriented_information"
        assert first.references == ["mood"]
        assert server.n_requests == sum(c.calls for c in first.choices) == 4 * first.target.rows
        assert all(c.tokens > 0 for c in first.choices)
        again = choose(study, "turned")
        assert server.n_requests == 4 * first.target.rows
        assert sum(c.calls for c in again.choices) == 0
        assert [c.score for c in again.choices] == [c.score for c in first.choices]
    sql = "SELECT candidate, measure, value FROM evaluations WHERE name = 'select_prompts' ORDER BY value DESC"
    rows = catalog.query(tmp_path / "store", sql).rows
    assert [(r[0], r[1]) for r in rows] == [(c.id, "oriented_information") for c in first.choices]


def test_trusted_models_are_references_and_one_without_the_labels_is_listed(tmp_path: Path) -> None:
    with LlmServer(answer) as server:
        study = write_study(tmp_path, server.base_url)
        fields = yaml.safe_load(study.read_text())
        sources = [
            {"kind": "trained", "recipe": "tfidf", "id": f"on-{name}", "dataset": name} for name in ("mood", "topic")
        ]
        fields["models"] += sources
        fields["select"] |= {"references": [], "trusted": ["on-mood", "on-topic"]}
        study.write_text(yaml.safe_dump(fields))
        # One contradicts the other, and no labelled dataset says which is right.
        target, prompts = str(write_texts(tmp_path)), ["clear", "opposite"]
        state = select_prompts(str(study), target, prompts=prompts, return_state=True)
        assert state.name == "CompletedWithFailures"
        assert "select.trusted: on-topic answers with food, sport, travel" in str(state.message)
        rows = catalog.query(tmp_path / "store", "SELECT candidate, settings FROM evaluations ORDER BY value DESC").rows
        assert [row[0] for row in rows] == ["clear/api", "opposite/api"]
        assert json.loads(rows[0][1])["references"] == ["on-mood"]
        fields["select"]["trusted"] = ["clear/api"]
        study.write_text(yaml.safe_dump(fields))
        with pytest.raises(ConfigError, match="clear/api is a prompted LLM, which is a candidate and no judge"):
            select_prompts(str(study), target)
        fields["select"]["trusted"] = ["on-moood"]
        study.write_text(yaml.safe_dump(fields))
        with pytest.raises(ConfigError, match="no model 'on-moood' in study .*did you mean 'on-mood'"):
            select_prompts(str(study), target)


def test_a_share_of_the_calls_is_enough(tmp_path: Path) -> None:
    with LlmServer(answer) as server:
        found = choose(write_study(tmp_path, server.base_url), str(write_texts(tmp_path)), share=0.5)
        assert found.choices[0].id == "clear/api"
        assert server.n_requests == sum(c.calls for c in found.choices) <= 0.5 * 4 * found.target.rows
        assert found.share <= 0.5
        assert {c.rows for c in found.choices} != {found.target.rows}


def test_a_prompt_that_fails_is_listed_and_the_others_are_ranked(tmp_path: Path) -> None:
    with LlmServer(answer) as server:
        study = write_study(tmp_path, server.base_url)
        text = study.read_text().replace("endpoint: api", "endpoint: '*'").replace(
            "endpoints:", "endpoints:\n- {id: gone, base_url: 'http://127.0.0.1:9/v1', model: m, max_attempts: 1}", 1
        )  # fmt: skip
        study.write_text(text)
        state = select_prompts(str(study), str(write_texts(tmp_path)), prompts=["clear", "vague"], return_state=True)
    assert state.name == "CompletedWithFailures"
    assert "clear/gone" in str(state.message)
    rows = catalog.query(tmp_path / "store", "SELECT candidate FROM evaluations ORDER BY value DESC").rows
    assert rows[0] == ("clear/api",)


def test_a_prompt_for_the_target_with_a_label_written_wrong_is_listed(tmp_path: Path) -> None:
    with LlmServer(answer) as server:
        study = write_study(tmp_path, server.base_url)
        fields = yaml.safe_load(study.read_text())
        fields["prompts"][0] |= {"task": "mood", "verbalizer": {"gald": ["yes"], "sad": ["no"]}}
        study.write_text(yaml.safe_dump(fields))
        state = select_prompts(str(study), "mood", return_state=True)
    assert state.name == "CompletedWithFailures"
    assert "clear/api" in str(state.message)
    assert "answers gald, sad; mood has glad, sad" in str(state.message)
    rows = catalog.query(tmp_path / "store", "SELECT candidate FROM evaluations ORDER BY candidate").rows
    assert [row[0] for row in rows] == ["empty/api", "opposite/api", "vague/api"]


def test_another_surrogate_is_another_selection_where_references_speak_through_it(tmp_path: Path) -> None:
    with LlmServer(answer) as server:
        study = write_study(tmp_path, server.base_url)
        first = choose(study, str(write_texts(tmp_path)))
        fields = yaml.safe_load(study.read_text())
        fields["surrogate"] = {**fields.get("surrogate", {}), "max_tokens": 16}
        study.write_text(yaml.safe_dump(fields))
        second = choose(study, str(write_texts(tmp_path)))
        assert first.references == second.references == ["mood"]
    assert first.key != second.key
    assert catalog.query(tmp_path / "store", "SELECT count(*) FROM evaluations").rows == [(8,)]


def test_prompts_with_other_labels_and_unknown_prompts_are_refused(tmp_path: Path) -> None:
    study = write_study(tmp_path, "http://127.0.0.1:9/v1")
    with pytest.raises(ConfigError, match="no prompt 'cleer'"):
        select_prompts(str(study), "mood", prompts=["cleer"])
    with pytest.raises(ConfigError, match="no prompted models that answer with food, sport, travel"):
        select_prompts(str(study), "topic")
    fields = yaml.safe_load(study.read_text())
    fields["prompts"][1]["verbalizer"] = {"glad": ["yes"], "gloomy": ["no"]}
    study.write_text(yaml.safe_dump(fields))
    with pytest.raises(ConfigError, match="choose among prompts for one task"):
        select_prompts(str(study), str(write_texts(tmp_path)))


def test_the_command_shows_the_table_the_recommendation_and_the_cost(tmp_path: Path) -> None:
    texts = write_texts(tmp_path)
    with LlmServer(answer) as server:
        study = write_study(tmp_path, server.base_url)
        shown = CliRunner().invoke(main, ["select", "prompts", str(study), "--target", str(texts)])
        assert shown.exit_code == 0, shown.output
        told = CliRunner().invoke(main, ["select", "prompts", str(study), "--target", str(texts), "--json"])
    assert "Recommended: clear/api (prompt clear, endpoint api)." in shown.stdout
    assert "global_entropy" in shown.stdout
    assert "100% of asking everything" in shown.stdout
    assert json.loads(told.stdout[told.stdout.index("{") :])["choices"][0]["id"] == "clear/api"


def datasets(study: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(study.read_text())["datasets"]
    return found


def moods() -> list[tuple[str, str]]:
    """Texts of no dataset: the same moods with other endings."""
    endings = (" indeed", " of late", " I think", " to be fair", " as ever", " believe me")
    return [(stem + ending, mood) for mood, stems in PARTS["mood"].items() for stem in stems for ending in endings]


def write_texts(folder: Path) -> Path:
    path = folder / "texts.csv"
    path.write_text("text\n" + "\n".join(text for text, _ in moods()) + "\n")
    return path


def write_turned(folder: Path) -> dict[str, Any]:
    path = folder / "turned.csv"
    other = {"glad": "sad", "sad": "glad"}
    path.write_text("text,label\n" + "\n".join(f"{text},{other[mood]}" for text, mood in moods()) + "\n")
    return {"id": "turned", "data": {"files": {"train": path.name}}}
