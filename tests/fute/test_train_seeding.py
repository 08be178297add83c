"""One owner at a time of the process-wide generators."""

from __future__ import annotations

import random
import threading
import time

import numpy as np
import pytest
import torch

from fute.seeding import seeded


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002


def test_same_seed_draws_the_same_and_the_generators_go_on_where_they_were() -> None:
    with seeded(3):
        outside = draw()
        following = draw()
    with seeded(3):
        assert draw() == outside
        with seeded(7):
            inner = draw()
        assert draw() == following
    with seeded(7):
        assert draw() == inner


def test_generators_are_put_back_after_an_error() -> None:
    with seeded(5):
        expected = draw()
    with seeded(5):
        with pytest.raises(ZeroDivisionError), seeded(6):
            _ = draw()[0] / 0
        assert draw() == expected


def test_threads_do_not_draw_from_each_others_sequence() -> None:
    def sequence(seed: int) -> list[float]:
        drawn = []
        with seeded(seed):
            for _ in range(20):
                drawn.append(float(torch.rand(())))
                time.sleep(0.0005)  # an invitation to the other threads
        return drawn

    alone = {seed: sequence(seed) for seed in range(4)}
    together: dict[int, list[float]] = {}
    threads = [threading.Thread(target=lambda s=seed: together.update({s: sequence(s)})) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
