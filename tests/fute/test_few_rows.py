"""A model that is asked about some rows of the pool, and what is made of so few answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fute.errors import ModelError, OutputsError
from fute.llm.cache import MemoryLedger
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov
from fute.methods.crosscov.few_rows import RIDGE, Completion
from fute.types import UNRELATED, Floats, Outputs, Pool, TextTable
from tests.fute.test_llm_prompted import PAIRS, TEXTS, model, server

__all__ = ["server"]
N, WIDTH, CLASSES = 600, 40, 3
POOL = Pool(TextTable([f"text {i}" for i in range(N)]), [f"source {i % 12}" for i in range(N)])
FEATURES = (np.random.default_rng(0).normal(size=(N, WIDTH)) * 0.8 ** np.arange(WIDTH)).astype(np.float32)


def features(table: TextTable) -> Floats:
    return FEATURES


def task(seed: int) -> Outputs:
    """What a classifier of a direction of the features answers, with noise of its own."""
    rng = np.random.default_rng(seed)
    logits = FEATURES @ rng.normal(size=(WIDTH, CLASSES)) * 2 + rng.normal(size=(N, CLASSES))
    values = np.exp(logits)
    return Outputs("probabilities", (values / values.sum(axis=1, keepdims=True)).astype(np.float32))


def few(outputs: Outputs, rows: int, seed: int = 0) -> Outputs:
    asked = np.zeros(N, bool)
    asked[np.random.default_rng(seed).permutation(N)[:rows]] = True
    return replace(outputs, values=np.where(asked[:, None], outputs.values, 0), answered=asked, asked=asked)


@pytest.fixture(scope="module")
def crosscov() -> Crosscov:
    return Crosscov(CrosscovConfig(), features, POOL)


def test_a_covariance_of_few_rows_is_that_of_answers_completed_by_kernel_ridge_regression(crosscov):
    rows = np.arange(0, N, 15)
    y = task(1).values[rows].astype(float)
    unit = FEATURES.astype(float) / np.linalg.norm(FEATURES.astype(float), axis=1, keepdims=True)
    unit -= unit.mean(axis=0)
    kernel = unit @ unit.T
    kernel /= np.diag(kernel).mean()
    inverse = np.linalg.inv(kernel[np.ix_(rows, rows)] + RIDGE * np.eye(len(rows)))
    mean = (inverse @ y).sum(axis=0) / inverse.sum()
    everywhere = mean + kernel[:, rows] @ inverse @ (y - mean)
    z = crosscov._all_rows
    regressors = Completion(FEATURES, z).regressors(rows)
    np.testing.assert_allclose(regressors.T @ (y - y.mean(axis=0)) / len(rows), z.T @ everywhere / N, atol=1e-10)


def test_the_vector_of_few_rows_is_nearer_to_that_of_all_than_without_completing(crosscov):
    for seed in range(5):
        whole = crosscov.model(task(seed)).vector
        rows = few(task(seed), 60)
        plain = np.flatnonzero(rows.asked)
        cut = Crosscov(CrosscovConfig(), features, POOL)
        cut._inputs = TextTable(["x"] * 60)  # as if the pool had these rows alone, with the same axes
        cut._whitened_pool, cut._source_ids = crosscov._whitened_pool[plain], crosscov._source_ids[plain]
        assert crosscov.model(rows).vector @ whole > cut.model(task(seed).take(plain)).vector @ whole + 0.1


def test_more_rows_are_nearer_and_a_task_finds_itself_among_others(crosscov):
    whole = np.stack([crosscov.model(task(seed)).vector for seed in range(8)])
    near = [np.stack([crosscov.model(few(task(s), rows)).vector for s in range(8)]) @ whole.T for rows in (50, 300)]
    assert np.diag(near[0]).mean() < np.diag(near[1]).mean()
    np.testing.assert_array_equal(near[0].argmax(axis=1), np.arange(8))


def test_answers_to_few_rows_that_say_nothing_of_the_texts_are_told(crosscov):
    rng = np.random.default_rng(0)
    chances = []
    for seed in range(60):
        outputs = task(seed)
        chances.append(
            crosscov.model(few(replace(outputs, values=rng.permutation(outputs.values)), 100)).metrics[UNRELATED]
        )
    assert np.mean(np.array(chances) <= 0.05) <= 0.1
    assert crosscov.model(few(task(0), 100)).metrics[UNRELATED] < 1e-6


def test_of_the_rows_asked_about_half_must_be_answered(crosscov):
    outputs = few(task(0), 100)
    some = outputs.answered.copy()
    some[np.flatnonzero(some)[:40]] = False
    crosscov.model(replace(outputs, answered=some))
    some[np.flatnonzero(some)[:30]] = False
    with pytest.raises(OutputsError, match="only 30 of 100 inputs were answered"):
        crosscov.model(replace(outputs, answered=some))


def test_intervals_of_few_rows_are_wider_than_those_of_all(crosscov):
    bootstrap = crosscov.resampler(np.zeros_like(crosscov.model(task(0)).vector), 50, 0)
    other = bootstrap.model(task(1))
    wide, narrow = (bootstrap.model(o).cosines(other).std() for o in (few(task(0), 60), task(0)))
    assert wide > narrow


# ------------------------------------------------------------------------------------------------------- whom is asked


POOL_OF_TEXTS = Pool(TextTable(TEXTS), ["s"] * len(TEXTS)).inputs


def test_so_many_rows_of_a_pool_are_asked_about_and_the_outputs_say_which(server):
    outputs = model(server, ask=12).outputs(POOL_OF_TEXTS)
    assert server.n_requests == 12
    assert outputs.asked.sum() == 12
    np.testing.assert_array_equal(outputs.answered, outputs.asked)
    assert not outputs.values[~outputs.asked].any()
    assert outputs.details["rows_asked"] == 12
    outputs.validate(len(TEXTS))


def test_more_rows_later_are_paid_for_alone(server):
    ledger = MemoryLedger()
    first = model(server, ask=12, ledger=ledger).outputs(POOL_OF_TEXTS)
    more = model(server, ask=20, ledger=ledger)
    assert more.missing_calls(POOL_OF_TEXTS, ledger) == 8
    second = more.outputs(POOL_OF_TEXTS)
    assert (second.details["calls"], second.details["cached"]) == (8, 12)
    assert second.asked[first.asked].all()


def test_all_rows_of_a_small_pool_and_all_of_other_texts_are_asked_about(server):
    assert model(server, ask=100).outputs(POOL_OF_TEXTS).asked is None
    assert model(server, ask=12).outputs(TextTable(TEXTS)).asked is None


def test_who_is_asked_about_fewer_rows_is_another_model_and_who_is_asked_about_all_is_as_before(server):
    assert model(server, ask=12).fingerprint != model(server).fingerprint
    assert "ask" not in model(server).identity


def test_a_prompt_that_only_pairs_can_be_put_to_is_asked_about_all_of_these_or_not_at_all(server):
    pairs = ["and that?" if i % 3 else None for i in range(len(TEXTS))]
    pool = Pool(TextTable(TEXTS, pairs), ["s"] * len(TEXTS)).inputs
    with pytest.raises(ModelError, match=r"this prompt can be put to 20 of 30 .*; leave `ask` out"):
        model(server, PAIRS, ask=12).outputs(pool)
    assert server.n_requests == 0
