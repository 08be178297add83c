"""Candidates in order of how well they are expected to do on a target without labels, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fute.errors import ConfigError, MethodError
from fute.select.candidates import Candidates, Doubles, Integers
from fute.select.consensus import Consensus, consensus, merits
from fute.select.entropy import global_entropy, local_entropy, mdl, mutual_information
from fute.select.halving import Halving
from fute.select.strength import (
    TargetSpace,
    closeness,
    consensus_strength,
    oriented_closeness,
    oriented_strength,
)
from fute.select.zps import agreement, zps

REFERENCE_WEIGHT = 2.0
"""Of all references' votes together in the first majority, as a multiple of the candidates'. Only references know which
way round the labels are when most candidates ask the opposite. It does little harm where they know nothing, for after
the start each of them is one voter among the others."""

NORMAL_95 = 1.959964
ENOUGH = 40
"""Rows asked of a candidate in a successive halving, of fewer of which its interval is left out: those of targets of 20
texts held a third of the scores of all texts, of 60 six in ten, of 300 eight. Set by hand."""
TOP = 1e-9
"""Scores within this of the best count as best: resamples make ties."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of a target: its candidates' answers, and what references say of its texts.

    Attributes:
        space: None: no references and no features are looked at.
    """

    candidates: Candidates
    space: TargetSpace | None = None

    def rows(self, rows: NDArray[np.intp]) -> Evidence:
        return Evidence(self.candidates.rows(rows), None if self.space is None else self.space.rows(rows))

    @property
    def predictions(self) -> Integers:
        """(r, n) labels by each reference; none without references."""
        if self.space is None:
            return np.zeros((0, self.candidates.n_rows), np.int64)
        return self.space.predicted()

    @property
    def referenced(self) -> TargetSpace:
        if self.space is None or len(self.space.references) == 0:
            raise MethodError(
                "this method compares candidates with references; give labelled datasets with the candidates' labels"
            )
        return self.space

    @property
    def embeddings(self) -> Doubles:
        if self.space is None:
            raise MethodError("this method embeds candidates in surrogate features; give those of the target's texts")
        return self.space.embeddings(self.candidates)


def find_labels(evidence: Evidence) -> Consensus:
    """What candidates and references together take for the labels; the references are the last voters."""
    predictions, answered = evidence.predictions, evidence.candidates.answered
    # By the row, for candidates may have been asked about some rows only (successive halving).
    each = REFERENCE_WEIGHT * answered.sum(axis=0) / max(len(predictions), 1)  # (n,)
    weights = np.concatenate([np.ones(answered.shape), np.tile(each, (len(predictions), 1))])
    votes = np.concatenate([evidence.candidates.labels, predictions])
    return consensus(votes, len(evidence.candidates.label_names), weights)


def find_merits(evidence: Evidence) -> Doubles:
    """(m, n) how probable it is that each candidate is right on each row, by the labels found together."""
    return merits(evidence.candidates, find_labels(evidence).posterior)


def consensus_accuracy(evidence: Evidence) -> Doubles:
    """(m,) expected accuracy against the labels that candidates and references find together."""
    return find_merits(evidence).mean(axis=1)


def information_by_row(candidates: Candidates) -> Doubles:
    """(m, n) divergence of each answer from the candidate's mean answer, in nats; 0 where there is none. Its mean over
    answered rows is the mutual information."""
    p = candidates.probabilities
    counts = np.maximum(candidates.answered.sum(axis=1), 1)[:, None]
    marginal = (p * candidates.answered[:, :, None]).sum(axis=1) / counts  # (m, c)
    ratio = np.where(p > 0, p, 1.0) / np.where(p > 0, np.maximum(marginal, 1e-300)[:, None, :], 1.0)
    return (p * np.log(ratio)).sum(axis=2) * candidates.answered


def oriented_merits(evidence: Evidence, asked: NDArray[np.intp] | None = None) -> Doubles:
    """(m, n) information by row, negative for a candidate whose answers are right less often than chance, as far as
    candidates and references together can tell.

    Silence costs a candidate its information on that row; it says nothing of which way round its labels are.

    Args:
        asked: rows that were asked about; default: all.
    """
    rows = slice(None) if asked is None else asked
    answers = np.maximum(evidence.candidates.answered[:, rows].sum(axis=1), 1)
    accuracy = find_merits(evidence)[:, rows].sum(axis=1) / answers
    sign = np.where(accuracy > 1 / len(evidence.candidates.label_names), 1.0, -1.0)
    return sign[:, None] * information_by_row(evidence.candidates)


def oriented_information(evidence: Evidence) -> Doubles:
    """(m,) mutual information with a sign: it says how sharply a candidate tells the texts apart, the consensus which
    way round."""
    return oriented_merits(evidence).mean(axis=1)


def reference_agreement(evidence: Evidence) -> Doubles:
    """(m,) agreement with the references' predictions, averaged over references."""
    predictions = evidence.referenced.predicted()
    return np.mean([agreement(evidence.candidates, labels) for labels in predictions], axis=0)


Score = Callable[[Evidence], Doubles]

BASELINES: dict[str, Score] = {
    "mutual_information": lambda e: mutual_information(e.candidates),
    "global_entropy": lambda e: global_entropy(e.candidates),
    "local_entropy": lambda e: local_entropy(e.candidates),
    "mdl": lambda e: mdl(e.candidates),
    "mi_g": lambda e: global_entropy(e.candidates) + mdl(e.candidates),
    "zps_log_probability": lambda e: zps(e.candidates, "log_probability"),
    "zps_probability": lambda e: zps(e.candidates, "probability"),
    "zps_majority": lambda e: zps(e.candidates, "majority"),
}
"""Methods of other papers that look at answers alone. SPELL needs more: fute.select.perplexity."""

METHODS: dict[str, Score] = {
    "oriented_information": oriented_information,
    "consensus": consensus_accuracy,
    "consensus_alone": lambda e: consensus_accuracy(Evidence(e.candidates)),
    "reference_agreement": reference_agreement,
    "closeness": lambda e: closeness(e.referenced, e.embeddings),
    "oriented_closeness": lambda e: oriented_closeness(e.referenced, e.embeddings),
    "oriented_strength": lambda e: oriented_strength(e.referenced, e.embeddings),
    "consensus_strength": lambda e: consensus_strength(e.embeddings),
    **BASELINES,
}
"""Name -> score, higher is better. What each is worth: docs/fidelity.md and benchmarks/prompt_selection.py."""

NEED_REFERENCES = (
    "reference_agreement",
    "closeness",
    "oriented_closeness",
    "oriented_strength",
    "consensus_strength",
)
"""Methods that need a target space; the first four its references as well."""

GRADED = 0.1
"""Share of its answered rows on which a candidate must be less than certain for its probabilities to mean something."""


FEWEST_VOTERS = 3
"""Candidates that answer and references, of which fewer find no labels together: of two the consensus believes the one
that always says the same."""


def too_few_voters(candidates: Candidates, n_references: int) -> bool:
    return int(candidates.answered.any(axis=1).sum()) + n_references < FEWEST_VOTERS


def recommended(candidates: Candidates, n_references: int = 0) -> str:
    """The method that measured best: oriented_information where every candidate answers with graded probabilities,
    else consensus. Certain answers, read from text, would look better informed than graded ones. Of too few voters
    mutual information, which looks at each candidate alone."""
    if too_few_voters(candidates, n_references):
        return "mutual_information"
    return "oriented_information" if graded(candidates) else "consensus"


def graded(candidates: Candidates) -> bool:
    """Whether every candidate that answers has probabilities that mean something."""
    unsure = (candidates.probabilities.max(axis=2) < 0.999) & candidates.answered
    share = unsure.sum(axis=1) / np.maximum(candidates.answered.sum(axis=1), 1)
    silent = ~candidates.answered.any(axis=1)
    return bool(((share >= GRADED) | silent).all())


@dataclass(frozen=True, eq=False)
class Ranking:
    """Attributes:
    scores: (m,) higher is better, in the method's own unit (consensus: expected accuracy).
    low, high: (m,) within which 95 % of the scores of resampled rows lie; NaN of a candidate that was asked about few.
    best: (m,) in how many resamples each candidate came first, as a share; NaN where few rows are resampled, or only
        one candidate was left.
    order: (m,) candidates from best to worst.
    """

    ids: tuple[str, ...]
    scores: Doubles
    low: Doubles
    high: Doubles
    best: Doubles
    order: Integers


def method(name: str) -> Score:
    """The score of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in METHODS:
        raise ConfigError(f"no selection method {name!r}; there are: {', '.join(METHODS)}")
    return METHODS[name]


def rank_candidates(evidence: Evidence, name: str, *, resamples: int = 100, seed: int = 0) -> Ranking:
    """Score all candidates, and again on resamples of the rows: what if other texts of this target had been at hand?

    The interval is centred on the score as measured, with the spread of the resamples: repeated rows make a consensus
    surer of itself than it is, which would move the resampled scores up.

    Raises:
        ConfigError: no such method.
        MethodError: the method needs references or features that are not there.
    """
    score = method(name)
    scores = score(evidence)
    m, n = len(evidence.candidates), evidence.candidates.n_rows
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    if resamples == 0:
        return Ranking(evidence.candidates.ids, scores, scores, scores, _firsts(scores[None]), order)
    rng = np.random.default_rng(seed)
    again = np.empty((resamples, m))
    for number in range(resamples):
        again[number] = score(evidence.rows(rng.integers(n, size=n)))
    spread = NORMAL_95 * again.std(axis=0, ddof=1) if resamples > 1 else np.zeros(m)
    return Ranking(evidence.candidates.ids, scores, scores - spread, scores + spread, _firsts(again), order)


def rank_halving(halving: Halving, *, resamples: int = 100, seed: int = 0) -> Ranking:
    """The order of a successive halving. Each interval is over the rows that the candidate was asked about; only those
    of the last round are resampled against each other."""
    merits_ = halving.merits
    counts = np.maximum(np.isfinite(merits_).sum(axis=1), 1)
    spread = np.where(counts < ENOUGH, np.nan, NORMAL_95 * np.nanstd(merits_, axis=1) / np.sqrt(counts))
    last = np.flatnonzero(halving.rows == halving.rows.max())
    together = np.flatnonzero(np.isfinite(merits_[last]).all(axis=0))
    rng = np.random.default_rng(seed)
    again = [merits_[np.ix_(last, rng.choice(together, size=len(together)))].mean(axis=1) for _ in range(resamples)]
    best = np.zeros(len(merits_))
    if len(together) < ENOUGH or len(last) < 2:  # whoever is left alone was not resampled against the dropped ones
        best[:] = np.nan
    else:
        best[last] = _firsts(np.array(again)) if resamples else _firsts(halving.estimates[last][None])
    order = np.argsort(-halving.scores, kind="stable")
    estimates = halving.estimates
    return Ranking(halving.candidates.ids, estimates, estimates - spread, estimates + spread, best, order)


def without_doubt(ranking: Ranking) -> Ranking:
    """A ranking of which it is not known how sure it is: intervals that take the labels found together for true held
    half of the scores, and four of five of their sure firsts were not the best (benchmarks/prompt_doubt.py)."""
    unknown = np.full(len(ranking.ids), np.nan)
    return replace(ranking, low=unknown, high=unknown, best=unknown)


def _firsts(scores: Doubles) -> Doubles:
    """(m,) in how many of (b, m) scores each comes first, as a share; who ties shares."""
    scores = np.nan_to_num(scores, nan=-np.inf)
    first = scores >= scores.max(axis=1, keepdims=True) - TOP
    return (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
