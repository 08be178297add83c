"""EmbedLLM: models as factors of who answers which question right.

Zhuang et al. 2024 (arXiv 2410.02223): a matrix factorisation of correctness, with questions seen through a sentence
encoder, so that it can be asked of new ones. They train it by gradient descent on a logistic loss; here it is the least
squares of the same form, a reduced-rank regression, which has a closed form. Needs every model's answers to labelled
questions of many tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
RANK = 16
RIDGE = 1.0


@dataclass(frozen=True, eq=False)
class Factors:
    """Attributes:
    models: (m, rank).
    questions: (rank, width) takes encoded questions to the models' factors.
    own: (m,) mean correctness.
    centre: (width,) mean of the encoded questions.
    """

    models: Doubles
    questions: Doubles
    own: Doubles
    centre: Doubles

    def expected(self, encoded: Doubles) -> Doubles:
        """(m,) share of such questions (n, width) that each model answers right."""
        return np.asarray(self.own + self.models @ (self.questions @ (encoded.mean(axis=0) - self.centre)))


def factorise(right: Doubles, encoded: Doubles, rank: int = RANK, ridge: float = RIDGE) -> Factors:
    """From correctness (m, questions), 0 or 1, and the encoded questions (questions, width)."""
    own, centre = right.mean(axis=1), encoded.mean(axis=0)
    c, q = right - own[:, None], encoded - centre
    spread = q.T @ q + ridge * np.eye(q.shape[1])
    # Among maps of this rank the ridge regression is fitted best along the leading directions of what it predicts.
    root = np.linalg.cholesky(spread)
    full = np.linalg.solve(root, q.T @ c.T).T  # (m, width), the map times the root
    u, s, vt = np.linalg.svd(full, full_matrices=False)
    u, s, vt = u[:, :rank], s[:rank], vt[:rank]
    return Factors(u * s, np.linalg.solve(root.T, vt.T).T, own, centre)
