"""What makes a space, and the embedder that makes its vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fute.config import Method
from fute.entry_point import entry_point_identity
from fute.errors import MethodError
from fute.fingerprint import fingerprint
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.embedder import Embedder
from fute.methods.outputs.config import OutputsConfig
from fute.methods.python_config import PythonMethodConfig
from fute.methods.python_method import PythonMethod
from fute.methods.taskemb.config import TaskembConfig
from fute.methods.tupate.config import TupateConfig
from fute.types import Features, Kind, Pool

if TYPE_CHECKING:
    from fute.surrogate.load import Surrogate

# Raised with every change after which a method makes other vectors from the same input, its settings being the same:
# other rows sampled, other batches or another order of them, another start, loss or reading of the answers. Not for
# float rounding alone. What was made before keeps its space; vectors of two versions are never compared.
METHOD_VERSIONS = {"crosscov": 3, "tupate": 2, "taskemb": 2, "outputs": 1, "python": 1}


def space_id(surrogate: dict[str, Any], method: Method, pool: str, seed: int, base_dir: Path = Path()) -> str:
    """Identity of a space: two vectors compare only where it is the same.

    Args:
        surrogate: the surrogate's identity (weights, layer, tokens).
        pool: the pool's id.
        base_dir: where a method of the user's own is looked for first.

    Raises:
        ConfigError: a method of the user's own that is not there.
    """
    code = (
        {"code": entry_point_identity(method.entry_point, base_dir)} if isinstance(method, PythonMethodConfig) else {}
    )
    return fingerprint(
        **code,
        surrogate=surrogate,
        method=method.identity(exclude={"bootstrap"}),
        version=METHOD_VERSIONS[method.method],
        pool=pool,
        seed=seed,
    )


def embedding_id(space: str, kind: Kind, subject: str, subject_fingerprint: str) -> str:
    """Identity of one embedding."""
    return fingerprint(space=space, kind=kind, subject=subject, subject_fingerprint=subject_fingerprint)


def open_space(
    method: Method,
    surrogate: Callable[[], Surrogate],
    features: Features,
    pool: Pool,
    seed: int,
    base_dir: Path = Path(),
) -> Embedder:
    """The method, made ready on a pool. All methods behind the same call.

    Args:
        surrogate: loads it whole, a T5 with its decoder; not called by a method that needs only features.
        features: surrogate features of any table, cached or not.
        base_dir: where a method of the user's own is looked for first.
    """
    # Each here, for each brings libraries of its own, and a space can be named without any.
    if isinstance(method, CrosscovConfig):
        from fute.methods.crosscov.embed import Crosscov

        return Crosscov(method, features, pool)
    if isinstance(method, OutputsConfig):
        from fute.methods.outputs.embed import OutputsAlone

        return OutputsAlone(method, pool)
    if isinstance(method, TupateConfig):
        from fute.methods.tupate.embed import Tupate

        return Tupate(method, surrogate(), pool, seed)
    if isinstance(method, TaskembConfig):
        from fute.methods.taskemb.embed import Taskemb

        return Taskemb(method, surrogate(), pool, seed)
    if isinstance(method, PythonMethodConfig):
        return PythonMethod(method, base_dir, surrogate=surrogate, features=features, pool=pool, seed=seed)
    raise MethodError(f"no method {method!r}; there are {', '.join(METHOD_VERSIONS)}")
