"""Tasks that a pool brings along, and small classifiers that learn them.

What all tasks have in common, and what similarity means nothing, must be known before there is anyone to compare, and
must not change when somebody arrives. Any pool has labelled tasks of its own, drawn in turn from

- sources: which group of sources is the text from? (needs FEWEST_SOURCES of them)
- words: does it hold this word? Of rows that are no texts: is this feature of theirs above a threshold?
- prototypes: which of a few groups of texts is it most like, apart from its source?

Half of the rows of each stand for a dataset; on the other half a classifier learns, of a make that changes from task to
task, and answers the whole pool as any model does. All follows from pool, features and seed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fute.data.sampling import generator
from fute.methods.crosscov.whitening import SMALL_SOURCE, Doubles, centred_within, source_groups, unit_rows
from fute.types import Dataset, Floats, Outputs, Pool, Split

FEWEST_SOURCES = 24
"""Chosen by hand: with fewer, groups of two to five classes are soon the same ones again."""
MOST_CLASSES = 5
MOST_SOURCES = 7  # of each class
MOST_ROWS = 400  # of a task
PROTOTYPE_TEXTS = 3
RARE, FREQUENT = 0.02, 0.5  # shares of the texts between which a word makes a task
FEWEST_ROWS = 4  # of each class, both halves together
MAX_CHARACTERS = 2000  # of a text, for counting words and characters
TRIES = 20  # draws until every class has enough rows

Labelled = tuple[NDArray[np.intp], NDArray[np.intp]]
Kind = Callable[[np.random.Generator, int], Labelled]
"""Draws rows with their classes: one task, by its number among those of its kind."""


@dataclass(frozen=True, eq=False)
class PseudoTask:
    """A task of the pool's own.

    Attributes:
        dataset: half of its rows, labelled.
        answers: what a classifier that learned the other half answers on the whole pool.
    """

    dataset: Dataset
    answers: Outputs


def pseudo_tasks(pool: Pool, features: Floats, count: int, seed: int) -> Iterator[PseudoTask]:
    """Up to `count` tasks; fewer, or none, where the pool is too small or too uniform to hold any.

    Args:
        features: (n, width) of the pool.
    """
    texts = _Texts(pool, features, seed)
    are_rows = pool.inputs.columns is not None
    held = texts.thresholds if are_rows else texts.words
    kinds = [draw for draw in (texts.sources, held, texts.prototypes) if draw is not None]
    makes = MAKES_OF_ROWS if are_rows else MAKES
    for number in range(count):
        rng = generator(seed, "pseudo-task", str(number))
        drawn = _draw(kinds[number % len(kinds)], rng, number // len(kinds))
        if drawn is None:
            continue
        rows, labels = drawn
        own, learned = _halves(labels, rng)
        names = tuple(str(k) for k in range(int(labels.max()) + 1))
        split = Split(pool.inputs.take(rows[own]), labels[own].astype(np.int64))
        make = makes[number // len(kinds) % len(makes)]
        yield PseudoTask(
            Dataset(f"pseudo-task {number}", "classification", {"train": split}, f"{seed}-{number}", names),
            Outputs("probabilities", make(texts, rows[learned], labels[learned])),
        )


def _draw(kind: Kind, rng: np.random.Generator, number: int) -> Labelled | None:
    for _ in range(TRIES):
        rows, labels = kind(rng, number)
        counts = np.bincount(labels)
        if len(counts) >= 2 and counts.min() >= FEWEST_ROWS:
            return rows, labels
    return None


def _halves(labels: NDArray[np.intp], rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Two halves with each class in both."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    return np.sort(order[::2]), np.sort(order[1::2])


class _Texts:
    """The pool as tasks are drawn from it and as classifiers read it; what is costly is made once."""

    def __init__(self, pool: Pool, features: Floats, seed: int) -> None:
        self._rng = generator(seed, "words of pseudo-tasks")
        self._texts = [text[:MAX_CHARACTERS] for text in pool.inputs.joined()]
        self._source_ids = np.asarray(pool.source_ids)
        self.unit = unit_rows(features)

    @property
    def sources(self) -> Kind | None:
        names, source, sizes = np.unique(self._source_ids, return_inverse=True, return_counts=True)
        large = np.flatnonzero(sizes >= SMALL_SOURCE)
        if len(large) < FEWEST_SOURCES:
            return None

        def draw(rng: np.random.Generator, _: int) -> Labelled:
            classes = int(rng.integers(2, MOST_CLASSES + 1))
            each = min(int(rng.integers(1, MOST_SOURCES + 1)), len(large) // classes)
            chosen = rng.permutation(large)[: classes * each]
            class_of = np.full(len(names), -1)
            class_of[chosen] = np.arange(len(chosen)) % classes
            rows = rng.permutation(np.flatnonzero(class_of[source] >= 0))[:MOST_ROWS]
            return rows, class_of[source[rows]]

        return draw

    @property
    def words(self) -> Kind | None:
        held = self._counts(analyzer="word", ngram_range=(1, 1)).tocsc()
        shares = held.getnnz(axis=0) / held.shape[0]
        known = np.flatnonzero((shares >= RARE) & (shares <= FREQUENT) & (held.getnnz(axis=0) >= FEWEST_ROWS))
        if not len(known):
            return None
        known = self._rng.permutation(known)

        def draw(rng: np.random.Generator, number: int) -> Labelled:
            if number >= len(known):  # each word once: two tasks of one word would count as unrelated
                return self.prototypes(rng, number)
            holds = np.zeros(held.shape[0], bool)
            holds[held[:, [int(known[number])]].indices] = True
            each = min(int(holds.sum()), int((~holds).sum()), MOST_ROWS // 2)
            rows = np.concatenate([rng.permutation(np.flatnonzero(side))[:each] for side in (holds, ~holds)])
            return rows, holds[rows].astype(np.intp)

        return draw

    @property
    def thresholds(self) -> Kind | None:
        varying = np.flatnonzero(np.ptp(self.unit, axis=0) > 1e-6)
        if not len(varying):
            return None

        def draw(rng: np.random.Generator, _: int) -> Labelled:
            values = self.unit[:, rng.choice(varying)]
            rows = rng.permutation(len(values))[:MOST_ROWS]
            return rows, (values[rows] > np.quantile(values, rng.uniform(0.2, 0.8))).astype(np.intp)

        return draw

    def prototypes(self, rng: np.random.Generator, _: int) -> Labelled:
        texts = self._within_sources
        chosen = rng.choice(len(texts), size=(int(rng.integers(2, MOST_CLASSES + 1)), PROTOTYPE_TEXTS))
        rows = rng.permutation(len(texts))[:MOST_ROWS]
        return rows, (texts[rows] @ texts[chosen].mean(axis=1).T).argmax(axis=1)

    @cached_property
    def _within_sources(self) -> Doubles:
        return unit_rows(centred_within(self.unit, source_groups(self._source_ids)))

    @cached_property
    def word_weights(self) -> Any:
        return self._weighted(analyzer="word", ngram_range=(1, 2))

    @cached_property
    def character_weights(self) -> Any:
        return self._weighted(analyzer="char_wb", ngram_range=(2, 4))

    def _weighted(self, **settings: Any) -> Any:
        from sklearn.feature_extraction.text import TfidfTransformer

        return TfidfTransformer(sublinear_tf=True).fit_transform(self._counts(**settings))

    def _counts(self, **settings: Any) -> Any:
        from sklearn.feature_extraction.text import HashingVectorizer  # scikit-learn takes a second to import

        return HashingVectorizer(n_features=2**18, alternate_sign=False, norm=None, **settings).transform(self._texts)


def _by_features(texts: _Texts, rows: NDArray[np.intp], labels: NDArray[np.intp]) -> Floats:
    return _regression(texts.unit, rows, labels)


def _by_words(texts: _Texts, rows: NDArray[np.intp], labels: NDArray[np.intp]) -> Floats:
    weights = _known(texts.word_weights, rows)
    # Signs, single letters: no word that a classifier could learn from.
    return _regression(weights, rows, labels) if weights.shape[1] else _by_features(texts, rows, labels)


def _by_characters(texts: _Texts, rows: NDArray[np.intp], labels: NDArray[np.intp]) -> Floats:
    from sklearn.naive_bayes import MultinomialNB

    weights = _known(texts.character_weights, rows)
    if not weights.shape[1]:
        return _by_features(texts, rows, labels)
    return MultinomialNB(alpha=0.1).fit(weights[rows], labels).predict_proba(weights).astype(np.float32)


def _by_neighbours(texts: _Texts, rows: NDArray[np.intp], labels: NDArray[np.intp]) -> Floats:
    from sklearn.neighbors import KNeighborsClassifier

    near = KNeighborsClassifier(min(5, len(rows))).fit(texts.unit[rows], labels)
    return near.predict_proba(texts.unit).astype(np.float32)


def _by_trees(texts: _Texts, rows: NDArray[np.intp], labels: NDArray[np.intp]) -> Floats:
    from sklearn.ensemble import ExtraTreesClassifier

    trees = ExtraTreesClassifier(30, random_state=0).fit(texts.unit[rows], labels)
    return trees.predict_proba(texts.unit).astype(np.float32)


MAKES = (_by_features, _by_words, _by_characters)
MAKES_OF_ROWS = (_by_features, _by_neighbours, _by_trees)


def _known(weights: Any, rows: NDArray[np.intp]) -> Any:
    """The columns that occur in the rows that are learned from."""
    return weights[:, np.flatnonzero(weights[rows].getnnz(axis=0))]


def _regression(values: Any, rows: NDArray[np.intp], labels: NDArray[np.intp]) -> Floats:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        learned = LogisticRegression(C=10.0, max_iter=100).fit(values[rows], labels)
    return learned.predict_proba(values).astype(np.float32)
