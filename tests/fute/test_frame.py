"""The frame of a space: made of the pool's own tasks, on a scale of what is unrelated, and neighbours in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import norm

from fute.errors import FuteError, MethodError, SpaceError
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov
from fute.methods.crosscov.root import to_matrix, to_vector
from fute.types import UNRELATED, Dataset, Kind, Outputs, Pool, Split, TaskEmbedding, TextTable
from fute.unify.frame import (
    BOTH_SIDES,
    FEWEST_PAIRS,
    LEGEND,
    NO_LEGEND,
    OUTPUTS_LEGEND,
    PAIRS,
    UNJUDGED_LEGEND,
    Frame,
    Null,
    embed_pseudo_tasks,
    legend,
    score,
    similarities,
    verdict,
)
from fute.unify.neighbors import ranked
from fute.unify.pseudo_tasks import FEWEST_SOURCES, pseudo_tasks

pytestmark = pytest.mark.kernels

WORDS = [f"word{i}" for i in range(40)]
WIDTH = 12
MEANINGS = np.random.default_rng(9).normal(size=(len(WORDS), WIDTH))


def small_pool(n: int = 360, sources: int = 30, seed: int = 0) -> Pool:
    """Texts of a few words; each source likes some of them."""
    rng = np.random.default_rng(seed)
    likes = rng.dirichlet(np.full(len(WORDS), 0.3), size=sources)
    source = np.arange(n) % sources
    texts = [" ".join([*rng.choice(WORDS, size=6, p=likes[s]), str(i)]) for i, s in enumerate(source)]
    return Pool(TextTable(texts), [f"s{s}" for s in source])


def features(table: TextTable) -> np.ndarray:
    held = np.array([[text.split().count(word) for word in WORDS] for text in table.texts], float)
    return (held @ MEANINGS + 1e-3).astype(np.float32)


def opened(pool: Pool) -> Crosscov:
    return Crosscov(CrosscovConfig(), features, pool)


def model_of(direction: np.ndarray, pool: Pool) -> Outputs:
    margin = features(pool.inputs) @ direction
    p = 1 / (1 + np.exp(-2 * (margin - np.median(margin))))
    return Outputs("probabilities", np.column_stack([1 - p, p]).astype(np.float32))


def dataset_of(direction: np.ndarray, seed: int) -> Dataset:
    table = small_pool(300, seed=seed).inputs
    margin = features(table) @ direction
    return Dataset("d", "classification", {"train": Split(table, (margin > np.median(margin)).astype(np.int64))}, "f")


def frame_of(space: Crosscov, pool: Pool) -> Frame:
    made = embed_pseudo_tasks(space, features, pool, seed=0)
    assert made is not None
    return Frame.of(**made)


@pytest.fixture(scope="module")
def made() -> tuple[Pool, Crosscov, Frame]:
    pool = small_pool()
    space = opened(pool)
    return pool, space, frame_of(space, pool)


# ------------------------------------------------------------------------------------------------------ pseudo-tasks


@pytest.mark.parametrize("sources", [1, 3, FEWEST_SOURCES - 1, FEWEST_SOURCES])
def test_every_pool_has_tasks_of_its_own_whatever_its_sources(sources: int) -> None:
    pool = small_pool(sources=sources)
    tasks = list(pseudo_tasks(pool, features(pool.inputs), 18, seed=0))
    assert len(tasks) == 18
    for task in tasks:
        labels = task.dataset.train.targets
        assert set(labels) == set(range(int(labels.max()) + 1))
        assert set(task.dataset.train.inputs.texts) <= set(pool.inputs.texts)
        task.answers.validate(len(pool))
        assert task.answers.values.shape == (len(pool), int(labels.max()) + 1)


def test_tasks_follow_from_pool_and_seed() -> None:
    pool = small_pool()
    once, again, other = (
        [t.answers.values for t in pseudo_tasks(pool, features(pool.inputs), 9, seed)] for seed in (0, 0, 1)
    )
    for one, two in zip(once, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert any(a.shape != b.shape or not np.allclose(a, b) for a, b in zip(once, other, strict=True))


def test_more_tasks_leave_the_first_ones_as_they_were() -> None:
    pool = small_pool()
    few, many = (list(pseudo_tasks(pool, features(pool.inputs), count, 0)) for count in (4, 8))
    for one, two in zip(few, many[:4], strict=True):
        np.testing.assert_array_equal(one.answers.values, two.answers.values)


def test_a_dataset_shares_no_row_with_what_its_classifier_learned_from() -> None:
    """A classifier right about its own rows says nothing of the others: it is tested where it did not learn."""
    pool = small_pool(720)
    shares = []
    for task in pseudo_tasks(pool, features(pool.inputs), 18, seed=3):
        rows = [pool.inputs.texts.index(text) for text in task.dataset.train.inputs.texts]
        shares.append((task.answers.values[rows].argmax(axis=1) == task.dataset.train.targets).mean())
    assert 0.5 < np.mean(shares) < 0.999


@pytest.mark.parametrize("texts", [["same"] * 30, ["a", "b"], [f"x{i}" for i in range(5)]])
def test_a_pool_without_tasks_has_none(texts: list[str]) -> None:
    pool = Pool(TextTable(texts), ["s"] * len(texts))
    assert list(pseudo_tasks(pool, np.ones((len(texts), 4), np.float32), 6, seed=0)) == []


# -------------------------------------------------------------------------------------------------------------- frame


def test_the_mean_is_that_of_pseudo_datasets_and_pseudo_models(made: tuple[Pool, Crosscov, Frame]) -> None:
    pool, space, frame = made
    tasks = list(pseudo_tasks(pool, features(pool.inputs), space.pseudo_tasks, 0))
    datasets = np.stack([space.dataset(t.dataset).vector for t in tasks])
    models = np.stack([space.model(t.answers).vector for t in tasks])
    np.testing.assert_allclose(frame.mean, (datasets.mean(axis=0) + models.mean(axis=0)) / 2, atol=1e-6)
    placed = datasets - frame.mean
    np.testing.assert_allclose(
        frame.pseudo["dataset"], placed / np.linalg.norm(placed, axis=1, keepdims=True), atol=1e-5
    )


def test_a_score_is_on_the_scale_of_unrelated_cosines(made: tuple[Pool, Crosscov, Frame]) -> None:
    pool, space, frame = made
    rng = np.random.default_rng(1)
    placed = frame.place([space.model(model_of(d, pool)).vector for d in rng.normal(size=(4, WIDTH))])
    found = frame.chance(placed).scores(placed @ placed.T, ["model"] * 4)
    for i in range(4):
        for j in range(4):
            z = []
            for k in (i, j):
                unrelated = [float(placed[k] @ p) for p in frame.pseudo["model"]]
                z.append((float(placed[i] @ placed[j]) - np.mean(unrelated)) / np.std(unrelated))
            assert found[i, j] == pytest.approx(sum(z) / BOTH_SIDES, rel=1e-4)


def test_scores_of_mixed_kinds_use_the_scale_of_the_others_kind(made: tuple[Pool, Crosscov, Frame]) -> None:
    pool, space, frame = made
    direction = np.random.default_rng(2).normal(size=WIDTH)
    placed = frame.place(
        [space.dataset(dataset_of(direction, 5)).vector, space.model(model_of(direction, pool)).vector]
    )
    kinds: list[Kind] = ["dataset", "model"]
    chance = frame.chance(placed)
    found = chance.scores(placed @ placed.T, kinds)
    assert found[0, 1] == pytest.approx(found[1, 0])
    cosine = float(placed[0] @ placed[1])
    of_models, of_datasets = placed[0] @ frame.pseudo["model"].T, placed[1] @ frame.pseudo["dataset"].T
    expected = score(np.float64(cosine), (of_models.mean(), of_models.std()), (of_datasets.mean(), of_datasets.std()))
    assert found[0, 1] == pytest.approx(float(expected), rel=1e-4)


def test_a_newcomer_moves_nobody(made: tuple[Pool, Crosscov, Frame]) -> None:
    pool, space, frame = made
    vectors = [space.model(model_of(d, pool)).vector for d in np.random.default_rng(3).normal(size=(5, WIDTH))]

    def scores(n: int) -> np.ndarray:
        placed = frame.place(vectors[:n])
        return frame.chance(placed).scores(placed @ placed.T, ["model"] * n)

    np.testing.assert_allclose(scores(5)[:4, :4], scores(4), atol=1e-4)


def test_models_find_their_datasets_and_what_has_none_fits_nothing(made: tuple[Pool, Crosscov, Frame]) -> None:
    pool, space, frame = made
    directions = np.random.default_rng(4).normal(size=(6, WIDTH))
    datasets = frame.place([space.dataset(dataset_of(d, 20 + i)).vector for i, d in enumerate(directions)])
    embedded = [space.model(model_of(d, pool)) for d in directions]
    models = frame.place([e.vector for e in embedded])
    rows, columns = frame.chance(datasets).of["model"], frame.chance(models).of["dataset"]
    found = score(datasets @ models.T, tuple(x[:, None] for x in rows), tuple(x[None] for x in columns))
    assert (found.argmax(axis=1) == np.arange(6)).all()
    null = frame.nulls["dataset", "model"]
    assert all(verdict(null.p_value(s, 6)) == "fits" for s in found.max(axis=1))
    assert all(e.metrics[UNRELATED] < 1e-6 for e in embedded)


def test_shuffled_outputs_are_told_at_the_stated_rate(made: tuple[Pool, Crosscov, Frame]) -> None:
    pool, space, _ = made
    rng = np.random.default_rng(5)
    sources = np.unique(pool.source_ids, return_inverse=True)[1]
    found = []
    for direction in rng.normal(size=(200, WIDTH)):
        values = model_of(direction, pool).values
        order, mixed = np.argsort(sources, kind="stable"), np.empty_like(values)
        mixed[order] = values[np.lexsort((rng.random(len(sources)), sources))]
        found.append(space.model(Outputs("probabilities", mixed)).metrics[UNRELATED])
    assert (np.array(found) <= 0.05).sum() <= 20  # 10 expected; 20 has a chance of 0.001
    assert (np.array(found) <= 0.5).mean() == pytest.approx(0.5, abs=0.12)


def test_vectors_of_another_length_are_refused(made: tuple[Pool, Crosscov, Frame]) -> None:
    with pytest.raises(SpaceError, match="vectors of 3 numbers, but a frame of"):
        made[2].place(np.ones((2, 3), np.float32))


def test_a_subject_that_is_the_mean_itself_is_similar_to_nobody(made: tuple[Pool, Crosscov, Frame]) -> None:
    frame = made[2]
    placed = frame.place(np.stack([frame.mean, frame.mean * 2]))
    assert similarities(placed)[0].tolist() == [0, 0]


class Refusing(Crosscov):
    """A method that embeds no datasets of more than two classes and no third model."""

    pseudo_tasks = 30

    def dataset(self, dataset: Dataset) -> TaskEmbedding:
        if dataset.train.targets.max() > 1:
            raise MethodError("two classes only")
        return super().dataset(dataset)

    def models(self, outputs: Sequence[Outputs]) -> list[TaskEmbedding | FuteError]:
        found = super().models(outputs)
        return [MethodError("no") if i % 3 == 2 else each for i, each in enumerate(found)]


def test_tasks_that_a_method_refuses_are_left_out_on_both_sides() -> None:
    pool = small_pool()
    frame = frame_of(Refusing(CrosscovConfig(), features, pool), pool)
    assert 2 <= len(frame.pseudo["dataset"]) == len(frame.pseudo["model"]) < 20


def test_a_pool_that_holds_no_task_has_no_frame() -> None:
    pool = Pool(TextTable(["a", "b", "c"]), ["s"] * 3)
    values = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    space = Crosscov(CrosscovConfig(), lambda _: values, pool)
    assert embed_pseudo_tasks(space, lambda _: values, pool, seed=0) is None


# --------------------------------------------------------------------------------------------------------------- null


def test_chance_of_unrelated_pairs_is_uniform(made: tuple[Pool, Crosscov, Frame]) -> None:
    frame = made[2]
    for pair in PAIRS:
        null = frame.nulls[pair]
        assert null is frame.nulls[pair[::-1]]
        assert null.pairs >= FEWEST_PAIRS
        assert null.p_value(null.quantiles[50], 1) == pytest.approx(0.5, abs=0.01)
        assert null.p_value(null.quantiles[90], 1) == pytest.approx(0.1, abs=0.01)


def test_the_tail_of_normal_scores_is_met() -> None:
    null = Null.of(np.random.default_rng(0).normal(size=40_000))
    for z in (1.0, 2.0, 2.5, 3.0):
        assert null.p_value(z, 1) == pytest.approx(norm.sf(z), rel=0.25)
    assert null.p_value(2.0, 1) > null.p_value(3.0, 1) > null.p_value(6.0, 1) > 0


def test_the_best_of_many_needs_more() -> None:
    null = Null.of(np.random.default_rng(0).normal(size=5000))
    one = null.p_value(3.0, 1)
    assert one is not None
    assert null.p_value(3.0, 23) == pytest.approx(1 - (1 - one) ** 23, rel=1e-6)
    best = np.random.default_rng(1).normal(size=(2000, 23)).max(axis=1)
    told = np.array([null.p_value(z, 23) for z in best])
    assert (told <= 0.05).mean() == pytest.approx(0.05, abs=0.02)


def test_too_few_pairs_judge_nothing() -> None:
    null = Null.of(np.random.default_rng(0).normal(size=FEWEST_PAIRS - 1))
    assert null.p_value(50.0, 1) is None
    assert verdict(None) is None


def test_the_legend_promises_verdicts_only_where_there_are_some(made: tuple[Pool, Crosscov, Frame]) -> None:
    few = Frame.of(*np.random.default_rng(0).normal(size=(2, 12, 6)).astype(np.float32))
    assert all(few.nulls[pair].p_value(99.0, 5) is None for pair in PAIRS)
    assert legend(few) == UNJUDGED_LEGEND
    assert legend(made[2]) == LEGEND
    assert legend(None) == NO_LEGEND
    assert legend(made[2], "outputs") == OUTPUTS_LEGEND


def test_verdicts_go_down_with_the_chance() -> None:
    assert [verdict(p) for p in (1e-9, 0.001, 0.01, 0.05, 0.2, 1.0)] == ["fits"] * 2 + ["may fit"] * 2 + ["nothing"] * 2


# --------------------------------------------------------------------------------------------------------- neighbours


def test_a_triangle_keeps_the_inner_products_of_matrices() -> None:
    rng = np.random.default_rng(3)
    one, other = (m @ m.T for m in rng.normal(size=(2, 5, 5)))
    assert to_vector(one) @ to_vector(other) == pytest.approx(np.trace(one @ other))
    np.testing.assert_allclose(to_matrix(to_vector(one)), one)
    with pytest.raises(ValueError, match="no triangle"):
        to_matrix(np.ones(5))


def test_neighbours_are_ranked_by_score_and_exclude_the_query() -> None:
    kinds: list[Kind] = ["dataset", "model", "model", "model"]
    scores = np.array([[1, 0.2, 0.9, 0.9], [0.2, 1, 0.5, 0], [0.9, 0.5, 1, 0], [0.9, 0, 0, 1]])
    found = ranked(scores, scores, kinds, 2)
    of_dataset = [(n.candidate, n.rank, n.candidates) for n in found if n.query == 0]
    assert of_dataset == [(2, 1, 3), (3, 2, 3)]  # equal scores keep the subjects' order
    assert not [n for n in found if n.query == n.candidate]
    assert [n.candidate for n in found if n.query == 1 and kinds[n.candidate] == "model"] == [2, 3]


def test_a_last_bit_decides_no_rank() -> None:
    kinds: list[Kind] = ["dataset", "model", "model"]
    scores = np.array([[0, 2.0, 2.0], [2.0, 0, 0], [2.0, 0, 0]])
    for nudge in (-1e-7, 0.0, 1e-7):
        scores[0, 2] = 2.0 + nudge
        assert [n.candidate for n in ranked(scores, scores, kinds, 5) if n.query == 0] == [1, 2]
