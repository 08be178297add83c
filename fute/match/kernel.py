"""How alike texts are to a read-out: by the surrogate's features, and by their words and letters.

A model that counts words answers by words that a surrogate's mean over the text does not show. On texts of their own
tasks (the 29 of benchmarks/match.py, seed 0) a read-out from features alone found 0.65 of the answers of TF-IDF models
and 0.65 of those of naive Bayes on letters, one with words and letters 0.77 and 0.80; of models on the surrogate's own
features 0.92 in place of 0.96.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

from fute.methods.crosscov.whitening import Doubles, unit_rows
from fute.types import Floats, TextTable

WORDS_SHARE, LETTERS_SHARE = 0.5, 0.5
"""How much words and letters count beside the features (1), each at a mean of 1 along the diagonal."""
MAX_CHARACTERS = 2000  # of a text, for counting words and letters


class _Part:
    """One view of the texts: products centred on the pool's mean, 1 along the pool's diagonal on average."""

    def __init__(self, rows: Any) -> None:
        """From (n, width) rows of the pool, dense or sparse."""
        self._rows = rows
        products = _dense(rows @ rows.T)
        self._means, self._mean = products.mean(axis=0), float(products.mean())
        self._own = max(float(np.diag(products).mean()) - self._mean, 1e-12)
        self.pool = self._centred(products)

    def texts(self, rows: Any) -> Doubles:
        return self._centred(_dense(rows @ self._rows.T))

    def own(self, rows: Any) -> Doubles:
        """(m,) products of other texts with themselves."""
        with_pool = _dense(rows @ self._rows.T)
        squares = rows.multiply(rows).sum(axis=1) if hasattr(rows, "multiply") else (rows**2).sum(axis=1)
        own: Doubles = (np.asarray(squares).ravel() - 2 * with_pool.mean(axis=1) + self._mean) / self._own
        return own

    def _centred(self, products: Doubles) -> Doubles:
        return (products - products.mean(axis=1, keepdims=True) - self._means + self._mean) / self._own


class _Counts:
    """TF-IDF of n-grams, weighed by the pool."""

    def __init__(self, pool: TextTable, **ngrams: Any) -> None:
        self._vectorizer = HashingVectorizer(n_features=2**20, alternate_sign=False, norm=None, **ngrams)
        counts = self._counted(pool)
        self._weights = TfidfTransformer(sublinear_tf=True).fit(counts)
        self._part = _Part(self._weights.transform(counts))
        self.pool = self._part.pool

    def texts(self, table: TextTable) -> Doubles:
        return self._part.texts(self._weights.transform(self._counted(table)))

    def own(self, table: TextTable) -> Doubles:
        return self._part.own(self._weights.transform(self._counted(table)))

    def _counted(self, table: TextTable) -> Any:
        return self._vectorizer.transform([text[:MAX_CHARACTERS] for text in table.joined(" ")])


class TextKernel:
    """Inner products with the n texts of a pool, centred on their mean, and a constant.

    With the constant a read-out has a mean of its own. Without it the rows would sum to zero, as what they are fitted
    to does, and a row left out of a fit would be known from the others exactly.

    Attributes:
        pool: (n, n) of the pool's own texts.
    """

    def __init__(self, pool: TextTable, features: Floats) -> None:
        """From the pool's texts and their (n, width) features."""
        self._features = _Part(unit_rows(features))
        self._words = _Counts(pool)
        self._letters = _Counts(pool, analyzer="char_wb", ngram_range=(3, 4))
        self.pool = _mixed(self._features.pool, self._words.pool, self._letters.pool)

    def texts(self, table: TextTable, features: Floats) -> Doubles:
        """(m, n) of other texts, given their (m, width) features."""
        return _mixed(self._features.texts(unit_rows(features)), self._words.texts(table), self._letters.texts(table))

    def own(self, table: TextTable, features: Floats) -> Doubles:
        """(m,) products of other texts with themselves."""
        return _mixed(self._features.own(unit_rows(features)), self._words.own(table), self._letters.own(table))


def _mixed(features: Doubles, words: Doubles, letters: Doubles) -> Doubles:
    return 1.0 + features + WORDS_SHARE * words + LETTERS_SHARE * letters


def _dense(products: Any) -> Doubles:
    return products.toarray() if hasattr(products, "toarray") else products
