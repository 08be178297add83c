"""Fewer calls: ask everyone a little, then only those who may still be the best a little more.

Successive halving (Karnin et al. 2013; Jamieson and Talwalkar 2016) with two changes: a round that shows a candidate to
be worse than the leader beyond chance drops it even from the better half, so that its calls go to closer races; and
what the dropped ones answered stays in the consensus of the rows that they were asked about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2

import numpy as np
from numpy.typing import NDArray

from fute.errors import ConfigError
from fute.select.candidates import Candidates, Doubles, Integers

Ask = Callable[[Integers, Integers], Candidates]
"""(members, rows) -> those candidates' answers on those rows, in this order."""
Judge = Callable[[Candidates, Integers], Doubles]
"""(all candidates with what they answered so far, rows asked so far) -> (m, rows) how well each candidate did on each
of these rows, as far as can be told without labels; the mean of a candidate is its score."""

FIRST_SHARE = 0.5
"""Of the calls, spent in the first round: dropping the best there cannot be made good later."""
RESAMPLES = 200
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Halving:
    """Attributes:
    scores: (m,) higher is better; everyone who stayed longer is above everyone who was dropped earlier.
    estimates: (m,) each candidate's score in its last round, in the judge's own unit.
    merits: (m, n) what it is the mean of; NaN on rows that it was not asked about.
    rows: (m,) rows that each was asked about.
    candidates: all that was answered; rows that were not asked count as not answered.
    """

    scores: Doubles
    estimates: Doubles
    merits: Doubles
    rows: Integers
    candidates: Candidates

    @property
    def calls(self) -> int:
        return int(self.rows @ self.candidates.calls_per_row)


def successive_halving(blank: Candidates, ask: Ask, judge: Judge, *, share: float = 1 / 3, seed: int = 0) -> Halving:
    """Find the best candidate with a share of the calls that asking everyone everything would take.

    Args:
        blank: the candidates, nothing answered yet; says how many rows there are and what a row costs.
        share: of all calls, spent at most.
        seed: decides the order of the rows and the resamples.

    Raises:
        ConfigError: so small a share that not every candidate can be asked about two rows.
    """
    m, n = len(blank), blank.n_rows
    budget = int(share * int(blank.calls_per_row.sum()) * n)
    if budget < 2 * int(blank.calls_per_row.sum()) and n >= 2:
        raise ConfigError(
            f"{share:.0%} of {int(blank.calls_per_row.sum()) * n} calls are too few to ask {m} candidates about two "
            "texts each; give more texts or a larger share"
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    probabilities, answered = np.zeros_like(blank.probabilities), np.zeros((m, n), bool)
    alive: NDArray[np.intp] = np.arange(m)
    estimates, level, rows_of = np.zeros(m), np.zeros(m), np.zeros(m, np.int64)
    merits = np.full((m, n), np.nan)
    n_asked = 0
    n_rounds = max(1, ceil(log2(max(m, 2))))
    for number in range(n_rounds):
        cost = int(blank.calls_per_row[alive].sum())
        part = FIRST_SHARE if number == 0 and n_rounds > 1 else 1 / (n_rounds - number)
        new = order[n_asked : n_asked + max(int(part * budget) // cost, 2 if number == 0 else 0)]
        if len(new):
            answers = ask(alive, new)
            probabilities[np.ix_(alive, new)] = answers.probabilities
            answered[np.ix_(alive, new)] = answers.answered
        budget -= cost * len(new)
        n_asked += len(new)
        rows_of[alive] = n_asked
        now = Candidates(blank.ids, probabilities.copy(), answered.copy(), blank.label_names, blank.calls_per_row)
        rows = order[:n_asked]
        found = judge(now, rows)[alive]  # (alive, rows)
        merits[np.ix_(alive, rows)] = found
        estimates[alive], level[alive] = found.mean(axis=1), number
        if number == n_rounds - 1 or n_asked == n:
            break
        alive = alive[_stays(found, rng)]
        if len(alive) == 1:
            level[alive] += 1
            break
    # Levels are whole numbers and estimates shares: a longer stay counts for more than any estimate.
    span = max(float(np.ptp(estimates)), 1e-12)
    return Halving(level * 2 * span + estimates, estimates, merits, rows_of, now)


def _stays(merits: Doubles, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(alive,) the better half, less those that are worse than the leader in nearly all resamples of the rows."""
    means = merits.mean(axis=1)
    leader = int(means.argmax())
    weights = rng.multinomial(merits.shape[1], np.full(merits.shape[1], 1 / merits.shape[1]), size=RESAMPLES)
    lead = (merits[leader] - merits) @ weights.T  # (alive, resamples)
    worse = (lead > 0).mean(axis=1) >= CONFIDENCE
    better_half = np.argsort(np.argsort(-means, kind="stable"), kind="stable") < ceil(len(means) / 2)
    stays = better_half & ~worse
    stays[leader] = True
    return stays
