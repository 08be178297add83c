"""The tasks of prompt selection, called as plain functions: pairs, prompts that ask twice, texts as a pool."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.select_results import choices_table, recommendation
from fute.config import BudgetConfig, EndpointConfig, PromptConfig, PromptModel, SelectConfig, SurrogateConfig
from fute.errors import ConfigError, DataError, ModelError
from fute.llm.budget import BudgetExhausted
from fute.select.candidates import Candidates
from fute.select.ranking import METHODS, Evidence
from tasks.run import Run
from tasks.select import TargetRef, _expected_accuracies, choose_prompts, target_of_file
from tasks.study import StudyParts
from tests.llm_server import LlmServer, status

LABELS = {"entailment": ["yes"], "contradiction": ["no"]}
ANIMALS = ["cat", "dog", "owl", "fox", "hen", "bat", "eel", "ant", "bee", "cow"]


def answer(prompt: str, system: str | None) -> list[tuple[str, float]]:
    """Says yes where both texts name the same animal, and is unsure before it was made to think."""
    if "Think" in prompt and "So?" not in prompt:
        return [("hm", 0.9), ("yes", 0.05)]
    lines = prompt.split("\n")
    same = lines[1].split()[-1] == lines[2].split()[-1]
    sure = 0.95 if "So?" in prompt else 0.7
    yes = sure if same else 1 - sure
    return sorted([("yes", yes), ("no", 1 - yes)], key=lambda pair: -pair[1])


def run_in(folder: Path) -> Run:
    return Run(study="pairs", store=str(folder / "store"), base_dir=str(folder), seed=0)


def pairs_file(folder: Path) -> Path:
    rows = [f"this is a {one},that is a {other}" for one in ANIMALS for other in (one, ANIMALS[ANIMALS.index(one) - 1])]
    (folder / "pairs.csv").write_text("first,second\n" + "\n".join(rows) + "\n")
    return folder / "pairs.csv"


def target_in(folder: Path) -> TargetRef:
    return target_of_file.fn(run_in(folder), str(pairs_file(folder)), "first", "second", 12)


def parts(base_url: str, *prompts: PromptConfig) -> StudyParts:
    endpoint = EndpointConfig(id="api", base_url=base_url, service="test", model="m", max_attempts=1)
    return StudyParts(surrogate=SurrogateConfig(), endpoints={"api": endpoint}, prompts={p.id: p for p in prompts})


def models(*prompts: PromptConfig) -> list[PromptModel]:
    return [PromptModel(kind="prompt", id=f"{p.id}/api", prompt=p.id, endpoint="api") for p in prompts]


DIRECT = PromptConfig(id="direct", template="Same?\n{{premise}}\n{{hypothesis}}", verbalizer=LABELS)
OTHER = PromptConfig(id="other", template="Alike?\n{{premise}}\n{{hypothesis}}", verbalizer=LABELS)
STEPS = PromptConfig(
    id="steps", template="Think.\n{{premise}}\n{{hypothesis}}", verbalizer=LABELS, cot=True, follow_up="So?"
)


def test_a_file_of_pairs_becomes_a_target_of_so_many_rows(tmp_path: Path) -> None:
    target = target_in(tmp_path)
    assert (target.name, target.rows) == ("pairs.csv", 12)
    inputs = run_in(tmp_path).open_store().pool(target.pool).inputs
    assert inputs.pairs is not None
    assert all(pair and pair.startswith("that is a") for pair in inputs.pairs)


def test_a_file_that_is_no_target_is_refused_in_words_of_the_command(tmp_path: Path) -> None:
    def refused(name: str, text: str = "text", pair: str | None = None) -> str:
        with pytest.raises((ConfigError, DataError)) as caught:
            target_of_file.fn(run_in(tmp_path), str(tmp_path / name), text, pair, 12)
        return str(caught.value).replace(str(tmp_path), "here")

    pairs_file(tmp_path)
    (tmp_path / "blank.csv").write_text('text\n" "\n')
    assert refused("blank.csv") == "here/blank.csv has no texts in column 'text'"
    assert refused("pairs.csv") == "pairs.csv: no column 'text'. Columns there: first, second; --text names the column"
    assert "no column 'third'" in (told := refused("pairs.csv", "first", "third"))
    assert told.endswith("; --text-pair names the column")
    assert refused("other.csv").startswith("there is no file 'here/other.csv'")


def test_a_prompt_that_asks_twice_costs_two_calls_a_text(tmp_path: Path) -> None:
    config = SelectConfig(share=1.0, resamples=10)
    with LlmServer(answer) as server:
        target = target_in(tmp_path)
        found = choose_prompts.fn(
            run_in(tmp_path), config, models(DIRECT, STEPS), parts(server.base_url, DIRECT, STEPS), target, []
        )
        calls = {c.id: c.calls for c in found.choices}
        assert server.n_requests == 36
    assert calls == {"direct/api": 12, "steps/api": 24}
    assert found.choices[0].id == "steps/api"
    assert found.references == []
    assert Path(found.report).is_file()


def test_prompts_for_different_labels_are_refused_before_a_call(tmp_path: Path) -> None:
    other = PromptConfig(id="other", template="{{premise}} {{hypothesis}}", verbalizer={"a": ["x"], "b": ["y"]})
    with LlmServer(answer) as server:
        target = target_in(tmp_path)
        with pytest.raises(ConfigError, match="prompt other answers a, b, and prompt direct entailment, contradiction"):
            choose_prompts.fn(
                run_in(tmp_path),
                SelectConfig(),
                models(DIRECT, other),
                parts(server.base_url, DIRECT, other),
                target,
                [],
            )
        assert server.n_requests == 0


def test_an_unknown_method_is_refused_before_a_call(tmp_path: Path) -> None:
    with LlmServer(answer) as server:
        target = target_in(tmp_path)
        config = SelectConfig(method="entropy")
        with pytest.raises(ConfigError, match="no selection method 'entropy'"):
            choose_prompts.fn(run_in(tmp_path), config, models(DIRECT), parts(server.base_url, DIRECT), target, [])
        assert server.n_requests == 0


def test_when_nobody_answers_the_reasons_are_told(tmp_path: Path) -> None:
    target = target_in(tmp_path)
    gone = parts("http://127.0.0.1:9/v1", DIRECT)
    with pytest.raises(ModelError, match="none of 1 candidates answered a single text of pairs.csv: direct/api: "):
        choose_prompts.fn(run_in(tmp_path), SelectConfig(share=1.0), models(DIRECT), gone, target, [])


def test_a_prompt_for_free_text_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    free = PromptConfig(id="free", template="Summarise.\n{{premise}}\n{{hypothesis}}", answer="text")
    with LlmServer(answer) as server:
        with pytest.raises(ConfigError, match=r"prompt free answers in free text"):
            choose_prompts.fn(
                run_in(tmp_path), SelectConfig(), models(DIRECT, free), parts(server.base_url, DIRECT, free),
                target_in(tmp_path), [],
            )  # fmt: skip
        assert server.n_requests == 0


def test_every_method_keeps_to_the_share_of_calls_by_the_servers_count(tmp_path: Path) -> None:
    for method, candidates, most in (("global_entropy", [DIRECT, STEPS], 12), ("auto", [DIRECT], 4)):
        config = SelectConfig(method=method, share=0.34, resamples=5)
        with LlmServer(answer) as server:
            folder = tmp_path / method
            folder.mkdir()
            found = choose_prompts.fn(
                run_in(folder), config, models(*candidates), parts(server.base_url, *candidates), target_in(folder), []
            )
            assert 0 < server.n_requests == sum(c.calls for c in found.choices) <= most
        assert found.share <= 0.34
        assert {c.rows for c in found.choices} == {4}


def test_what_was_paid_before_a_failure_is_counted(tmp_path: Path) -> None:
    with LlmServer(answer) as server:
        target = target_in(tmp_path)
        both = parts(server.base_url, DIRECT, OTHER)
        one_at_a_time(both)
        server.misbehave(lambda exchange, request: False, times=5)
        server.misbehave(status(402))
        found = choose_prompts.fn(
            run_in(tmp_path), SelectConfig(share=1.0, resamples=5), models(DIRECT, OTHER), both, target, []
        )
        assert [f.subject for f in found.failures] == ["direct/api"]
        assert {c.id: c.calls for c in found.choices} == {"direct/api": 5, "other/api": 12}
        assert server.n_requests == 18


def test_a_used_up_budget_stops_all_endpoints_and_says_what_was_spent(tmp_path: Path) -> None:
    with LlmServer(answer) as server:
        target = target_in(tmp_path)
        both = parts(server.base_url, DIRECT)
        one_at_a_time(both)
        both.endpoints["twin"] = both.endpoints["api"].model_copy(update={"id": "twin", "service": "twin"})
        both = both.model_copy(update={"budget": BudgetConfig(max_calls=7)})
        twins = [PromptModel(kind="prompt", id=f"direct/{e}", prompt="direct", endpoint=e) for e in both.endpoints]
        with pytest.raises(BudgetExhausted, match=r"the budget of the run is used up.*until then: 7 calls, \d+ tokens"):
            choose_prompts.fn(run_in(tmp_path), SelectConfig(share=1.0), twins, both, target, [])
        assert server.n_requests == 7


@pytest.mark.parametrize("logprobs", [True, False])
def test_of_two_prompts_the_one_that_always_says_the_same_is_not_recommended(tmp_path: Path, logprobs: bool) -> None:
    def lazy(prompt: str, system: str | None) -> list[tuple[str, float]]:
        return [("yes", 0.9), ("no", 0.1)] if "Alike?" in prompt else answer(prompt, system)

    with LlmServer(lazy) as server:
        given = parts(server.base_url, DIRECT, OTHER)
        given.endpoints["api"] = given.endpoints["api"].model_copy(update={"logprobs": logprobs})
        both = models(OTHER, DIRECT)
        found = choose_prompts.fn(run_in(tmp_path), SelectConfig(share=1.0), both, given, target_in(tmp_path), [])
    assert (found.method, found.choices[0].id) == ("mutual_information", "direct/api")
    # Answers without probabilities differ as much where they are noise.
    assert recommendation(found).startswith("Recommended: direct/api" if logprobs else "Nobody is recommended: fewer")


def test_spell_prefers_the_prompt_that_reads_most_naturally_and_asks_for_no_answer(tmp_path: Path) -> None:
    """At this server every letter of a token halves its probability, so short words read best."""
    wordy = PromptConfig(id="wordy", template="Same? Incomprehensibly?\n{{premise}}\n{{hypothesis}}", verbalizer=LABELS)
    with LlmServer(answer) as server:
        target = target_in(tmp_path)
        given = parts(server.base_url, DIRECT, wordy)
        given.endpoints["api"] = given.endpoints["api"].model_copy(update={"api": "openai_completions"})
        found = choose_prompts.fn(
            run_in(tmp_path), SelectConfig(method="spell", share=0.5), models(wordy, DIRECT), given, target, []
        )
        assert server.n_requests == 12
        assert all(request["echo"] and request["max_tokens"] == 0 for request in server.requests)
    assert [c.id for c in found.choices] == ["direct/api", "wordy/api"]
    assert found.choices[0].expected_accuracy is None
    assert (found.method, found.others) == ("spell", {})


def test_spell_is_refused_where_no_endpoint_tells_how_probable_a_prompt_is(tmp_path: Path) -> None:
    with LlmServer(answer) as server:
        target = target_in(tmp_path)
        with pytest.raises(ModelError, match="method spell: direct/api is asked over api openai_chat.*completions"):
            choose_prompts.fn(
                run_in(tmp_path),
                SelectConfig(method="spell"),
                models(DIRECT),
                parts(server.base_url, DIRECT),
                target,
                [],
            )
        assert server.n_requests == 0


def one_at_a_time(given: StudyParts) -> None:
    """The order of requests is then the order of texts."""
    given.endpoints["api"] = given.endpoints["api"].model_copy(update={"max_concurrency": 1})


def leaning(prompt: str, system: str | None) -> list[tuple[str, float]]:
    """Says yes to everything: to "Same?" less surely where the animals differ, to "Alike?" whatever they are."""
    question, first, second = prompt.split("\n")
    says_nothing = first == second
    yes = 0.8 if says_nothing else 0.95 if first.split()[-1] == second.split()[-1] else 0.6
    return [("yes", yes if question == "Same?" else 0.9), ("no", 1 - (yes if question == "Same?" else 0.9))]


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("calibration", ["none", "content_free", "marginal"])
def test_candidates_are_compared_calibrated_as_the_study_says(tmp_path: Path, calibration: str, share: float) -> None:
    config = SelectConfig(share=share, resamples=0, method="auto" if share < 1 else "mutual_information")
    chosen = [m.model_copy(update={"calibration": calibration}) for m in models(DIRECT, OTHER)]
    with LlmServer(leaning) as server:
        run, studied = run_in(tmp_path), parts(server.base_url, DIRECT, OTHER)
        target = target_in(tmp_path)
        found = choose_prompts.fn(run, config, chosen, studied, target, [])
        asked = sum(choice.rows for choice in found.choices)
        n = server.n_requests
        assert n == sum(choice.calls for choice in found.choices) == asked + (6 if calibration == "content_free" else 0)
        again = choose_prompts.fn(run, config, chosen, studied, target, [])
        assert server.n_requests == n
    assert [c.id for c in again.choices] == [c.id for c in found.choices]
    best = next(c for c in found.choices if c.id == "direct/api")
    if share == 1:  # with two candidates and few texts the sign is a matter of chance
        assert best is found.choices[0]
    assert {c.calibration for c in found.choices} == {calibration}
    said = recommendation(found.model_copy(update={"choices": [best]}))
    if calibration == "none":
        assert best.bias is None
        assert "calibrated" not in said
    else:
        assert best.bias is not None
        assert best.bias["contradiction"] > 0.5
        assert f"chosen calibrated ({calibration}) and must be used so" in said
        assert "contradiction +" in said
    headers = [str(column.header) for column in choices_table(found).columns]
    assert ("calibration" in headers) == (calibration != "none")


def certain(prompt: str, system: str | None) -> list[tuple[str, float]]:
    """One word and no other."""
    _, first, second = prompt.split("\n")
    return [("yes" if first.split()[-1] == second.split()[-1] else "no", 1.0)]


def test_where_no_answer_tells_how_sure_it_is_nothing_is_said_to_be_calibrated(tmp_path: Path) -> None:
    config = SelectConfig(share=1, resamples=0, method="mutual_information")
    chosen = [m.model_copy(update={"calibration": "marginal"}) for m in models(DIRECT, OTHER)]
    with LlmServer(certain) as server:
        studied = parts(server.base_url, DIRECT, OTHER)
        found = choose_prompts.fn(run_in(tmp_path), config, chosen, studied, target_in(tmp_path), [])
    assert {(c.calibration, c.bias) for c in found.choices} == {("none", None)}
    assert "calibrated" not in recommendation(found)


def test_expected_accuracy_is_less_than_what_is_agreed_on_and_unknown_of_two() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=300)
    said = np.where(rng.random((5, 300)) < 0.85, truth, 1 - truth)
    everyone = Candidates(tuple("abcde"), np.eye(2)[said], np.ones((5, 300), bool), ("no", "yes"), np.ones(5, np.int64))
    told = _expected_accuracies(Evidence(everyone))
    for accuracy, by_agreement in zip(told, METHODS["consensus"](Evidence(everyone)), strict=True):
        assert accuracy is not None
        assert accuracy.low < accuracy.expected < by_agreement
        assert accuracy.low <= 0.85 <= accuracy.high
    silent = np.concatenate([everyone.answered, np.zeros((7, 300), bool)])
    values = np.concatenate([everyone.probabilities, np.zeros((7, 300, 2))])
    more = Candidates(tuple("abcdefghijkl"), values, silent, ("no", "yes"), np.ones(12, np.int64))
    assert _expected_accuracies(Evidence(more)) == [*told, *[None] * 7]  # an endpoint that is down says nothing
    assert _expected_accuracies(Evidence(everyone.some(np.arange(2)))) == [None, None]
    assert _expected_accuracies(Evidence(everyone.rows(np.arange(0)))) == [None] * 5
