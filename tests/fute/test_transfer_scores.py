"""The score matrix: where cells go, and which seeds count."""

from __future__ import annotations

import numpy as np

from fute.evaluate.transfer_scores import NO_SOURCE, TransferScores

FAMILIES = {"a": "mood", "b": "mood", "c": "topic"}


def matrix(cells: list[tuple[str, str, int, float]]) -> TransferScores:
    return TransferScores.of(["a", "b", "c"], ["a", "c"], FAMILIES, 2, cells)


def whole(target: str, seed: int, shift: float) -> list[tuple[str, str, int, float]]:
    """All starts of a target in one seed: 0.1, 0.2 ... and the shift."""
    starts = [s for s in [NO_SOURCE, "a", "b", "c"] if s != target]
    return [(start, target, seed, shift + 0.1 * (i + 1)) for i, start in enumerate(starts)]


def test_cells_are_averaged_over_seeds_and_a_task_is_no_source_of_its_own() -> None:
    found = matrix([*whole("a", 0, 0.0), *whole("a", 1, 0.4), *whole("c", 0, 0.0)])
    np.testing.assert_allclose(found.mean_scores, [[np.nan, 0.2], [0.4, 0.3], [0.5, np.nan]])
    np.testing.assert_allclose(found.mean_baseline, [0.3, 0.1])


def test_a_seed_that_is_not_whole_does_not_count_for_its_target() -> None:
    begun = whole("a", 1, 0.4)[:2]
    found = matrix([*whole("a", 0, 0.0), *begun, *whole("c", 0, 0.0), *whole("c", 1, 0.2)])
    np.testing.assert_allclose(found.mean_scores[:, 0], [np.nan, 0.2, 0.3])
    np.testing.assert_allclose(found.mean_scores[:, 1], [0.3, 0.4, np.nan])
    np.testing.assert_allclose(found.mean_baseline, [0.1, 0.2])


def test_a_source_that_was_never_measured_is_missing_and_holds_up_no_seed() -> None:
    cells = [cell for seed in (0, 1) for cell in whole("a", seed, 0.0) if cell[0] != "c"]
    found = matrix(cells)
    np.testing.assert_allclose(found.mean_scores[:, 0], [np.nan, 0.2, np.nan])
    assert np.isnan(found.mean_baseline[1])


def test_families_say_which_sources_compete_in_class() -> None:
    assert matrix([]).same_family.tolist() == [[True, False], [True, False], [False, True]]
