"""Has a hosted model changed? Its panel is asked again, and a betting test says so with a stated error rate.

Row i of the panel was asked k times at first. The first answer is the reference; let r_i be the probability that the
unchanged model answers row i differently from it (the endpoint's noise), and r the mean of r_i over the panel.

*Ceiling.* Given the reference, the other k - 1 askings are independent trials with means r_i. Their Clopper-Pearson
upper bound R therefore lies below r with a probability of at most 0.01 alpha (Hoeffding 1956: a sum of unequal trials
has lighter tails than the binomial of their mean). This can go wrong once in the life of a baseline, not once a check.

*Bet.* A batch is a simple random sample of the panel, drawn for this check, or the whole panel; x_i = 1 where the
answer now is not the reference. The bet is that x_i is more frequent than R: a row multiplies it by 1 + b (x_i / R - 1)
for a fixed share b. Given the reference and all earlier answers, the expectation of a batch's product is a symmetric
mean of the 1 + b (r_i / R - 1), all positive: by Maclaurin's inequality at most (1 + b (r / R - 1))^m <= 1. Products
over batches are thus a supermartingale that starts at 1, and so is every mixture: over shares b, over the batch with
which a bet begins (weights that sum to 1, so that a change in the second year is not lost in the losses of the first),
and over the two things that are watched (labels, and probabilities that moved).

*Theorem.* By Ville's inequality (Ville 1939) the mixture of an unchanged model ever reaches 1/a with a probability of
at most a, however often one looks and whatever one decides by what was seen. So p = 0.02 alpha + 1 / mixture is a
p-value at any time, and p <= alpha a false alarm with a probability of at most alpha in the life of the baseline.

Betting: Waudby-Smith and Ramdas, JRSS-B 2024; for models behind an API arXiv 2410.19406.

*What is assumed.* An unchanged model's answers are drawn independently for each call, and as at first. An endpoint
whose noise itself depends on the hour, or is shared by all rows of one asking, is not covered; what is smaller than
`answers_tolerance` does not matter. A change that makes answers *more* like the reference is not seen here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import beta, binomtest, false_discovery_control

from fute.config import DriftConfig
from fute.types import MIN_ANSWERED, Floats, Outputs

Flags = NDArray[np.bool_]

STAKES = np.array([0.03, 0.2])  # about the share of rows, beyond the noise, that each is best for
PATIENCE = 4  # batches: the later a bet begins beyond these, the smaller its part of the mixture
CEILING_DOUBT = 0.02  # of alpha: for ceilings that are too low
MIN_ROWS = 16  # of a baseline
FIRST_BATCH = 32  # rows: a loud change is seen without reading the whole panel
NO_LABEL = "no answer"
IN_A_STUDY = {"fields": "parameters", "embedding": "surrogate", "reading": "the reading of answers (fute's version)"}
"""Settings of a prompted model that a study calls otherwise."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Of one asking.

    Attributes:
        values: (n, c) probabilities of labels, or embeddings of texts.
        answered: (n,) bool.
        failed: (n,) bool, where the server met with an error, which is no answer of the model's. None: not known.
    """

    values: Floats
    answered: Flags
    failed: Flags | None = None

    @classmethod
    def of(cls, outputs: Outputs) -> Answers:
        keys = outputs.answer_keys
        failed = None if keys is None else np.array([not own for own in keys], bool) & ~outputs.answered_mask
        return cls(outputs.values, outputs.answered_mask, failed)

    def take(self, rows: NDArray[np.integer]) -> Answers:
        return Answers(self.values[rows], self.answered[rows], None if self.failed is None else self.failed[rows])

    @property
    def heard(self) -> NDArray[np.intp]:
        """Rows that the server did not fail."""
        return np.arange(len(self.answered)) if self.failed is None else np.flatnonzero(~self.failed)

    @property
    def labels(self) -> NDArray[np.intp]:
        """-1 where there is no answer, which counts as one more label."""
        return np.where(self.answered, self.values.argmax(axis=1), -1)


@dataclass(frozen=True, eq=False)
class Baseline:
    """What the panel was answered at first, several times.

    Attributes:
        values: (k, n, c) float32, k askings of n rows.
        answered: (k, n) bool.
    """

    values: Floats
    answered: Flags

    @property
    def askings(self) -> list[Answers]:
        return [Answers(*asking) for asking in zip(self.values, self.answered, strict=True)]

    @property
    def reference(self) -> Answers:
        return self.askings[0]

    def fault(self) -> str | None:
        """Why nothing can be compared with it; None: it can."""
        rows = np.count_nonzero(self.answered.all(axis=0))
        n = self.answered.shape[1]
        if rows >= max(MIN_ROWS, MIN_ANSWERED * n):
            return None
        return (
            f"only {rows} of the panel's {n} rows were answered each time that the baseline was asked (needed: "
            f"{max(MIN_ROWS, int(np.ceil(MIN_ANSWERED * n)))}); raise drift.panel_rows, or look at the refusals"
        )

    def ceilings(self, *, labels: bool, config: DriftConfig, alongside: int = 1) -> list[float]:
        """Of the noise, for each thing that is watched.

        Args:
            alongside: models among which those that changed are named (`false_discovery`).
        """
        trials = [changes(self.reference, asking, labels=labels, config=config) for asking in self.askings[1:]]
        return [ceiling(int(flags.sum()), flags.size, config.alpha / alongside) for flags in np.stack(trials, axis=1)]

    def in_order(self, places: NDArray[np.integer]) -> Baseline:
        """With its labels, the columns of `values`, in another order."""
        return Baseline(self.values[:, :, places], self.answered)


def changes(reference: Answers, now: Answers, *, labels: bool, config: DriftConfig) -> Flags:
    """(2, n): the label is another; the answer has moved. Of free texts, which have no labels, (1, n): it has moved."""
    silent = reference.answered != now.answered
    if not labels:
        cosine = (reference.values * now.values).sum(axis=1) / np.maximum(
            np.linalg.norm(reference.values, axis=1) * np.linalg.norm(now.values, axis=1), 1e-12
        )
        return np.stack([silent | (reference.answered & now.answered & ((1 - cosine) / 2 > config.answers_tolerance))])
    moved = 0.5 * np.abs(reference.values - now.values).sum(axis=1) > config.answers_tolerance
    return np.stack([reference.labels != now.labels, silent | (reference.answered & now.answered & moved)])


def ceiling(differing: int, trials: int, alpha: float) -> float:
    """Upper bound of the noise, wrong with a probability of at most half of CEILING_DOUBT * alpha."""
    if differing >= trials:
        return 1.0
    return float(beta.isf(CEILING_DOUBT * alpha / 2, differing + 1, trials - differing))


def log_wealth(changed: Sequence[int], asked: Sequence[int], ceiling: float) -> float:
    """Logarithm of the mixture for one thing that is watched, over all batches since the baseline."""
    later = np.cumsum([changed[::-1], asked[::-1]], axis=1)[:, ::-1]  # from each batch to the last
    won, lost = np.log1p(STAKES * (1 / ceiling - 1)), np.log1p(-STAKES)
    bets = later[0][:, None] * won + (later[1] - later[0])[:, None] * lost  # (batches, stakes)
    begins = np.arange(len(asked) + 1)
    weights = np.log(PATIENCE) - np.log(PATIENCE + begins[:-1]) - np.log(PATIENCE + begins[1:])
    unspent = np.log(PATIENCE / (PATIENCE + len(asked)))  # of the bets that have not begun
    return float(np.logaddexp(unspent, logsumexp(weights[:, None] + bets - np.log(len(STAKES)))))


def p_value(counts: Sequence[Sequence[int]], asked: Sequence[int], ceilings: Sequence[float], alpha: float) -> float:
    """That an unchanged model would ever have changed its answers as much.

    Args:
        counts: of each thing that is watched, how many rows of each batch differ from the reference.
        asked: rows of each batch, of all checks since the baseline in their order.
    """
    wealths = [log_wealth(changed, asked, top) for changed, top in zip(counts, ceilings, strict=True)]
    return float(min(1.0, CEILING_DOUBT * alpha + np.exp(np.log(len(wealths)) - logsumexp(wealths))))


def false_discovery(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which of a study's models have changed, by Benjamini and Hochberg (1995): of those that are named, a share of at
    most alpha is expected to be unchanged. Their answers come from calls of their own, so they are independent."""
    return [bool(p <= alpha) for p in false_discovery_control(p_values)] if p_values else []


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How much has changed, in texts.

    Attributes:
        rows: that were asked.
        changed: whose label (or text) is another.
        low, high: of the share that has changed, 95 % (Clopper-Pearson).
        moved: whose probabilities moved, label or not.
        turns: the most frequent changes of a label, as ("refund", "other", 5).
    """

    rows: int
    changed: int
    low: float
    high: float
    moved: int
    turns: tuple[tuple[str, str, int], ...] = ()

    @property
    def share(self) -> float:
        return self.changed / self.rows

    @property
    def detectable(self) -> float:
        """A larger change would have shown more than this in 95 of 100 cases."""
        return float(binomtest(self.changed, self.rows, alternative="less").proportion_ci(0.95).high)

    def sentence(self, drifted: bool, names: Sequence[str] | None) -> str:
        what = "label" if names else "answer"
        if not drifted:
            differ = f"{self.changed} of {self.rows} differ, not beyond the noise that its baseline leaves possible"
            told = f"no change ({differ})" if self.changed else "no change"
            return f"{told}; a change of more than {self.detectable:.1%} would have been seen (95 %)"
        between = f"({self.low:.1%} to {self.high:.1%})"
        if self.changed and (not names or self.moved <= 2 * self.changed):
            often = f", most often {self.turns[0][0]} to {self.turns[0][1]}" if self.turns else ""
            return f"the {what} changed on {self.share:.1%} {between} of your texts{often}"
        return (
            f"the probabilities of labels moved on {self.moved / self.rows:.1%} of your texts; the label changed on "
            f"{self.share:.1%} {between}"
        )


def estimate(reference: Answers, now: Answers, names: Sequence[str] | None, config: DriftConfig) -> Estimate:
    flags = changes(reference, now, labels=names is not None, config=config)
    changed, n = int(flags[0].sum()), flags.shape[1]
    interval = binomtest(changed, n).proportion_ci(0.95)
    turns: Counter[tuple[str, str]] = Counter()
    if names is not None:
        told = [*names, NO_LABEL]  # -1 is the last
        turns.update((told[reference.labels[row]], told[now.labels[row]]) for row in np.flatnonzero(flags[0]))
    return Estimate(
        rows=n,
        changed=changed,
        low=float(interval.low),
        high=float(interval.high),
        moved=int(flags[-1].sum()),
        turns=tuple((*turn, count) for turn, count in turns.most_common(3)),
    )


def unreadable(reference: Answers, now: Answers) -> str | None:
    """Why an asking says nothing: most of what was answered at first is refused now. Such a batch is no bet at all."""
    asked = int(reference.answered.sum())
    heard = int((now.answered & reference.answered).sum())
    return None if heard >= MIN_ANSWERED * asked else f"it answered {heard} of {asked} texts, and all of them at first"


def changed_settings(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the settings whose fingerprints differ, as a study has them; "settings" where it was not noted which."""
    if not before:
        return ("settings",)
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return tuple(IN_A_STUDY.get(name, name) for name in names)


def panel_rows(source_ids: list[str], askable: list[int], n: int, seed: int) -> NDArray[np.intp]:
    """Which rows of a pool make the panel: a seeded draw, spread evenly over the sources, in the pool's order.

    Args:
        askable: rows that the model can be asked about.
    """
    order = np.random.default_rng(seed).permutation(askable)
    turn: dict[str, int] = {}
    turns = []
    for row in order:
        turns.append(turn.get(source_ids[row], 0))
        turn[source_ids[row]] = turns[-1] + 1
    return np.sort(order[np.argsort(turns, kind="stable")[:n]])


def batches(n: int, seed: int) -> list[NDArray[np.intp]]:
    """Rows of a panel of n, in the order in which a check reads them: a random draw, then the whole panel."""
    whole = np.arange(n)
    if n <= 2 * FIRST_BATCH:
        return [whole]
    return [np.sort(np.random.default_rng(seed).permutation(n)[:FIRST_BATCH]), whole]
