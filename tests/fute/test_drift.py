"""Drift on the tests' own endpoint: quiet while nothing changes, however noisy; loud when something does."""

from __future__ import annotations

import random
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from examples.demo.endpoint import Answerer
from fute.config import DriftConfig, EndpointConfig, PromptConfig, SurrogateConfig
from fute.drift import MIN_ROWS, MIN_SHARED_ROWS, Baseline, Comparison, Limits, Measure, compare, panel_rows
from fute.errors import OutputsError
from fute.llm.cache import FreshSamples, MemoryLedger
from fute.llm.client import connect
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov
from fute.methods.crosscov.whitening import Doubles
from fute.models.prompted import PromptedModel
from fute.surrogate.features import compute_features
from fute.surrogate.load import load_surrogate
from fute.types import Outputs, Pool, TextTable
from tests.flows.small_study import PARTS, rows_of
from tests.llm_server import LlmServer, default_answerer, shared_folder

CONFIG = DriftConfig()
TEXTS = [text for name in PARTS for text, _ in rows_of(PARTS[name], 24, 0)]
PANEL = TextTable(TEXTS)
ENTIRE = np.ones(len(TEXTS), bool)
QUESTION = "Is the mood of this text positive or negative?"


HARSH = "You are a harsh critic who dislikes everything."


class Noisy:
    """A host that never answers quite the same: its log-probabilities are off by `size`, anew each time it is asked.

    What it is off by hangs on the question and on how often that was asked, not on which thread asks first.
    """

    def __init__(self, answer: Answerer, size: float = 0.1) -> None:
        self._answer = lru_cache(maxsize=None)(answer)
        self._size = size
        self._asked: Counter[tuple[str, str | None]] = Counter()
        self._lock = threading.Lock()

    def __call__(self, prompt: str, system: str | None = None) -> list[tuple[str, float]]:
        with self._lock:
            self._asked[prompt, system] += 1
            nth = self._asked[prompt, system]
        words, shares = zip(*self._answer(prompt, system), strict=True)
        rng = np.random.default_rng(zlib.crc32(f"{nth} {system} {prompt}".encode()))
        logits = np.log(np.maximum(shares, 1e-30)) + self._size * rng.standard_normal(len(shares))
        moved = np.exp(logits) / np.exp(logits).sum()
        return sorted(zip(words, moved.tolist(), strict=True), key=lambda pair: -pair[1])


@pytest.fixture(scope="module")
def features() -> Doubles:
    surrogate = load_surrogate(SurrogateConfig(max_tokens=32), Path())
    pool = Pool(PANEL, ["one"] * len(PANEL))
    embedder = Crosscov(CrosscovConfig(), lambda table: compute_features(surrogate, table), pool)
    return embedder.model_rows(Outputs("scores", np.zeros((len(PANEL), 1), np.float32)))[0]


class Watched:
    """One prompted model on the server, asked anew each time."""

    def __init__(self, server: LlmServer, features: Doubles, system: str | None = None) -> None:
        words = {"positive": ["positive"], "negative": ["negative"]}
        self._prompt = PromptConfig(id="p", template=f"{QUESTION}\nText: {{{{text}}}}", system=system, verbalizer=words)
        self._endpoint = EndpointConfig(id="e", base_url=server.base_url, model="m", max_concurrency=4, service="drift")
        self._ledger = MemoryLedger()
        self._features = features
        self._asked = 0

    def ask(self) -> Outputs:
        self._asked += 1
        client = FreshSamples(connect(self._endpoint, ledger=self._ledger), f"asking {self._asked}")
        return PromptedModel("m", self._prompt, self._endpoint, completer=client).outputs(PANEL)

    def baseline(self) -> Baseline:
        askings = [self.ask() for _ in range(CONFIG.askings)]
        return Baseline(np.stack([a.values for a in askings]), np.stack([a.answered for a in askings]))

    def check(self, baseline: Baseline, seed: int = 0) -> Comparison:
        now = self.ask()
        return compare(self._features, baseline, now.values, now.answered, CONFIG, seed)


@pytest.mark.slow
def test_no_alarm_in_50_checks_of_an_unchanged_noisy_host_and_one_at_once_after_each_change(features: Doubles) -> None:
    answer = default_answerer()
    unchanged = Noisy(answer)
    with LlmServer(unchanged) as server:
        watched = Watched(server, features)
        baseline = watched.baseline()
        checks = [watched.check(baseline, seed) for seed in range(50)]
        assert server.n_requests == 52 * len(PANEL)  # all of them were asked, none came from the ledger
        assert [check.reasons for check in checks if check.drifted] == []
        assert len({check.distance for check in checks}) == 50  # no two checks got the same answers
        assert min(check.change for check in checks) > 0.005

        changed = [other_model(answer)]  # behind the same name
        if (shared_folder() / "answerer").is_dir():  # the stand-in reads no system text
            changed.append(lambda prompt, system=None: answer(prompt, HARSH))  # the host adds one of its own
            assert Watched(server, features, HARSH).check(baseline).drifted
        for other in changed:
            server.change_answers(Noisy(other))
            assert watched.check(baseline).drifted
        server.change_answers(unchanged)
        assert not watched.check(baseline).drifted


def other_model(answer: Answerer) -> Answerer:
    """Answers as the first does about half of the text: less able, of the same kind."""

    def reply(prompt: str, system: str | None = None) -> list[tuple[str, float]]:
        question, _, text = prompt.rpartition("\n")
        words = text.split()
        shown = " ".join(words[: len(words) // 2])
        shares = dict(answer(f"{question}\n{shown} not", system))
        return sorted(shares.items(), key=lambda pair: -pair[1])

    return reply


# ---------------------------------------------------------------------------------------------------------------- noise


def jitter(rng: np.random.Generator, values: np.ndarray, size: float) -> np.ndarray:
    """Log-probabilities that come out a little otherwise each time."""
    logits = np.log(values) + size * rng.standard_normal(values.shape)
    shares = np.exp(logits)
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def flips(rng: np.random.Generator, values: np.ndarray, share: float) -> np.ndarray:
    """A share of the answers comes out the other way round."""
    return np.where((rng.random(len(values)) < share)[:, None], values[:, ::-1], values)


def draws(rng: np.random.Generator, values: np.ndarray, _: float) -> np.ndarray:
    """One answer drawn at temperature 1, no log-probabilities."""
    first = rng.random(len(values)) < values[:, 0]
    return np.stack([first, ~first], axis=1).astype(np.float32)


def ties(rng: np.random.Generator, values: np.ndarray, size: float) -> np.ndarray:
    """The likelier answer, no log-probabilities: near a tie it is now the one, now the other."""
    return np.eye(2, dtype=np.float32)[jitter(rng, values, size).argmax(axis=1)]


def host(n: int, seed: int, sureness: float = 2.0, d: int = 32) -> tuple[Doubles, np.ndarray]:
    """Features, and a model that answers by a direction in them, the surer the farther along."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, d))
    positive = 1 / (1 + np.exp(-sureness * z[:, 0]))
    return z, np.stack([positive, 1 - positive], axis=1).astype(np.float32)


def synthetic(n: int = 256) -> tuple[Doubles, np.ndarray]:
    return host(n, seed=3)


Noise = tuple[Callable[..., np.ndarray], float, float]
NOISES: list[Noise] = [  # with the model's sureness
    (flips, 0.002, 2.0),
    (flips, 0.005, 2.0),
    (flips, 0.002, 20.0),
    (flips, 0.005, 20.0),
    (flips, 0.05, 8.0),
    (ties, 0.05, 2.0),
    (ties, 0.2, 2.0),
    (jitter, 0.01, 2.0),
    (jitter, 0.5, 2.0),
    (draws, 0.0, 2.0),
]


def measured(noise: Noise, n: int, seed: int) -> tuple[Measure, Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """A baseline, how the host answers what it answers at heart, and that."""
    way, size, sureness = noise
    z, values = host(n, seed, sureness)
    rng = np.random.default_rng(seed)

    def ask(values: np.ndarray) -> np.ndarray:
        return way(rng, values, size).astype(np.float64)

    return Measure.of(z, np.stack([ask(values) for _ in range(CONFIG.askings)])), ask, values


def alarmed(measure: Measure, limits: Limits, answers: np.ndarray) -> bool:
    distance, change = measure(answers)
    return distance > limits.distance_threshold or change > limits.change_threshold


@pytest.mark.slow
@pytest.mark.parametrize("n", [60, 128, 256])
def test_an_endpoint_that_answers_otherwise_now_and_then_raises_no_alarm_in_50_checks(n: int) -> None:
    alarms = []
    for noise in NOISES:
        for seed in range(4):
            measure, ask, values = measured(noise, n, seed)
            limits = measure.limits(CONFIG, seed)
            if any(alarmed(measure, limits, ask(values)) for _ in range(50)):
                alarms.append((noise[0].__name__, noise[1:], seed))
    assert len(alarms) <= 1, alarms  # of 40 baselines, with 2,000 checks


@pytest.mark.parametrize("n", [60, 128, 256])
def test_an_endpoint_that_refuses_now_and_then_raises_no_alarm_in_50_checks(n: int) -> None:
    rng = np.random.default_rng(n)
    for share in (0.0, 0.02, 0.05, 0.1, 0.3):
        alarms = 0
        for _ in range(100):
            baseline = Baseline(np.zeros((2, n, 2), np.float32), rng.random((2, n)) > share)
            checks = rng.random((50, n)) > share
            fallen = baseline.answered.mean() - checks.mean(axis=1)
            shared = checks[:, baseline.rows].sum(axis=1)
            alarms += bool((fallen > baseline.silence_threshold(CONFIG)).any() or shared.min() < MIN_SHARED_ROWS)
        assert alarms <= 1, share


def test_refusals_of_a_small_panel_are_compared_with_what_is_left_of_it() -> None:
    z, values = synthetic(60)
    rng = np.random.default_rng(0)
    baseline = Baseline(np.stack([values, values]), rng.random((2, 60)) > 0.4)
    checks = [compare(z, baseline, values, rng.random(60) > 0.4, CONFIG, 0) for _ in range(10)]
    assert [check.reasons for check in checks if check.drifted] == []
    assert min(check.rows for check in checks) < MIN_ROWS  # too few for a baseline
    (reason,) = compare(z, baseline, values, rng.random(60) > 0.9, CONFIG, 0).reasons
    assert reason.startswith("it answered 1")


def test_a_real_change_is_seen_in_one_check_through_each_noise() -> None:
    n = 256
    for noise in NOISES[:-1]:  # of draws at temperature 1 a third come out otherwise each time
        for seed in range(2):
            measure, ask, values = measured(noise, n, seed)
            limits = measure.limits(CONFIG, seed)
            quarter = np.random.default_rng(seed).random(n) < 0.25
            for changed in (
                host(n, seed + 100, noise[2])[1],  # another model
                values[:, ::-1],
                np.where(quarter[:, None], values[:, ::-1], values),
            ):
                assert alarmed(measure, limits, ask(changed)), (noise, seed)


def test_one_alarm_takes_more_than_the_few_rows_that_an_unchanged_endpoint_may_not_have_shown() -> None:
    z, values = host(256, 0, sureness=20.0)
    few, many = (np.where(np.arange(256)[:, None] < n, values[:, ::-1], values) for n in (3, 10))
    entire = np.ones(256, bool)
    baseline = Baseline(np.stack([values, values]), np.stack([entire, entire]))
    assert not compare(z, baseline, few, entire, CONFIG, 0).drifted
    assert compare(z, baseline, many, entire, CONFIG, 0).drifted


def test_a_change_is_seen_through_noise():
    z, values = synthetic()
    rng = np.random.default_rng(0)
    turned = values[np.argsort(np.random.default_rng(9).random(len(z)))]  # answers by something else
    baseline = Baseline(np.stack([jitter(rng, values, 0.5) for _ in range(2)]), np.ones((2, len(z)), bool))
    check = compare(z, baseline, jitter(rng, turned, 0.5), np.ones(len(z), bool), CONFIG, 0)
    assert len(check.reasons) == 2


# --------------------------------------------------------------------------------------------------- what each one sees


def check_of(values: np.ndarray, answered: np.ndarray | None = None) -> Comparison:
    z, base = synthetic()
    entire = np.ones(len(z), bool)
    baseline = Baseline(np.stack([base, base]), np.stack([entire, entire]))
    return compare(z, baseline, values, entire if answered is None else answered, CONFIG, 0)


def test_the_opposite_answer_is_seen_in_the_answers_since_the_embedding_does_not_see_it():
    check = check_of(synthetic()[1][:, ::-1])
    assert check.distance == pytest.approx(0, abs=1e-9)
    assert [reason.split()[1] for reason in check.reasons] == ["answers"]


def test_a_change_that_would_not_matter_is_no_alarm():
    values = synthetic()[1]
    assert not check_of(np.roll(values, 1, axis=0) * 0.01 + values * 0.99).drifted


def test_a_model_that_falls_silent_is_an_alarm():
    values = synthetic()[1]
    fewer = np.arange(len(values)) % 2 == 0
    assert check_of(values, fewer).reasons == ("it answered 50% of the panel, and 100% at first",)
    assert check_of(values, np.zeros(len(values), bool)).reasons == ("it answered 0% of the panel, and 100% at first",)


def test_a_baseline_without_answers_or_without_a_task_is_refused():
    z, values = synthetic()
    entire = np.ones(len(z), bool)
    silent = Baseline(np.stack([values, values]), np.zeros((2, len(z)), bool))
    with pytest.raises(OutputsError, match="only 0 of the panel's 256 rows"):
        compare(z, silent, values, entire, CONFIG, 0)
    same = np.full_like(values, 0.5)
    with pytest.raises(OutputsError, match="the same for every row"):
        compare(z, Baseline(np.stack([same, same]), np.stack([entire, entire])), values, entire, CONFIG, 0)


def test_a_panel_is_spread_over_the_sources_and_the_same_each_time():
    sources = ["large"] * 90 + ["small"] * 5 + ["middle"] * 20
    random.Random(0).shuffle(sources)
    askable = [i for i in range(len(sources)) if i % 9]
    rows = panel_rows(sources, askable, 15, 7)
    assert rows.tolist() == panel_rows(sources, askable, 15, 7).tolist()
    assert rows.tolist() != panel_rows(sources, askable, 15, 8).tolist()
    assert set(rows) <= set(askable)
    counts = {name: sum(sources[row] == name for row in rows) for name in ("large", "small", "middle")}
    assert counts["small"] == sum(sources[row] == "small" for row in askable)
    assert abs(counts["large"] - counts["middle"]) <= 1
    assert len(panel_rows(sources, askable, 10_000, 0)) == len(askable)
