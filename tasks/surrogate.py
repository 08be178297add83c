"""Stage 2: the surrogate, pinned; the pool's features; the spaces of the study's methods."""

from __future__ import annotations

from pydantic import BaseModel

from fute.config import Method, SurrogateConfig
from fute.space import space_id
from fute.surrogate.identity import resolve_dtype, surrogate_identity
from storage.store import to_json
from storage.vectors import VectorStore
from tasks import resources
from tasks.engine import NO_CACHE, task
from tasks.ingest import PoolRef
from tasks.run import Run
from tasks.study import surrogate_of


class SpaceRef(BaseModel):
    """A space in the store, with what is needed to open it."""

    id: str
    surrogate: SurrogateConfig
    """Its dtype is decided: a worker with other hardware would decide otherwise, and mix two precisions in a space."""
    revision: str
    method: Method
    pool: str
    seed: int

    def columns(self) -> dict[str, object]:
        """The columns that describe a space, in a row of `spaces` and in each row of `embeddings`."""
        return {
            "space": self.id,
            "method": self.method.method,
            "surrogate": self.surrogate.model,
            "revision": self.revision,
            "pool": self.pool,
            "seed": self.seed,
            "settings": to_json({"surrogate": self.surrogate.identity(), "method": self.method.identity()}),
        }


@task(cache_policy=NO_CACHE, task_run_name="features-of-pool")
def pool_features(run: Run, config: SurrogateConfig, pool: PoolRef) -> int:
    """Compute the pool's features, or find them in the cache; returns their width."""
    store = run.open_store()
    return resources.features(store, config, run.folder, pool.id)(store.pool(pool.id).inputs).shape[1]


@task(cache_policy=NO_CACHE, task_run_name="space-{method.method}")
def register_space(run: Run, config: SurrogateConfig, method: Method, pool: PoolRef) -> SpaceRef:
    """Name the space of surrogate, method and pool, and record what it is. Called in the flow's own process."""
    config = resolve_dtype(surrogate_of(method, config))
    identity = surrogate_identity(config, run.folder)
    space = SpaceRef(
        id=space_id(identity, method, pool.id, run.seed, run.folder),
        surrogate=config,
        revision=str(identity["revision"]),
        method=method,
        pool=pool.id,
        seed=run.seed,
    )
    VectorStore(run.open_store()).put_space(space.columns(), run.stamp)
    return space
