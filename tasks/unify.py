"""Stage 4: all embeddings of a space in one frame, and who is nearest to whom."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from fute.config import UnifyConfig
from fute.types import Floats, Kind
from fute.unify.frame import FRAME_VERSION, Chance, Frame, embed_pseudo_tasks, verdict
from fute.unify.neighbors import nearest_neighbors
from storage.nearest import placed_vectors
from storage.retirements import SubjectKey
from storage.vectors import StoredEmbedding, VectorStore
from tasks import resources
from tasks.embed import EmbeddingRef
from tasks.engine import NO_CACHE, task
from tasks.intervals import neighbor_intervals
from tasks.ranking import note_on, ranking_key
from tasks.run import Failure, Run
from tasks.surrogate import SpaceRef

log = logging.getLogger(__name__)


class Unified(BaseModel):
    """A unified space: how it was framed, and how many subjects there are."""

    space: str
    frame: str
    subjects: int
    note: str | None = None
    failures: list[Failure] = []
    """Of judging how often its models will be right."""


@task(cache_policy=NO_CACHE, task_run_name="unify-{space.id}")
def unify_space(run: Run, space: SpaceRef, config: UnifyConfig, embedded: list[EmbeddingRef] | None = None) -> Unified:
    """Bring the space into one frame and write its neighbours, unless just this was done before.

    Args:
        embedded: what the run has made or found. These versions of their subjects are ranked, so that a study that goes
            back to an earlier one ranks that; of other subjects those that count in the store.
    """
    vectors = VectorStore(run.open_store())
    current: dict[SubjectKey, str] = {(e.kind, e.subject): e.fingerprint for e in embedded or () if e.space == space.id}
    population = vectors.population(space.id, current)
    while population:
        key = ranking_key(population, space.method, config)
        if vectors.has_ranked(space.id, key):
            return _unified(vectors.ranked_frame(space.id), space.id, len(population))
        frame = _frame(run, space) if config.frame != "none" else None
        placed = placed_vectors(population, frame)
        chance = None if frame is None else frame.chance(placed)
        table = _ranking(run, space, config, population, placed, frame, chance)
        ranked, population = population, vectors.population(space.id, current)
        if ranking_key(population, space.method, config) == key:
            vectors.put_ranking(space.id, key, table, ranked, chance, run.stamp)
            return _unified(frame, space.id, len(ranked))
        # Another run has embedded more meanwhile, and may have ranked it: a view without that must not be the last one.
    return Unified(space=space.id, frame="none", subjects=0, note="the space is empty")


def _ranking(
    run: Run,
    space: SpaceRef,
    config: UnifyConfig,
    population: Sequence[StoredEmbedding],
    placed: Floats,
    frame: Frame | None,
    chance: Chance | None,
) -> pa.Table:
    """Neighbours, without a stamp."""
    kinds: list[Kind] = [e.kind for e in population]
    neighbors = nearest_neighbors(placed, kinds, chance, config.neighbors)
    intervals = neighbor_intervals(run, space, population, frame, chance, neighbors)
    p_values = [
        None
        if frame is None
        else frame.p_value(
            n.score,
            (kinds[n.query], kinds[n.candidate]),
            n.candidates,
            (population[n.query].metrics, population[n.candidate].metrics),
        )
        for n in neighbors
    ]
    return pa.table(
        {
            "space": pa.repeat(pa.scalar(space.id), len(neighbors)),
            "query": [population[n.query].subject for n in neighbors],
            "query_kind": [kinds[n.query] for n in neighbors],
            "candidate": [population[n.candidate].subject for n in neighbors],
            "candidate_kind": [kinds[n.candidate] for n in neighbors],
            "rank": [n.rank for n in neighbors],
            # Below chance is no nearer than chance.
            "score": pa.array([None if frame is None else max(0.0, n.score) for n in neighbors], pa.float32()),
            **{
                name: pa.array([getattr(i, name) for i in intervals], pa.float32())
                for name in ("ci_low", "ci_high", "ahead", "ahead_low", "ahead_high")
            },
            "p_value": pa.array(p_values, pa.float64()),
            "verdict": pa.array([verdict(p) for p in p_values], pa.string()),
            "similarity": pa.array([n.cosine for n in neighbors], pa.float32()),
        }
    )


def _frame(run: Run, space: SpaceRef) -> Frame | None:
    """The frame of the space. Its pseudo-subjects are embedded once, as long as their cache is there."""
    store = run.open_store()

    def compute() -> dict[str, np.ndarray]:
        log.info("unify: embedding tasks made of the pool's own rows, for what is chance (%s)", space.method.method)
        embedder = resources.space(run, space.id, space.surrogate, space.method, space.pool)
        features = resources.features(store, space.surrogate, run.folder, space.pool)
        with resources.compute_lock:
            made = embed_pseudo_tasks(embedder, features, store.pool(space.pool), space.seed)
        return {} if made is None else made

    vectors = store.cached_arrays("pseudo", space.id, str(FRAME_VERSION), compute)
    if not vectors:
        return None
    frame = Frame.of(**vectors)
    VectorStore(store).put_frame(space.id, frame, run.stamp)
    return frame


def _unified(frame: Frame | None, space: str, subjects: int) -> Unified:
    told = "none" if frame is None else f"{frame.tasks} pseudo-tasks"
    return Unified(space=space, frame=told, subjects=subjects, note=note_on(frame))
