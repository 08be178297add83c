"""Seeded draws that depend on nothing but the seed and the name of what is drawn from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def generator(seed: int, *names: str) -> np.random.Generator:
    """A generator of its own for every name, so that adding a dataset changes no other dataset's sample."""
    digest = hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def allocate(counts: Sequence[int] | NDArray[np.integer], size: int) -> NDArray[np.int64]:
    """Rows to draw from each stratum: largest remainder, at least one of each where the size allows.

    Args:
        counts: rows of each stratum.
        size: rows to draw altogether, at most their sum.
    """
    available = np.asarray(counts, dtype=np.int64)
    total = int(available.sum())
    # Whole numbers throughout: a float's rounding would decide ties.
    shares, remainders = np.divmod(size * available, max(total, 1))
    leftover = size - int(shares.sum())
    shares[np.argsort(-remainders, kind="stable")[:leftover]] += 1
    if size >= np.count_nonzero(available):
        for stratum in np.flatnonzero((shares == 0) & (available > 0)):
            shares[int(np.argmax(shares))] -= 1
            shares[stratum] = 1
    return shares


def stratified_sample(strata: NDArray[np.integer], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of a sample that keeps the strata's proportions, in their order.

    Args:
        strata: (n,) the stratum of each row.
        size: rows wanted; all rows come back where there are no more.

    Returns:
        (min(n, size),) row numbers, ascending.
    """
    if len(strata) <= size:
        return np.arange(len(strata), dtype=np.int64)
    names, members = np.unique(strata, return_inverse=True)
    shares = allocate(np.bincount(members, minlength=len(names)), size)
    drawn = [rng.choice(np.flatnonzero(members == s), size=int(k), replace=False) for s, k in enumerate(shares)]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def water_fill(available: Sequence[int], size: int) -> list[int]:
    """Share `size` evenly: everyone gets the same, but no more than they have; the earlier get what is left over."""
    shares = [0] * len(available)
    left = min(size, sum(available))
    while left:
        open_ = [i for i, share in enumerate(shares) if share < available[i]]
        level = max(left // len(open_), 1)
        for i in open_:
            more = min(level, available[i] - shares[i], left)
            shares[i] += more
            left -= more
    return shares
