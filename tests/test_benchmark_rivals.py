"""The arithmetic of the rivals and of the claims, against slow or closed forms: no shared data, no surrogate."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # scripts beside each other, not a package
from claims_measures import (
    Transfers,
    best_on_average,
    by_target,
    family_first,
    interval,
    less_backbone,
    lexicographic,
    picks,
    ranks,
    stronger_first,
    verdict,
)
from match_scores import h_score, shrunk_h_score
from referee_page import END, START, with_tables
from rivals.cka import debiased_cka, hsic
from rivals.data_kernel import distances, perspectives
from rivals.embedllm import factorise
from rivals.llm_dna import dna
from selection_measures import ndcg, ranking_quality, spearman
from zps_filtered import confident, filtered_zps

from fute.evaluate.transfer_scores import TransferScores
from fute.select.candidates import Candidates


def outputs(rng: np.random.Generator, n: int, classes: int) -> np.ndarray:
    return rng.dirichlet(np.ones(classes), n)


def test_debiased_hsic_is_the_estimate_over_whole_kernels_and_zero_on_average_for_unrelated_outputs() -> None:
    rng = np.random.default_rng(0)
    x, y = outputs(rng, 12, 3), outputs(rng, 12, 4)
    k, off = x @ x.T, ~np.eye(12, dtype=bool)
    kernel, other = np.where(off, k, 0), np.where(off, y @ y.T, 0)
    # Song et al. 2012, equation 5.
    slow = (
        np.trace(kernel @ other)
        + kernel.sum() * other.sum() / (11 * 10)
        - 2 / 10 * (kernel.sum(axis=0) @ other.sum(axis=1))
    ) / (12 * 9)
    assert hsic(x, y) == pytest.approx(slow, abs=1e-12)
    unrelated = [hsic(outputs(rng, 12, 3), outputs(rng, 12, 3)) for _ in range(500)]
    assert abs(np.mean(unrelated)) < 4 * np.std(unrelated) / np.sqrt(500)


def test_cka_of_outputs_does_not_see_how_classes_are_numbered_and_is_zero_for_a_constant() -> None:
    x = outputs(np.random.default_rng(1), 40, 3)
    found = debiased_cka([x], [x[:, [2, 0, 1]], np.full((40, 2), 0.5)])
    np.testing.assert_allclose(found, [[1.0, 0.0]], atol=1e-12)


def test_dna_is_one_gaussian_projection_of_all_encoded_answers() -> None:
    rng = np.random.default_rng(2)
    texts = [rng.normal(size=(3, 5)), rng.normal(size=(2, 5))]
    answers = [rng.integers(0, 3, 20), rng.integers(0, 2, 20)]
    matrix = np.random.default_rng(7).standard_normal((20 * 5, 4))
    whole = np.stack([t[a].ravel() for a, t in zip(answers, texts, strict=True)]) @ matrix / 2
    np.testing.assert_allclose(dna(answers, texts, seed=7, dim=4), whole)


def test_perspectives_keep_the_distances_of_mean_answers() -> None:
    rng = np.random.default_rng(3)
    said, texts = [outputs(rng, 9, c) for c in (2, 3, 4)], [rng.normal(size=(c, 6)) for c in (2, 3, 4)]
    means = [p @ t for p, t in zip(said, texts, strict=True)]
    slow = np.array([[np.linalg.norm(a - b) / 3 for b in means] for a in means])
    apart = distances(said, texts)
    np.testing.assert_allclose(apart, slow, atol=1e-9)
    found = perspectives(apart, 2)  # three points lie in a plane
    np.testing.assert_allclose(np.linalg.norm(found[:, None] - found, axis=2), slow, atol=1e-9)


def test_factors_of_full_rank_are_the_ridge_regression_and_find_who_knows_what() -> None:
    rng = np.random.default_rng(4)
    encoded = np.concatenate([rng.normal([2, 0, 0], 0.3, (60, 3)), rng.normal([0, 2, 0], 0.3, (60, 3))])
    right = np.stack([np.repeat([0.9, 0.5], 60), np.repeat([0.5, 0.9], 60)]) > rng.random((2, 120))
    factors = factorise(right.astype(float), encoded, rank=2, ridge=1.0)
    q = encoded - encoded.mean(axis=0)
    ridge = np.linalg.solve(q.T @ q + np.eye(3), q.T @ (right - right.mean(axis=1, keepdims=True)).T).T
    np.testing.assert_allclose(factors.models @ factors.questions, ridge, atol=1e-9)
    first, second = factors.expected(encoded[:60]), factors.expected(encoded[60:])
    assert first[0] > first[1]
    assert second[1] > second[0]
    assert first.mean() == pytest.approx(right[:, :60].mean(), abs=0.02)


TRANSFERS = Transfers(
    np.array([[np.nan, 0.9, 0.7], [0.8, np.nan, 0.6], [0.5, 0.6, np.nan], [0.6, 0.7, 0.8]]),
    np.array([0.5, 0.5, 0.5]),
    np.array([[True, True, False], [True, True, False], [False, False, True], [False, False, True]]),
    np.zeros(4, np.intp),
    np.ones(3, np.intp),
)


def measured(gap: float, **missing: int) -> TransferScores:
    """Three tasks and a stranger as sources of the three, in two draws; `gap` worse. No second draw where missing."""
    cells = [
        (source, target, seed, 0.5 + 0.1 * s + 0.05 * t + 0.01 * seed - gap)
        for s, source in enumerate(["none", "a", "b", "c", "d"])
        for t, target in enumerate("abc")
        for seed in range(2)
        if source != target and seed < missing.get(target, 2)
    ]
    return TransferScores.of(list("abcd"), list("abc"), dict(zip("abcd", "xxyy", strict=True)), 2, cells)


def test_sources_of_two_backbones_are_rivals_over_the_draws_that_both_have() -> None:
    weak = measured(0.2, b=1)
    both = Transfers.of([measured(0.0), weak])
    assert both.backbone.tolist() == [0] * 4 + [1] * 4
    assert both.draws.tolist() == [2, 1, 2]
    assert np.isnan(both.scores).sum() == 6  # of each task both models are left out
    # Where one has no second draw the first counts for both; it was measured on the same rows.
    gap = both.scores[:4] - both.scores[4:]
    np.testing.assert_allclose(gap[~np.isnan(gap)], 0.2)
    np.testing.assert_allclose(both.scores[3], [0.905, 0.95, 1.005])
    np.testing.assert_allclose(both.baseline, [0.505, 0.55, 0.605])  # of the better plain backbone
    assert both.same_family[:4].tolist() == both.same_family[4:].tolist()
    with pytest.raises(SystemExit, match="let transfer.py end first"):
        Transfers.of([measured(0.0), measured(0.2, b=0)])


def test_the_stronger_backbone_comes_first_by_other_targets_and_is_all_that_its_list_knows() -> None:
    both = Transfers.of([measured(0.0), measured(0.2)])
    first = stronger_first(both)
    assert all(len(set(column[:4])) == len(set(column[4:])) == 1 for column in first.T)
    assert first[0, 0] == pytest.approx(np.nanmean(both.scores[:4, 1]) + np.nanmean(both.scores[:4, 2]))
    assert (first[:4] > first[4:]).all()
    likeness = np.arange(24.0).reshape(8, 3)
    assert (np.argsort(-lexicographic(first, likeness)[:, 0]) == [3, 2, 1, 0, 7, 6, 5, 4]).all()
    found = less_backbone(both, np.tile(likeness[:4], (2, 1)) + 100 * both.backbone[:, None])
    np.testing.assert_allclose(found[:4], found[4:])
    # The mean is of candidates: how near a task's own model lies to it changes nothing for the others.
    own = likeness.copy()
    own[np.isnan(both.scores)] += 50
    found, before = less_backbone(both, own), less_backbone(both, likeness)
    np.testing.assert_allclose(found[~np.isnan(both.scores)], before[~np.isnan(both.scores)])
    assert picks(both, likeness) == 0.0
    assert picks(both, first) == 1.0
    assert picks(both, np.zeros((8, 3))) == 0.5


def test_the_shrunk_h_score_tells_features_from_noise_where_rows_are_fewer_than_features() -> None:
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], 16)
    noise = rng.normal(size=(32, 100))
    telling = noise + 3 * labels[:, None] * rng.normal(size=100)
    assert h_score(telling, labels) == pytest.approx(h_score(noise, labels)) == pytest.approx(1.0)
    assert shrunk_h_score(telling, labels) > 2 * shrunk_h_score(noise, labels)


def test_lists_never_look_at_the_target() -> None:
    averages = best_on_average(TRANSFERS.scores)
    changed = TRANSFERS.scores.copy()
    changed[:, 0] = [np.nan, 0.1, 0.9, 0.2]
    np.testing.assert_allclose(best_on_average(changed)[:, 0], averages[:, 0])
    slow = np.mean([0.7 - np.mean([0.9, 0.6, 0.7]), 0.8 - np.mean([0.7, 0.6, 0.8])])
    assert averages[3, 0] == pytest.approx(slow)
    assert family_first(TRANSFERS)[:, 2].argsort()[-2:].tolist() in ([2, 3], [3, 2])


def test_a_perfect_ranking_of_sources_earns_everything_and_chance_what_chance_earns() -> None:
    perfect = by_target(TRANSFERS, np.nan_to_num(TRANSFERS.scores))
    assert perfect["best_rank"].tolist() == [1, 1, 1]
    assert perfect["ndcg"].tolist() == [1, 1, 1]
    assert perfect["regret"].tolist() == [0, 0, 0]
    np.testing.assert_allclose(perfect["pick_gain"], [0.3, 0.4, 0.3])
    assert by_target(TRANSFERS, np.zeros((4, 3)))["best_rank"].tolist() == [2, 2, 2]
    assert np.isnan(by_target(TRANSFERS, np.zeros((4, 3)), in_family=True)["ndcg"]).all()


def test_the_best_source_is_ranked_among_all_others_and_equal_ones_share_their_rank() -> None:
    similarity = np.array([[1.0, 0.2, 0.9, 0.5], [0.2, 1.0, 0.3, 0.3], [0.9, 0.3, 1.0, 0.1], [0.5, 0.3, 0.1, 1.0]])
    found = ranks(list("abcd"), similarity, {"a": "d", "b": "c"})
    assert found["rank"] == {"a": 2.0, "b": 1.5}
    assert (found["candidates"], found["targets"], found["mean_rank"][0]) == (3, 2, 1.75)
    assert ranks(list("abcd"), np.zeros((4, 4)), {"a": "d"})["rank"] == {"a": 2.0}


def test_a_claim_is_held_only_by_an_interval_and_undecided_with_few_targets() -> None:
    better, same = np.linspace(0.01, 0.05, 12), np.linspace(-0.05, 0.05, 12)
    assert interval(np.full(12, 0.2)) == pytest.approx((0.2, 0.2, 0.2))
    assert verdict({"chance": better}, {"native": same}) == "held"
    assert verdict({"chance": same + 0.005}, {}) == "not decidable"
    assert verdict({"chance": better}, {"native": -better}) == "not held"
    assert verdict({"chance": better[:3]}, {}) == "not decidable"


def test_the_page_is_made_of_rows_alone_and_puts_the_best_first() -> None:
    row = {
        "zoo": "made up", "reads": "all", "question": "dataset to model", "measure": "P@1", "low": None, "high": None,
        "n": 3, "seconds": 0.1,
    }  # fmt: skip
    rows = [{**row, "method": method, "value": value} for method, value in (("a", 0.2), ("b", 0.9))]
    page = with_tables(f"# Title\n{START}\nold\n{END}\nend\n", rows)
    assert "old" not in page
    assert page.index("| b |") < page.index("| a |")
    assert "**0.900**" in page
    assert page.endswith(f"{END}\nend\n")


def test_ranking_quality_of_a_perfect_and_of_a_reversed_ranking() -> None:
    accuracies = np.array([0.5, 0.7, 0.9])
    perfect = ranking_quality(np.array([1.0, 2.0, 3.0]), accuracies)
    assert (perfect.rank_correlation, perfect.regret, perfect.ndcg) == pytest.approx((1.0, 0.0, 1.0))
    reverse = ranking_quality(np.array([3.0, 2.0, 1.0]), accuracies)
    best = 0.9 + 0.7 / np.log2(3) + 0.5 / 2
    worst = 0.5 + 0.7 / np.log2(3) + 0.9 / 2
    assert (reverse.rank_correlation, reverse.regret) == pytest.approx((-1.0, 0.4))
    assert reverse.ndcg == pytest.approx(worst / best)


def test_equal_scores_are_a_draw() -> None:
    flat = ranking_quality(np.zeros(3), np.array([0.5, 0.7, 0.9]))
    assert flat.rank_correlation == 0.0
    assert flat.regret == pytest.approx(0.2)
    assert ndcg(np.zeros(2), np.array([1.0, 0.0])) == pytest.approx(0.5 * (1 + 1 / np.log2(3)))


def test_a_score_that_is_no_number_ranks_last() -> None:
    assert ranking_quality(np.array([np.nan, 0.1]), np.array([0.9, 0.4])).regret == pytest.approx(0.5)


def test_spearman_takes_mean_ranks_of_ties() -> None:
    # Ranks 1, 2.5, 2.5 against 1, 2, 3: covariance 1.5, lengths sqrt(1.5) and sqrt(2).
    assert spearman(np.array([1.0, 2.0, 2.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(1.5 / np.sqrt(3.0))


def test_the_filter_of_zps_lets_the_more_confident_cluster_vote() -> None:
    def of_two(*first_label: list[float]) -> Candidates:
        p = np.array(first_label)
        values, answered = np.stack([p, 1 - p], axis=2), np.ones(p.shape, bool)
        return Candidates(tuple("abcd"), values, answered, ("yes", "no"), np.ones(len(p), np.int64))

    # Gaps between first and second label, summed: 1.6, 1.4, 0.2, 0.1.
    assert confident(of_two([0.9, 0.9], [0.85, 0.85], [0.45, 0.45], [0.475, 0.475])).tolist() == [0, 1]
    # A lone confident candidate takes others along, up to half of all.
    candidates = of_two([1.0, 1.0], [0.55, 0.55], [0.54, 0.54], [0.53, 0.53])
    assert confident(candidates).tolist() == [0, 1]
    assert filtered_zps(candidates, "majority").tolist() == [1.0] * 4
