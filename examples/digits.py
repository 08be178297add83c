"""Images as arrays and models that see different things in them, all from scikit-learn (digits.yaml)."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

DIGITS = load_digits()
QUESTIONS = {
    "which": DIGITS.target,
    "parity": np.where(DIGITS.target % 2, "odd", "even"),
    "half": np.where(DIGITS.target >= 5, "five or more", "less than five"),
    "holes": np.select([DIGITS.target == 8, np.isin(DIGITS.target, [0, 6, 9])], ["two", "one"], "none"),
    "seven": np.where(DIGITS.target == 7, "seven", "another"),
}
MAKES = {
    "linear": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
    "neighbours": lambda: KNeighborsClassifier(5),
    "bayes": lambda: make_pipeline(PCA(20, random_state=0), GaussianNB()),
}
THIRD = np.random.default_rng(0).permutation(len(DIGITS.target)) % 3
"""0 for the pool, 1 for datasets, 2 for models to learn from."""


def pool():
    return {"image": DIGITS.images[THIRD == 0].tolist()}


def labelled(question):
    rows = THIRD == 1
    return {"image": DIGITS.images[rows].tolist(), "label": QUESTIONS[question][rows].astype(str).tolist()}


def model(question, make):
    """It takes an image as one row of 64 numbers."""
    rows = THIRD == 2
    return MAKES[make]().fit(DIGITS.data[rows], QUESTIONS[question][rows].astype(str))


def ink(texts, pairs):
    """No classifier: how much ink there is, above and below. An image comes as its lists of numbers."""
    images = np.array(texts)
    return images.reshape(-1, 2, 32).sum(axis=2)
