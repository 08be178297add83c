"""TF-IDF of words and word pairs with logistic regression: the baseline that knows no pretrained model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from fute.errors import ModelError
from fute.train.linear import class_probabilities, fit_linear, linear_from_arrays, linear_to_arrays
from fute.types import Floats, TextTable

WORDS, WEIGHTS = "vocabulary.json", "weights.safetensors"
MAX_FEATURES = 50_000
STRENGTH = 10.0
"""C of the regression: rows of TF-IDF are of unit length, for which scikit-learn's default of 1 is too strict."""


@dataclass(frozen=True, eq=False)
class TfidfClassifier:
    """Text pairs are read as one text, joined by " [SEP] "."""

    vectorizer: TfidfVectorizer
    regression: LogisticRegression
    n_classes: int

    def probabilities(self, table: TextTable) -> Floats:
        return class_probabilities(self.regression, self.vectorizer.transform(table.joined()), self.n_classes)

    def save(self, folder: Path) -> None:
        terms = sorted(self.vectorizer.vocabulary_, key=self.vectorizer.vocabulary_.__getitem__)
        (folder / WORDS).write_text(json.dumps({"terms": terms}, ensure_ascii=False), encoding="utf-8")
        save_file({"idf": self.vectorizer.idf_, **linear_to_arrays(self.regression)}, folder / WEIGHTS)


def fit_tfidf(
    inputs: TextTable, targets: NDArray[np.int64], n_classes: int
) -> tuple[TfidfClassifier, dict[str, float]]:
    """Fit on training rows; also what is worth telling about it.

    Raises:
        ModelError: the texts hold no words.
    """
    vectorizer = _vectorizer()
    try:
        features = vectorizer.fit_transform(inputs.joined())
    except ValueError as exc:
        raise ModelError(f"no TF-IDF vocabulary could be made of {len(inputs)} texts: {exc}") from exc
    regression, converged = fit_linear(features, targets, strength=STRENGTH)
    metrics = {"converged": float(converged), "n_features": float(features.shape[1])}
    return TfidfClassifier(vectorizer, regression, n_classes), metrics


def load_tfidf(folder: Path, n_classes: int) -> TfidfClassifier:
    terms = json.loads((folder / WORDS).read_text(encoding="utf-8"))["terms"]
    arrays = load_file(folder / WEIGHTS)
    vectorizer = _vectorizer(vocabulary={term: column for column, term in enumerate(terms)})
    vectorizer.idf_ = arrays.pop("idf")
    return TfidfClassifier(vectorizer, linear_from_arrays(arrays), n_classes)


def _vectorizer(vocabulary: dict[str, int] | None = None) -> TfidfVectorizer:
    return TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, max_features=MAX_FEATURES, strip_accents="unicode", vocabulary=vocabulary
    )
