"""What the candidates know together: the labels behind their answers, and how often each candidate gives them.

Each candidate is a noisy voter with a confusion matrix of its own (Dawid and Skene 1979): given labels, its matrix is
counted; given all matrices, the labels are inferred; and so on until nothing changes. A prompt that asks the other way
round gets a matrix with its weight off the diagonal. It then helps to find the labels, and its own accuracy comes out
low, which is what an agreement with the majority alone, and any entropy, cannot tell apart.

Prompts of one language model err together, which the model of 1979 does not foresee: the accuracy that it expects of a
candidate is too high where they do, and its order is what counts. Voting less (votes on a row counting as the root of
their number) was tried and made it worse: inferred labels then grow vaguer with every round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fute.select.candidates import Candidates, Doubles, Integers

MAX_ROUNDS = 100
SETTLED = 1e-6
PSEUDO_ROWS = 5.0
"""Rows of each true label by which a voter's matrix is drawn towards one number, its accuracy, with its mistakes even:
a few hundred rows do not tell a rare label from a habit of the voters."""
MIN_SHARE = 1e-3
"""Of a label among the rows, so that none dies out."""


@dataclass(frozen=True, eq=False)
class Consensus:
    """Attributes:
    posterior: (n, c) how probable each label is for each row, given all votes.
    confusions: (v, c, c) how often each voter says the second where the first is true.
    """

    posterior: Doubles
    confusions: Doubles


def consensus(votes: Integers, n_labels: int, first_weights: Doubles | None = None) -> Consensus:
    """Infer labels from votes.

    Args:
        votes: (v, n) labels, NO_ANSWER where a voter has none; a voter may know some rows only.
        first_weights: (v, n) how much each voter's word counts in the majority that is the start; default 1. From then
            on each counts as much as it proves to know. The start decides which way round the labels are.
    """
    given = (votes[:, :, None] == np.arange(n_labels)).astype(np.float64)  # (v, n, c)
    weighted = given if first_weights is None else given * first_weights[:, :, None]
    posterior = weighted.sum(axis=0) + 1e-2  # evenly where nobody voted
    posterior /= posterior.sum(axis=1, keepdims=True)
    confusions = _confusions(posterior, given)
    for _ in range(MAX_ROUNDS):
        shares = posterior.mean(axis=0) + MIN_SHARE
        votes_say = np.einsum("vnl,vkl->nk", given, np.log(confusions))
        logits = np.log(shares / shares.sum()) + votes_say
        updated = np.exp(logits - logits.max(axis=1, keepdims=True))
        updated /= updated.sum(axis=1, keepdims=True)
        change = float(np.abs(updated - posterior).max())
        posterior, confusions = updated, _confusions(updated, given)
        if change < SETTLED:
            break
    return Consensus(posterior, confusions)


def merits(candidates: Candidates, posterior: Doubles) -> Doubles:
    """(m, n) how probable it is that each candidate gave the true label of each row, if labels are distributed as the
    posterior (n, c) says. No answer is a wrong answer."""
    given = candidates.labels[:, :, None] == np.arange(len(candidates.label_names))
    return (given * posterior).sum(axis=2)


def _confusions(posterior: Doubles, given: Doubles) -> Doubles:
    """(v, c, c); rows sum to 1."""
    counts = np.einsum("nk,vnl->vkl", posterior, given)
    n_labels = counts.shape[2]
    total = counts.sum(axis=(1, 2))  # (v,)
    right = (np.einsum("vkk->v", counts) + 1.0) / (total + n_labels)
    wrong = (1.0 - right) / (n_labels - 1)
    even = wrong[:, None, None] + (right - wrong)[:, None, None] * np.eye(n_labels)
    said = (counts.sum(axis=1, keepdims=True) + 1.0) / (total[:, None, None] + n_labels)  # (v, 1, c)
    counts = counts + PSEUDO_ROWS * n_labels * even + n_labels * said
    return counts / counts.sum(axis=2, keepdims=True)
