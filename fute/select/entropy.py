"""Baselines from the entropy of a candidate's answers: mutual information, global and local entropy, MDL.

All are higher for the candidate to prefer, in nats, and look at no label. Definitions are those of their own papers;
what differs in code released with other papers stands in docs/fidelity.md.
"""

from __future__ import annotations

import numpy as np

from fute.select.candidates import Candidates, Doubles


def entropy(p: Doubles) -> Doubles:
    """Shannon entropy in nats over the last axis; 0 log 0 is 0."""
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=-1)


def conditional_entropy(candidates: Candidates) -> Doubles:
    """(m,) mean over the answered rows of the entropy of p(y | x); NaN where nothing was answered."""
    return _mean_over_answered(entropy(candidates.probabilities), candidates)


def mutual_information(candidates: Candidates) -> Doubles:
    """(m,) H(mean over x of p(y | x)) - mean over x of H(p(y | x)).

    Source: Sorensen et al. 2022, An Information-theoretic Approach to Prompt Engineering Without Ground Truth Labels,
    arXiv 2203.11364, section 3.
    """
    counts = np.maximum(candidates.answered.sum(axis=1), 1)[:, None]
    marginal = (candidates.probabilities * candidates.answered[:, :, None]).sum(axis=1) / counts  # (m, c)
    return np.where(candidates.answered.any(axis=1), entropy(marginal), np.nan) - conditional_entropy(candidates)


def global_entropy(candidates: Candidates) -> Doubles:
    """(m,) GlobalE: the entropy of how often each label is the most probable one.

    Source: Lu et al. 2022, Fantastically Ordered Prompts and Where to Find Them, arXiv 2104.08786, equations 2 and 3.
    """
    labels = np.arange(len(candidates.label_names))
    counts = (candidates.labels[:, :, None] == labels).sum(axis=1)  # (m, c)
    answered = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(answered, 1)
    return np.where(answered[:, 0] > 0, entropy(shares), np.nan)


def local_entropy(candidates: Candidates) -> Doubles:
    """(m,) LocalE: the mean entropy of p(y | x); a prompt that is sure of everything is taken to be miscalibrated.

    Source: Lu et al. 2022, arXiv 2104.08786, equations 4 and 5.
    """
    return conditional_entropy(candidates)


def mdl(candidates: Candidates) -> Doubles:
    """(m,) minus the expected codelength of the labels, where each is drawn from the candidate's own p(y | x).

    That is minus the conditional entropy: the same number as LocalE, preferred the other way round.

    Source: Wu et al. 2023, Self-Adaptive In-Context Learning: An Information Compression Perspective,
    arXiv 2212.10375, section 3.
    """
    return -conditional_entropy(candidates)


def _mean_over_answered(values: Doubles, candidates: Candidates) -> Doubles:
    n_answered = candidates.answered.sum(axis=1)
    total = (values * candidates.answered).sum(axis=1)
    return np.divide(total, n_answered, out=np.full(len(candidates), np.nan), where=n_answered > 0)
