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

from fute.config import DriftConfig, EndpointConfig, PromptConfig, SurrogateConfig
from fute.demo.endpoint import Answerer
from fute.drift import Baseline, Comparison, compare, panel_rows
from fute.errors import OutputsError
from fute.llm.cache import MemoryLedger
from fute.llm.client import connect
from fute.llm.fresh import FreshSamples
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
    embedder = Crosscov(CrosscovConfig(), lambda table: compute_features(surrogate, table)[0], pool)
    return embedder.model_rows(Outputs("scores", np.zeros((len(PANEL), 1), np.float32)))[0]


class Watched:
    """One prompted model on the server, asked anew each time."""

    def __init__(self, server: LlmServer, features: Doubles, system: str | None = None) -> None:
        words = {"positive": ["positive"], "negative": ["negative"]}
        self._prompt = PromptConfig(id="p", template=f"{QUESTION}\nText: {{{{text}}}}", system=system, verbalizer=words)
        self._endpoint = EndpointConfig(id="e", base_url=server.base_url, model="m", max_concurrency=4, service="drift")
        self._ledger = MemoryLedger()
        self._features = features

    def ask(self) -> Outputs:
        client = FreshSamples(connect(self._endpoint, ledger=self._ledger))
        return PromptedModel("m", self._prompt, self._endpoint, completer=client).outputs(PANEL)

    def baseline(self) -> Baseline:
        askings = [self.ask() for _ in range(CONFIG.askings)]
        return Baseline(np.stack([a.values for a in askings]), np.stack([a.answered for a in askings]))

    def check(self, baseline: Baseline, seed: int = 0) -> Comparison:
        now = self.ask()
        return compare(self._features, baseline, now.values, now.answered, CONFIG, seed)


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


def synthetic(n: int = 256, d: int = 32) -> tuple[Doubles, np.ndarray]:
    """Features, and a model that answers by a direction in them."""
    rng = np.random.default_rng(3)
    z = rng.standard_normal((n, d))
    positive = 1 / (1 + np.exp(-2 * z[:, 0]))
    return z, np.stack([positive, 1 - positive], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("noise", "size"), [(jitter, 0.01), (jitter, 0.5), (flips, 0.002), (flips, 0.05), (draws, 0.0)]
)
def test_an_endpoint_that_answers_otherwise_each_time_raises_no_alarm(noise: Callable[..., np.ndarray], size: float):
    z, values = synthetic()
    rng = np.random.default_rng(0)
    answered = np.ones(len(z), bool)
    for number in range(5):
        askings = np.stack([noise(rng, values, size) for _ in range(2)])
        baseline = Baseline(askings, np.ones((2, len(z)), bool))
        for _ in range(10):
            check = compare(z, baseline, noise(rng, values, size), answered, CONFIG, number)
            assert check.reasons == ()


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
