"""Randomness that a thread can call its own.

Dropout, and the first weights of a new classification head, are drawn from PyTorch's global generators: two
trainings in two threads of one process would take turns drawing, and neither could be repeated.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_GLOBAL_GENERATORS = threading.RLock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Own the process-wide generators of Python, NumPy and PyTorch, seeded, and put them back afterwards.

    One thread at a time: others that ask for it wait. Whatever draws from a global generator belongs inside;
    a numpy Generator or torch.Generator of one's own needs none of this.

    Args:
        seed: 0 <= seed < 2**32 (NumPy's range).
    """
    with _GLOBAL_GENERATORS:
        python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            try:
                yield
            finally:
                random.setstate(python_state)
                np.random.set_state(numpy_state)  # noqa: NPY002
