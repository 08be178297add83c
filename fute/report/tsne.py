"""t-SNE, exact and without a seed: the start is given, so that the same distances give the same picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

EXAGGERATION = 12.0  # of the affinities in the first iterations, so that groups form before they settle
EXAGGERATED_ITERATIONS = 250
ITERATIONS = 350  # after those
RESCUES = 10  # tries of bringing a single point home
RESCUE_ITERATIONS = 200
FAR = 3.0  # times the median distance to the nearest: a point further than that from its own was cut off from it


def tsne(distances: Matrix, start: Matrix, *, perplexity: float) -> Matrix:
    """Move points of the plane until their neighbourhoods follow those of the distances.

    Points cannot pass through a group in the plane, so single ones end cut off from those they belong to. Such points
    are set beside their nearest, and the descent goes on from there; what lowers the divergence is kept.

    Args:
        distances: (n, n), symmetric, zero on the diagonal; n of at least 4.
        start: (n, 2) places; their scale does not matter.
        perplexity: about how many neighbours each point attends to, below n - 1.

    Returns:
        (n, 2). About 1 s for 300 points and 10 s for 1,000 on one core.

    Source: van der Maaten and Hinton 2008; learning rate as in Belkina et al. 2019, start as in Kobak and Berens 2019.
    """
    affinities = _affinities(distances, perplexity)
    # A tiny start: points that begin far apart have no pull left on each other.
    places = start / max(float(start[:, 0].std()), 1e-12) * 1e-2
    places, _ = _descend(affinities * EXAGGERATION, places, iterations=EXAGGERATED_ITERATIONS, momentum=0.5)
    places, divergence = _descend(affinities, places, iterations=ITERATIONS, momentum=0.8)
    nearest = affinities.argmax(axis=1)
    tried: list[int] = []
    while len(tried) < RESCUES:
        reach = np.sqrt(((places - places[nearest]) ** 2).sum(axis=1))
        far = reach > FAR * np.median(reach)
        far[tried] = False
        if not far.any():
            break
        # One at a time: of two that miss each other only one is in the wrong place.
        stray = int(np.where(far, reach, 0.0).argmax())
        tried.append(stray)
        moved = places.copy()
        moved[stray] = places[nearest[stray]]
        moved, new_divergence = _descend(affinities, moved, iterations=RESCUE_ITERATIONS, momentum=0.8)
        if new_divergence < divergence:
            places, divergence = moved, new_divergence
    return places


def _descend(affinities: Matrix, places: Matrix, *, iterations: int, momentum: float) -> tuple[Matrix, float]:
    """Gradient descent with momentum and gains.

    Returns:
        Places, and the Kullback-Leibler divergence of the last iteration's start but for a constant of the affinities.
    """
    learning_rate = max(len(places) / EXAGGERATION, 50.0)
    velocity = np.zeros_like(places)
    gains = np.ones_like(places)
    # In place from here on: new arrays of this size cost more than the sums.
    kernel, pull = np.empty_like(affinities), np.empty_like(affinities)
    for iteration in range(iterations):
        # kernel = 1 / (1 + squared distances), (n, n)
        squares = (places**2).sum(axis=1)
        np.matmul(-2.0 * places, places.T, out=kernel)
        kernel += squares[:, None] + 1.0
        kernel += squares
        np.maximum(kernel, 1.0, out=kernel)
        if iteration == iterations - 1:
            np.log(kernel, out=pull)
            divergence = float((affinities * pull).sum())
        np.reciprocal(kernel, out=kernel)
        np.fill_diagonal(kernel, 0.0)
        total = kernel.sum()
        # pull = (affinities - kernel / total) * kernel, (n, n)
        np.multiply(kernel, -1.0 / total, out=pull)
        pull += affinities
        pull *= kernel
        gradient = 4.0 * (pull.sum(axis=1)[:, None] * places - pull @ places)
        gains = np.where(gradient * velocity < 0, gains + 0.2, np.maximum(gains * 0.8, 0.01))
        velocity = momentum * velocity - learning_rate * gains * gradient
        places = places + velocity
    return places, divergence + float(np.log(total)) * float(affinities.sum())


def _affinities(distances: Matrix, perplexity: float) -> Matrix:
    """(n, n), symmetric, sum 1: Gaussian neighbourhoods, each as wide as the perplexity asks, found by bisection."""
    n = len(distances)
    squares = (distances / distances[distances > 0].mean()) ** 2
    np.fill_diagonal(squares, np.inf)
    # Taken off each row, which changes nothing after normalising, so that no row underflows to zero.
    squares -= squares.min(axis=1, keepdims=True)
    low, high = np.full((n, 1), -20.0), np.full((n, 1), 20.0)  # natural logarithms of the precision
    for _ in range(60):
        middle = (low + high) / 2
        weights = np.exp(-np.exp(middle) * squares)
        weights /= weights.sum(axis=1, keepdims=True)
        logarithms = np.log(weights, out=np.zeros_like(weights), where=weights > 0)
        too_wide = -(weights * logarithms).sum(axis=1, keepdims=True) > np.log(perplexity)
        low, high = np.where(too_wide, middle, low), np.where(too_wide, high, middle)
    return np.asarray((weights + weights.T) / (2 * n))
