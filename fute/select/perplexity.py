"""SPELL: the prompt that reads most naturally to the model. Needs an endpoint that tells how probable a prompt is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fute.errors import OutputsError
from fute.select.candidates import Doubles
from fute.select.ranking import NORMAL_95, Ranking


def spell(perplexities: NDArray[np.floating]) -> Doubles:
    """(m,) minus the mean perplexity of each prompt over its inputs; higher is to be preferred.

    Args:
        perplexities: (m, n) of m prompts filled in with n inputs, input included and answer not, as
            `PromptedModel.perplexities` gives them; NaN where a prompt was not asked.

    Raises:
        OutputsError: a prompt without any.

    Source: Gonen et al. 2022, Demystifying Prompts in Language Models via Perplexity Estimation, arXiv 2212.04037,
    section 2.
    """
    known = np.isfinite(perplexities)
    without = np.flatnonzero(~known.any(axis=1))
    if len(without):
        raise OutputsError(f"candidate {without[0]} has no perplexity of any input; SPELL averages over at least one")
    return -np.where(known, perplexities, 0.0).sum(axis=1).astype(np.float64) / known.sum(axis=1)


def rank_perplexities(
    ids: tuple[str, ...], perplexities: NDArray[np.floating], *, resamples: int = 100, seed: int = 0
) -> Ranking:
    """Candidates by `spell`, with intervals over resamples of the inputs. Those without a perplexity come last, and
    have no score.

    Args:
        perplexities: (m, n) as for `spell`.

    Raises:
        OutputsError: no candidate has any.
    """
    known = np.isfinite(perplexities).any(axis=1)
    if not known.any():
        raise OutputsError("no candidate has a perplexity of any input; look at the endpoints' failures")
    some = np.flatnonzero(np.isfinite(perplexities[known]).all(axis=0))
    scores = np.full(len(ids), np.nan)
    scores[known] = spell(perplexities[known])
    spread, best = np.zeros(len(ids)), np.zeros(len(ids))
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(some, size=len(some)) for _ in range(resamples if len(some) else 0)]
    again = np.array([spell(perplexities[known][:, rows]) for rows in drawn]) if drawn else scores[known][None]
    if len(again) > 1:
        spread[known] = NORMAL_95 * again.std(axis=0, ddof=1)
    best[known] = (again >= again.max(axis=1, keepdims=True)).mean(axis=0)
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    return Ranking(ids, scores, scores - spread, scores + spread, best, order)
