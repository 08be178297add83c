"""From a question answerer's logits to its candidate answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fute.spans import NO_ANSWER

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]
Candidate = tuple[int, int, float]
"""Start, end, probability."""

SPARE = 4
"""Times as many token spans are looked at as candidates are wanted: several may be the same characters."""


def span_scores(
    starts: Sequence[Doubles], ends: Sequence[Doubles], firsts: Sequence[int], n_tokens: int, longest: int
) -> Doubles:
    """Score of every span of up to `longest` tokens of a context, over all windows that hold it.

    The score is the start's plus the end's logit (Devlin et al. 2019, arXiv 1810.04805, section 4.2). A span that
    stands in two windows counts once, with its higher score.

    Args:
        starts, ends: per window (its context tokens,) logits.
        firsts: per window the number of its first context token.

    Returns:
        (n_tokens, longest): [first token, tokens - 1]; -inf where there is no such span.
    """
    scores = np.full((n_tokens, longest), -np.inf)
    for start, end, first in zip(starts, ends, firsts, strict=True):
        size = len(start)
        for extra in range(min(longest, size)):
            there = scores[first : first + size - extra, extra]
            np.maximum(there, start[: size - extra] + end[extra:], out=there)
    return scores


def best_candidates(scores: Doubles, offsets: Ints, null: float | None, k: int) -> list[Candidate]:
    """The k most probable answers, most probable first.

    Probabilities are the softmax over every span of the context and, where it competes, "no answer".

    Args:
        scores: as `span_scores` gives them.
        offsets: (n_tokens, 2) characters of each token.
        null: score of "no answer"; None: it does not compete.

    Returns:
        Fewer than k where there are fewer; none where no token stands for a character.
    """
    n_tokens, longest = scores.shape
    first = np.repeat(np.arange(n_tokens), longest)
    last = np.minimum(first + np.tile(np.arange(longest), n_tokens), n_tokens - 1)
    # Tokens that stand for no character would only repeat the spans of their neighbours.
    solid = offsets[:, 1] > offsets[:, 0]
    flat = np.where(solid[first] & solid[last], scores.ravel(), -np.inf)
    flat = np.append(flat, -np.inf if null is None else null)
    highest = flat.max()
    if not np.isfinite(highest):
        return []
    probabilities = np.exp(flat - highest)
    probabilities /= probabilities.sum()

    found: dict[tuple[int, int], float] = {}
    n_looked_at = min(SPARE * k, len(flat))
    for i in np.argpartition(-probabilities, n_looked_at - 1)[:n_looked_at]:
        if not np.isfinite(flat[i]):
            continue
        is_null = i == len(flat) - 1
        span = (NO_ANSWER, NO_ANSWER) if is_null else (int(offsets[first[i], 0]), int(offsets[last[i], 1]))
        found[span] = found.get(span, 0.0) + float(probabilities[i])
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [(start, end, probability) for (start, end), probability in ranked[:k]]
