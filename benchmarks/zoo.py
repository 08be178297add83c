"""Three architectures that have nothing in common but their task.

minilm: logistic regression on the surrogate's frozen features; tfidf: logistic regression on TF-IDF of words and word
pairs; charnb: naive Bayes on character n-grams. A pool's texts are counted once for all models of a run, which is why
fute's own TF-IDF recipe, which counts them again for each model, is not used here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB

from fute.types import Floats, TextTable

ARCHITECTURES = ("minilm", "tfidf", "charnb")
MAX_CHARACTERS = 2000  # of a text, for counting words and characters
STRENGTH = 10.0  # C of both regressions: rows are of unit length

_WORDS = HashingVectorizer(n_features=2**20, alternate_sign=False, norm=None, ngram_range=(1, 2))
_CHARACTERS = HashingVectorizer(
    n_features=2**20, alternate_sign=False, norm=None, analyzer="char_wb", ngram_range=(1, 4)
)


@dataclass(frozen=True, eq=False)
class Inputs:
    """n texts as each architecture reads them.

    Attributes:
        features: (n, width) unit length, the surrogate's last layer.
        words, characters: (n, 2^20) counts.
    """

    features: Floats
    words: csr_matrix
    characters: csr_matrix

    def take(self, rows: NDArray[np.intp]) -> Inputs:
        return Inputs(self.features[rows], self.words[rows], self.characters[rows])


def read_inputs(table: TextTable, features: Floats) -> Inputs:
    texts = [text[:MAX_CHARACTERS] for text in table.joined(" ||| ")]
    return Inputs(features, _WORDS.transform(texts), _CHARACTERS.transform(texts))


@dataclass(frozen=True, eq=False)
class Classifier:
    """Attributes:
    columns: the n-grams that it knows; None: all features of the surrogate.
    """

    architecture: str
    estimator: Any
    weights: TfidfTransformer | None = None
    columns: NDArray[np.intp] | None = None

    def probabilities(self, inputs: Inputs) -> Floats:
        """(n, classes that it was trained on)."""
        return self.estimator.predict_proba(self._read(inputs)).astype(np.float32)

    def accuracy(self, inputs: Inputs, labels: NDArray[np.int64]) -> float:
        predicted = self.estimator.classes_[self.probabilities(inputs).argmax(axis=1)]
        return float((predicted == labels).mean())

    def _read(self, inputs: Inputs) -> Any:
        if self.weights is None:
            return inputs.features
        counts = inputs.words if self.architecture == "tfidf" else inputs.characters
        return self.weights.transform(counts[:, self.columns])


def fit_all(inputs: Inputs, labels: NDArray[np.int64]) -> Iterator[Classifier]:
    """One classifier of each architecture."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield Classifier("minilm", _regression().fit(inputs.features, labels))
        for architecture, counts, estimator, rarest in (
            ("tfidf", inputs.words, _regression(), 1),
            ("charnb", inputs.characters, MultinomialNB(alpha=0.1), 2),
        ):
            columns = np.flatnonzero(counts.getnnz(axis=0) >= rarest)
            weights = TfidfTransformer(sublinear_tf=True).fit(counts[:, columns])
            estimator.fit(weights.transform(counts[:, columns]), labels)
            yield Classifier(architecture, estimator, weights, columns)


def _regression() -> LogisticRegression:
    return LogisticRegression(C=STRENGTH, max_iter=300)
