"""Stage 4: all embeddings of a space in one frame, and who is nearest to whom."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel

from fute.config import UnifyConfig
from fute.fingerprint import fingerprint
from fute.unify.frame import NO_REFERENCE, Reference, make_reference, require_one_space, similarities
from fute.unify.neighbors import nearest_neighbors
from storage.nearest import unified_vectors
from storage.vectors import StoredEmbedding, SubjectKey, VectorStore
from tasks.embed import EmbeddingRef
from tasks.intervals import neighbor_intervals
from tasks.run import Run
from tasks.surrogate import SpaceRef

# Raised when the same embeddings would be ranked otherwise.
UNIFY_VERSION = 1


class Unified(BaseModel):
    """A unified space: what was removed, and how many subjects there are."""

    space: str
    reference: str
    subjects: int
    note: str | None = None


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
    if not population:
        return Unified(space=space.id, reference="none", subjects=0, note="the space is empty")
    require_one_space([e.row["space"] for e in population])
    reference, note = reference_of(vectors, space.id, population, config, run)
    done = Unified(space=space.id, reference=reference.describe(), subjects=len(population), note=note)
    key = fingerprint(
        members=[e.fingerprint for e in population],
        reference=reference.fingerprint,
        limit=config.neighbors,
        bootstrap=getattr(space.method, "bootstrap", 0),
        version=UNIFY_VERSION,
    )
    if vectors.refresh_ranking(space.id, key, population):
        return done
    unified = unified_vectors(population, reference)
    kinds = [e.kind for e in population]
    neighbors = nearest_neighbors(similarities(unified), kinds, config.neighbors)
    intervals = neighbor_intervals(run, space, population, reference, neighbors)
    table = pa.table(
        {
            "space": pa.repeat(pa.scalar(space.id), len(neighbors)),
            "query": [population[n.query].subject for n in neighbors],
            "query_kind": [kinds[n.query] for n in neighbors],
            "candidate": [population[n.candidate].subject for n in neighbors],
            "candidate_kind": [kinds[n.candidate] for n in neighbors],
            "rank": [n.rank for n in neighbors],
            "score": [n.score for n in neighbors],
            "ci_low": pa.array([low for low, _ in intervals], pa.float32()),
            "ci_high": pa.array([high for _, high in intervals], pa.float32()),
            "reference": pa.repeat(pa.scalar(done.reference), len(neighbors)),
        }
    )
    vectors.put_ranking(space.id, key, table, population, run.stamp)
    return done


def reference_of(
    vectors: VectorStore, space: str, population: list[StoredEmbedding], config: UnifyConfig, run: Run
) -> tuple[Reference, str | None]:
    """The reference means to use, made on first need or on purpose; and what a reader should be told about them."""
    if config.reference == "none":
        return NO_REFERENCE, None
    stored = vectors.reference(space)
    if stored.version and config.reference == "keep":
        return stored, _could_be_renewed(stored, population, config.min_population)
    made = make_reference(
        stored.version + 1,
        [e.vector for e in population],
        [e.group for e in population],
        [e.fingerprint for e in population],
        min_population=config.min_population,
        recentred=population[0].row["method"] == "crosscov",
    )
    if not made.groups:
        return NO_REFERENCE, (
            f"not centred: fewer than {config.min_population} datasets and fewer than {config.min_population} models"
        )
    if _members(made) == _members(stored):
        return stored, None  # of the same subjects it would be the same again
    vectors.put_reference(space, made, run.stamp)
    made = vectors.reference(space)  # another run may have been first
    sizes = ", ".join(f"{len(group.members)} of {name}" for name, group in made.groups.items())
    return made, f"reference v{made.version} was made now, from the space as it is ({sizes})"


def _members(reference: Reference) -> dict[str, tuple[str, ...]]:
    return {name: group.members for name, group in reference.groups.items()}


def _could_be_renewed(stored: Reference, population: list[StoredEmbedding], min_population: int) -> str | None:
    """What a reader should know when the space has outgrown its reference."""
    sizes = Counter(group for e in population for group in e.group.groups[:-1])
    lacking = [name for name, size in sizes.items() if size >= min_population and name not in stored.groups]
    outgrown = [name for name, group in stored.groups.items() if sizes[name] >= 2 * len(group.members)]
    if not lacking and not outgrown:
        return None
    return (
        f"reference v{stored.version} is kept, though {', '.join(lacking + outgrown)} could now have a better one; "
        "renew it on purpose with unify.reference: renew"
    )
