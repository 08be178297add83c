import numpy as np
import pytest

from fute.data.sampling import allocate, generator, stratified_sample, water_fill


@pytest.mark.parametrize("counts", [[90, 9, 1], [5, 5, 5], [1000, 1, 1, 1], [7], [3, 0, 4], [33, 33, 34]])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
def test_allocation_adds_up_is_near_proportional_and_leaves_no_class_out_where_it_fits(counts, size):
    size = min(size, sum(counts))
    shares = allocate(counts, size)
    assert shares.sum() == size
    assert (shares <= np.array(counts)).all()
    if size >= np.count_nonzero(counts):
        assert (shares[np.array(counts) > 0] >= 1).all()


def test_allocation_is_that_of_largest_remainders():
    # 10 rows of 61 : 25 : 14 are 6.1, 2.5, 1.4: the spare one goes to the largest fraction.
    assert allocate([61, 25, 14], 10).tolist() == [6, 3, 1]


def test_a_sample_keeps_proportions_order_and_repeats_with_its_seed():
    strata = np.repeat([0, 1, 2], [600, 300, 3])
    rows = stratified_sample(strata, 100, generator(3, "d"))
    assert len(set(rows.tolist())) == 100
    assert (np.diff(rows) > 0).all()
    assert abs(np.bincount(strata[rows])[0] - 66) <= 1
    assert np.bincount(strata[rows])[2] >= 1
    assert rows.tolist() == stratified_sample(strata, 100, generator(3, "d")).tolist()
    assert rows.tolist() != stratified_sample(strata, 100, generator(4, "d")).tolist()
    assert rows.tolist() != stratified_sample(strata, 100, generator(3, "e")).tolist()


def test_a_small_split_is_kept_whole():
    assert stratified_sample(np.zeros(5, dtype=int), 9, generator(0)).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("available", "size", "shares"),
    [([5, 5, 5], 9, [3, 3, 3]), ([1, 9, 9], 9, [1, 4, 4]), ([2, 2], 9, [2, 2]), ([4, 0, 4], 3, [2, 0, 1]), ([], 3, [])],
)
def test_water_filling_shares_evenly_and_gives_no_one_more_than_they_have(available, size, shares):
    assert water_fill(available, size) == shares
