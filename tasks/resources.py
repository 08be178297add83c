"""Heavy things that the tasks of one process share, surrogates and opened spaces: made once, never passed along."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fute.config import Method, SurrogateConfig
from fute.fingerprint import fingerprint
from fute.llm.budget import Account
from fute.methods.embedder import Embedder
from fute.space import open_space
from fute.surrogate.identity import surrogate_identity
from fute.surrogate.vectors import has_no_model, vector_features
from fute.types import Features, TextTable
from storage.responses import ResponseStore
from storage.store import Store
from tasks.run import Run

if TYPE_CHECKING:
    from fute.surrogate.load import Surrogate

T = TypeVar("T")

KEPT = 8  # spaces and surrogates kept in memory at most


class OnceCache:
    """A small cache in which each entry is made once, even when several threads want it at the same time.

    Args:
        kept: entries at most, the oldest gives way; None: all are kept as long as the process lives.
    """

    def __init__(self, kept: int | None = KEPT) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._entries: dict[Hashable, Any] = {}
        self._locks: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            with self._lock:
                if key in self._entries:
                    return self._entries[key]
            made = make()
            with self._lock:
                while self._kept is not None and len(self._entries) >= self._kept:
                    self._entries.pop(next(iter(self._entries)))
                self._entries[key] = made
            return made


_surrogates = OnceCache()
_spaces = OnceCache()
_vectors = OnceCache()
# Small, and one of each: a second account would not know what is in flight, a second ledger not what was kept.
_ledgers = OnceCache(kept=None)
_accounts = OnceCache(kept=None)

# One forward pass or training at a time: each uses all cores (or the one GPU) by itself, and two at once only thrash.
compute_lock = threading.RLock()


def surrogate_id(config: SurrogateConfig, base_dir: Path) -> str:
    """The name of a surrogate's folder in the feature cache."""
    return fingerprint(**surrogate_identity(config, base_dir))


def surrogate(config: SurrogateConfig, base_dir: Path) -> Surrogate:
    from fute.surrogate.load import load_surrogate

    return _surrogates.get(surrogate_id(config, base_dir), lambda: load_surrogate(config, base_dir))


def features(store: Store, config: SurrogateConfig, base_dir: Path, pool: str | None = None) -> Features:
    """Surrogate features of any table, from the store's cache where they are; the surrogate is loaded only if not.

    Args:
        pool: whose inputs these are like; a surrogate that is no model needs it.
    """
    if has_no_model(config.model) and pool is not None:
        key = (store.root, surrogate_id(config, base_dir), pool)
        return _vectors.get(key, lambda: vector_features(config.model, base_dir, store.pool(pool)))
    return store.cached_features(surrogate_id(config, base_dir), computed_features(config, base_dir))


def computed_features(config: SurrogateConfig, base_dir: Path) -> Features:
    """Surrogate features of any table, computed whenever they are asked for."""

    def compute(table: TextTable) -> Any:
        from fute.surrogate.features import compute_features

        with compute_lock:
            return compute_features(surrogate(config, base_dir), table)

    return compute


def response_store(store: Store) -> ResponseStore:
    """The store's LLM answers; one object for all threads of this process."""
    return _ledgers.get(store.root, lambda: ResponseStore(store.root / "responses"))


@contextmanager
def answers_handed_in(run: Run) -> Iterator[None]:
    """Around asking on another machine than the flow's: what was paid for is exported, however the asking ends."""
    try:
        yield
    finally:
        if run.scattered:
            response_store(run.open_store()).export()


def account(run: Run, name: str, make: Callable[[], Account]) -> Account:
    """A budget of a run; one object for all threads of this process."""
    return _accounts.get((run.store, run.account, name), make)


def space(run: Run, space_id: str, config: SurrogateConfig, method: Method, pool: str) -> Embedder:
    """The opened space (its surrogate loaded, the pool whitened), made once in this process."""
    store = run.open_store()

    def make() -> Embedder:
        from fute.surrogate.load import load_surrogate

        return open_space(
            method,
            # Whole, and so not the one that features are computed with, which does without a T5's decoder.
            lambda: load_surrogate(config, run.folder, whole=True),
            features(store, config, run.folder, pool),
            store.pool(pool),
            run.seed,
            run.folder,
        )

    return _spaces.get((run.store, space_id), make)
