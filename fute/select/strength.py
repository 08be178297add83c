"""Candidates by their MTEs on the target's own texts: direction and strength, with the labels' names kept.

A candidate's embedding is here its cross-covariance A = Z'Y / n with whitened features Z of the target's texts
(d x c). crosscov proper goes on to (A A')^1/2 at unit length, and so forgets two things that decide between prompts for
one task: which label is which (a prompt that answers the opposite looks the same), and how strongly the answers depend
on the text (a prompt that says yes to nearly everything has a direction too). Where candidates and references share
named labels, comparing A with A directly keeps both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fute.errors import MethodError
from fute.methods.crosscov.root import Root, cross_covariance
from fute.methods.crosscov.whitening import unit_rows
from fute.select.candidates import Candidates, Doubles, Integers
from fute.types import Floats

RIDGE = 0.3
"""Added to each eigenvalue before whitening, as a share of their mean: a few hundred texts know few directions."""
MAX_COMPONENTS = 384


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """A reference: a related labelled dataset, or the target's own texts as a trusted model answered them.

    Attributes:
        features: (n, width) of the surrogate.
        labels: (n,) numbers of the candidates' labels.
        answers: a trusted model's labels of all of the target's texts, -1 where it has none of the candidates'.
    """

    id: str
    features: Floats
    labels: Integers
    answers: Integers | None = None


@dataclass(frozen=True, eq=False)
class TargetSpace:
    """Whitened axes of what varies within the target's texts and within each reference's.

    Attributes:
        features: (n, d) whitened features of the target's texts.
        references: (r, d, c) A of each reference: a dataset's DTE, a trusted model's MTE, before crosscov's root.
        answers: (r, n) what a reference itself says of the target's texts; -1 where it does not.
    """

    features: Doubles
    references: Doubles
    answers: Integers

    @classmethod
    def fit(cls, features: Floats, references: Sequence[LabelledTexts], n_labels: int) -> TargetSpace:
        """From surrogate features (n, width) of the target's texts.

        Raises:
            MethodError: all texts look the same to the surrogate.
        """
        target, *others = [_centred(features), *(_centred(reference.features) for reference in references)]
        rows = len(target) + sum(map(len, others))
        spread = (target.T @ target + sum(table.T @ table for table in others)) / rows  # (width, width)
        eigenvalues, eigenvectors = np.linalg.eigh(spread)
        if eigenvalues[-1] <= 1e-12:
            raise MethodError("the target's texts all look the same to the surrogate; give two different ones at least")
        eigenvalues = np.maximum(eigenvalues[::-1], 0.0)[:MAX_COMPONENTS]
        axes = eigenvectors[:, ::-1][:, :MAX_COMPONENTS]
        projection = axes / np.sqrt(eigenvalues + RIDGE * eigenvalues.mean())
        known = [
            cross_covariance(table @ projection, np.eye(n_labels)[reference.labels])
            for table, reference in zip(others, references, strict=True)
        ]
        empty = np.zeros((0, projection.shape[1], n_labels))
        answers = np.full((len(known), len(target)), -1)
        for row, reference in zip(answers, references, strict=True):
            if reference.answers is not None:
                row[:] = reference.answers
        return cls(target @ projection, np.stack(known) if known else empty, answers)

    def rows(self, rows: NDArray[np.intp]) -> TargetSpace:
        """The same axes and references, with some of the target's texts."""
        return TargetSpace(self.features[rows], self.references, self.answers[:, rows])

    def predicted(self) -> Integers:
        """(r, n) what each reference says of the target's texts: what a trusted model answered, else what the surrogate
        says, having learned the labels from the reference.

        The target's features are centred on their own mean, so that a target which is about other things than the
        reference is not all one label.
        """
        learned = (self.features @ self.references).argmax(axis=2)
        return np.where(self.answers >= 0, self.answers, learned)

    def embeddings(self, candidates: Candidates) -> Doubles:
        """(m, d, c) A of each candidate, from the probabilities on the rows that it answered."""
        return np.stack(
            [
                cross_covariance(self.features[there], values[there])
                for values, there in zip(candidates.probabilities, candidates.answered, strict=True)
            ]
        )


def closeness(space: TargetSpace, embeddings: Doubles) -> Doubles:
    """(m,) mean cosine of (A A')^1/2 with the references': crosscov as it compares any two subjects. Blind to which
    label is which, and 0 for a candidate that says the same of every text."""
    roots = Root.of(embeddings)
    return np.mean([roots.cosine(Root.of(reference)) for reference in space.references], axis=0)


def oriented_closeness(space: TargetSpace, embeddings: Doubles) -> Doubles:
    """(m,) mean cosine of A itself with the references'. Blind to how strong A is."""
    lengths = np.maximum(np.linalg.norm(embeddings, axis=(1, 2)), 1e-12)
    return oriented_strength(space, embeddings) / lengths


def oriented_strength(space: TargetSpace, embeddings: Doubles) -> Doubles:
    """(m,) mean length of A along the references' directions."""
    along = [np.einsum("mdc,dc->m", embeddings, r) / max(float(np.linalg.norm(r)), 1e-12) for r in space.references]
    return np.mean(along, axis=0)


def consensus_strength(embeddings: Doubles) -> Doubles:
    """(m,) length of each A along the direction that the candidates share.

    The shared direction is the leading one of the inner products of different candidates' embeddings. The squared
    lengths on the diagonal hold each one's own noise and are left out. The sign is that of the majority.
    """
    flat = embeddings.reshape(len(embeddings), -1)
    return leading_factor(flat @ flat.T)


def leading_factor(products: Doubles) -> Doubles:
    """(m,) v for which v v' is nearest to (m, m) products off the diagonal; the sum of v is not negative."""
    own = np.diag(products).copy()
    factor = np.zeros(len(products))
    shared = own.copy()
    for _ in range(200):
        filled = products - np.diag(own) + np.diag(shared)
        values, vectors = np.linalg.eigh(filled)
        factor = vectors[:, -1] * np.sqrt(max(float(values[-1]), 0.0))
        updated = np.minimum(factor**2, own)
        if np.abs(updated - shared).max() <= 1e-9 * max(float(own.max()), 1e-300):
            break
        shared = updated
    return -factor if factor.sum() < 0 else factor


def _centred(features: Floats) -> Doubles:
    unit = unit_rows(features)
    return unit - unit.mean(axis=0)
