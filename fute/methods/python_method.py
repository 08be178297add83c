"""A method of the user's own, held to what all methods promise: one finite vector of one length, at unit length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fute.entry_point import check_call, load_entry_point
from fute.errors import MethodError, foreign_code
from fute.methods.embedder import Embedder
from fute.methods.python_config import PythonMethodConfig
from fute.types import Dataset, Outputs, TaskEmbedding


def method_function(config: PythonMethodConfig, base_dir: Path) -> Callable[..., Any]:
    """The user's function. Raises ConfigError: there is none. ModelError: its module raised, or other arguments."""
    make = load_entry_point(config.entry_point, base_dir)
    check_call(config.entry_point, make, (), ["surrogate", "features", "pool", "seed", *config.kwargs])
    return make


class PythonMethod(Embedder):
    """Calls an embedder that a function of the user's made.

    The function gets `surrogate` (called without arguments, it loads the surrogate, a T5 with its decoder), `features`
    (a table of texts -> (n, width) float32, cached), `pool` and `seed`; what it returns has `dataset(dataset)` and
    `model(outputs)`, each giving a vector of numbers, (dim,).
    """

    pseudo_tasks = 24
    """What one costs is not known."""

    def __init__(self, config: PythonMethodConfig, base_dir: Path, **given: Any) -> None:
        """
        Args:
            given: surrogate, features, pool, seed.

        Raises:
            ConfigError: no such function.
            ModelError: it raised.
            MethodError: what it returned is no embedder.
        """
        self._name = config.entry_point
        make = method_function(config, base_dir)
        with foreign_code(self._name, "its function"):
            self._own = make(**given, **config.kwargs)
        lacking = [name for name in ("dataset", "model") if not callable(getattr(self._own, name, None))]
        if lacking:
            raise MethodError(
                f"{self._name} returned {type(self._own).__name__}, which has no method {' and no '.join(lacking)}; "
                "return an object with dataset(dataset) and model(outputs)"
            )

    def dataset(self, dataset: Dataset) -> TaskEmbedding:
        """DTE. Raises MethodError where the vector cannot be used."""
        return self._checked("dataset", dataset)

    def model(self, outputs: Outputs) -> TaskEmbedding:
        """MTE. Raises MethodError where the vector cannot be used."""
        return self._checked("model", outputs)

    def _checked(self, what: str, subject: Dataset | Outputs) -> TaskEmbedding:
        with foreign_code(self._name, f"its {what}()"):
            vector = np.asarray(getattr(self._own, what)(subject), dtype=np.float64)
        if vector.ndim != 1 or vector.size == 0:
            raise MethodError(f"{self._name}: {what}() gave an array of shape {vector.shape}; give one row of numbers")
        if not np.isfinite(vector).all():
            raise MethodError(f"{self._name}: {what}() gave NaN or infinity")
        length = float(np.linalg.norm(vector))
        if length == 0:
            raise MethodError(f"{self._name}: {what}() gave zeros, which have no direction")
        return TaskEmbedding((vector / length).astype(np.float32), {"length": length})
