"""Models as a user would bring them; the tests copy this file beside a study and name its functions."""

from __future__ import annotations

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

TEXTS = ["red red fish", "red fish", "red tree", "blue lake", "blue blue sky", "blue fish"]
COLOURS = ["red", "red", "red", "blue", "blue", "blue"]


def bayes(alpha=1.0):
    return make_pipeline(CountVectorizer(), MultinomialNB(alpha=alpha)).fit(TEXTS, COLOURS)


def svm(classes=2):
    colours = COLOURS if classes == 2 else ["red", "red", "green", "blue", "blue", "green"]
    return make_pipeline(CountVectorizer(), LinearSVC()).fit(TEXTS, colours)


class Nearest(KNeighborsClassifier):
    """Predicts labels and nothing else."""

    @property
    def predict_proba(self):
        raise AttributeError("no probabilities")


def nearest():
    return make_pipeline(CountVectorizer(), Nearest(n_neighbors=1)).fit(TEXTS, COLOURS)


def ridge():
    return make_pipeline(CountVectorizer(), Ridge()).fit(TEXTS, [2.0, 1.0, 1.0, 0.0, 0.0, 0.0])


def unfitted():
    return make_pipeline(CountVectorizer(), LogisticRegression())


def not_a_pipeline():
    return {"weights": [1, 2]}


def broken():
    raise FileNotFoundError("weights.bin")


def redness(texts, pairs, strength=1.0):
    red = np.array([strength * t.count("red") for t in texts])
    return np.stack([1 / (1 + red), red / (1 + red)], axis=1)


def labels(texts, pairs):
    return [None if "lake" in t else "red" if "red" in t else "blue" for t in texts]


def lengths(texts, pairs):
    return [len(t) for t in texts]


def pair_lengths(texts, pairs):
    return [[len(t), 0 if p is None else len(p)] for t, p in zip(texts, pairs, strict=True)]


def some_answers(texts, pairs):
    return [None if "lake" in t else [0.25, 0.75] for t in texts]


def one_too_few(texts, pairs):
    return [[0.5, 0.5]] * (len(texts) - 1)


def ragged(texts, pairs):
    return [[0.5, 0.5]] * (len(texts) - 1) + [[1.0]]


def flat(texts, pairs):
    return [0.5] * len(texts)


def a_string(texts, pairs):
    return "x" * len(texts)


def explodes(texts, pairs):
    raise ValueError("out of cheese")


def nothing(texts, pairs):
    return [None] * len(texts)


def spans(texts, pairs, end=4):
    """The first characters of each second text, less sure than of no answer."""
    return [None if pair is None else [0, end, 0.3, -1, -1, 0.6] for pair in pairs]


def pairs_of_numbers(texts, pairs):
    return [[0, 1]] * len(texts)
