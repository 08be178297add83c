"""Rows of a table and classifiers that ask different questions of them, all from scikit-learn (tumours.yaml)."""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FRAME = load_breast_cancer(as_frame=True).frame
COLUMNS = [name for name in FRAME.columns if name.startswith("mean ")]
QUESTIONS = {
    "malignant": FRAME["target"] == 0,
    "large": FRAME["worst area"] > FRAME["worst area"].quantile(0.6),
    "rough": FRAME["worst texture"] > FRAME["worst texture"].median(),
    "uneven": FRAME["worst symmetry"] > FRAME["worst symmetry"].quantile(0.7),
    "fractal": FRAME["worst fractal dimension"] > FRAME["worst fractal dimension"].median(),
}
MAKES = {
    "linear": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "forest": lambda: RandomForestClassifier(60, random_state=0),
    "bayes": GaussianNB,
}


def part(number):
    """The rows in thirds: 0 for the pool, 1 for datasets, 2 for models to learn from."""
    return FRAME[np.random.default_rng(0).permutation(len(FRAME)) % 3 == number]


def pool():
    return part(0)[COLUMNS]


def labelled(question):
    rows = part(1)
    return rows[COLUMNS].assign(label=np.where(QUESTIONS[question][rows.index], "yes", "no"))


def model(question, make):
    rows = part(2)
    return MAKES[make]().fit(rows[COLUMNS], np.where(QUESTIONS[question][rows.index], "yes", "no"))


def several(questions):
    """Several questions at once: labels that may all be true."""
    rows = part(2)
    labels = np.column_stack([QUESTIONS[question][rows.index] for question in questions])
    return MultiOutputClassifier(MAKES["linear"]()).fit(rows[COLUMNS], labels)


def area():
    """A regression: a number, and no classes."""
    rows = part(2)
    return make_pipeline(StandardScaler(), Ridge()).fit(rows[COLUMNS], rows["worst area"])
