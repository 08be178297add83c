"""The demo's models that are neither trained by fute nor prompted: as a team would bring its own."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import ComplementNB
from sklearn.pipeline import Pipeline

from .data import task_rows
from .tasks import PRODUCTS, RESTAURANTS

QUESTION_LABELS = ("number", "person", "place", "reason", "time")
"""What the columns of `question_rules` stand for."""

_QUESTION_RULES = {
    "number": r"\bhow (many|much|high|long|old|often)\b|\bnumber of\b",
    "person": r"\bwho(m|se)?\b|\bwhich (architect|artist|woman|man)\b|\bname of the (man|woman)\b",
    "place": r"\bwhere\b|\b(which|what) (town|city|country|place)\b",
    "reason": r"\bwhy\b|\breason\b|\bcaused\b",
    "time": r"\bwhen\b|\b(which|what) (year|day|month|century)\b",
}

_CASUAL = re.compile(r"\b(hey|hiya|yo|oi|lol|lemme|gonna|cheers|yeah|mate|ok|guys|can't|sort it)\b")
_STIFF = re.compile(r"\b(dear|sir|madam|ms|mr|regret|kindly|grateful|apologies|concerning|regarding|confirmation)\b")


def keyword_sentiment(n_rows: int = 200, seed: int = 1000) -> Pipeline:
    """A scikit-learn pipeline: word counts and naive Bayes, fitted on reviews of products and restaurants.

    The reviews come from the demo's grammar under another seed than the demo's own data.
    """
    rows = [row for task in (PRODUCTS, RESTAURANTS) for row in task_rows(task, n_rows // 2, seed)]
    pipeline = Pipeline([("counts", CountVectorizer(binary=True)), ("bayes", ComplementNB())])
    return pipeline.fit([text for (text, _), _ in rows], [label for _, label in rows])


def question_rules(texts: Sequence[str], pairs: Sequence[str | None] | None = None) -> NDArray[np.float64]:
    """Hand-written rules for what a question asks for: probabilities (n, 5), columns as in QUESTION_LABELS.

    Each rule that fits counts two, each label half a count to begin with: a text that fits no rule gets even odds.
    """
    hits = [[bool(re.search(_QUESTION_RULES[label], text.lower())) for label in QUESTION_LABELS] for text in texts]
    counts = 0.5 + 2.0 * np.array(hits, dtype=float).reshape(-1, len(QUESTION_LABELS))
    return counts / counts.sum(axis=1, keepdims=True)


def formality_score(texts: Sequence[str], pairs: Sequence[str | None] | None = None) -> list[float]:
    """How formal a text sounds: stiff words less casual ones; one score for each text."""
    return [float(len(_STIFF.findall(text.lower())) - len(_CASUAL.findall(text.lower()))) for text in texts]
