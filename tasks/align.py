"""Two spaces of a store aligned: the map and its fidelity, kept; and the nearest in one of what the other holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from fute.align import ALIGN_VERSION, Alignment, map_of, mapped
from fute.did_you_mean import did_you_mean
from fute.errors import NotInStoreError, SpaceError
from fute.fingerprint import fingerprint
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov
from fute.methods.crosscov.whitening import Doubles, centred_within, source_groups
from fute.types import Features, Floats, Kind, Pool
from fute.unify.frame import FRAME_VERSION, Frame, embed_pseudo_tasks, verdict
from storage.stamp import Stamp
from storage.store import Store
from storage.vectors import StoredEmbedding, VectorStore
from tasks.match import features_of

KINDS: tuple[Kind, ...] = get_args(Kind)
CHECKS = 6  # pseudo-tasks, two of each way in which they are drawn


@dataclass(frozen=True, eq=False)
class Aligned:
    """An alignment, and the subjects of both spaces in their frames.

    Attributes:
        mapped, own: by kind, (n, dim_b) placed vectors, in the order of the subjects.
        theirs, ours: by kind, the subjects of space a and of space b.
        shared, shared_first: subjects that both spaces hold, and those of them that are nearest to themselves.
    """

    alignment: Alignment
    mapped: Mapping[Kind, Floats]
    own: Mapping[Kind, Floats]
    theirs: Mapping[Kind, list[StoredEmbedding]]
    ours: Mapping[Kind, list[StoredEmbedding]]
    shared: int
    shared_first: int

    def nearest(self, k: int) -> list[dict[str, Any]]:
        """The k nearest datasets and models of space b for each subject of space a, best first."""
        rows = []
        for kind in KINDS:
            for candidate_kind in KINDS:
                if not (self.theirs[kind] and self.ours[candidate_kind]):
                    continue
                found = self.alignment.scores(self.mapped[kind], kind, self.own[candidate_kind], candidate_kind)
                for subject, scores in zip(self.theirs[kind], found, strict=True):
                    for rank, i in enumerate(np.argsort(-scores, kind="stable")[:k], start=1):
                        candidate, score = self.ours[candidate_kind][i], float(scores[i])
                        p = self.alignment.mapped.p_value(
                            score, (kind, candidate_kind), len(scores), (subject.metrics, candidate.metrics)
                        )
                        rows.append(
                            {
                                "subject": subject.subject,
                                "kind": kind,
                                "candidate_kind": candidate_kind,
                                "rank": rank,
                                "candidate": candidate.subject,
                                "score": max(0.0, score),
                                "p_value": p,
                                "verdict": verdict(p),
                            }
                        )
        return rows


def align(store: Store, space_a: str, space_b: str) -> Aligned:
    """Map space a into space b, keep the map with its fidelity, and place the subjects of both.

    Takes about a minute the first time, for the pool's pseudo-tasks are embedded in both.

    Raises:
        NotInStoreError: no such space.
        SpaceError: spaces of other methods or of two pools, or the pool holds too few tasks of its own.
    """
    vectors = VectorStore(store)
    a, b = _space(vectors, space_a), _space(vectors, space_b)
    if a["pool"] != b["pool"]:
        raise SpaceError(
            f"{space_a} is over pool {a['pool']} and {space_b} over {b['pool']}; only spaces over the same texts can "
            "be aligned: embed both over one pool"
        )
    pool = store.pool(a["pool"])
    key = fingerprint(space_a=space_a, space_b=space_b, align=ALIGN_VERSION, frame=FRAME_VERSION)
    frame = Frame.of(**_own_tasks(store, b, pool))

    def compute() -> dict[str, NDArray[Any]]:
        matrix = map_of(*(_pool_rows(_crosscov(space), _features(store, space), pool) for space in (a, b)))
        return {"matrix": matrix} | {kind: mapped(matrix, v) for kind, v in _tasks(store, a, b, pool).items()}

    made = store.cached_arrays("aligned", key, "1", compute)
    matrix = made.pop("matrix")
    found = _placed(Alignment.of(matrix, frame, made), vectors, space_a, space_b)
    there, here = found.alignment.mapped.own_first, frame.own_first
    row = {
        "space_a": space_a,
        "space_b": space_b,
        "version": ALIGN_VERSION,
        "fidelity": found.alignment.fidelity,
        "tasks": frame.tasks,
        "mapped_model_first": there["dataset", "model"],
        "mapped_dataset_first": there["model", "dataset"],
        "own_model_first": here["dataset", "model"],
        "own_dataset_first": here["model", "dataset"],
        "shared": found.shared,
        "shared_first": found.shared_first,
        "axes_a": matrix.shape[1],
        "matrix": matrix.ravel(),
    }
    vectors.put_alignment(key, row, Stamp())
    return found


def _placed(alignment: Alignment, vectors: VectorStore, space_a: str, space_b: str) -> Aligned:
    theirs, ours = (
        {kind: [e for e in population if e.kind == kind] for kind in KINDS}
        for population in (vectors.population(space_a), vectors.population(space_b))
    )
    moved: dict[Kind, Floats] = {}
    own: dict[Kind, Floats] = {}
    first = []
    for kind in KINDS:
        if theirs[kind]:
            moved[kind] = alignment.mapped.place(mapped(alignment.matrix, [e.vector for e in theirs[kind]]))
        if ours[kind]:
            own[kind] = alignment.frame.place([e.vector for e in ours[kind]])
        known = {e.ref: i for i, e in enumerate(ours[kind])}
        rows = [(i, known[e.ref]) for i, e in enumerate(theirs[kind]) if e.ref in known]
        if rows:
            scores = alignment.scores(moved[kind], kind, own[kind], kind)
            first += [int(scores[i].argmax()) == j for i, j in rows]
    return Aligned(alignment, moved, own, theirs, ours, len(first), sum(first))


def _space(vectors: VectorStore, space: str) -> dict[str, Any]:
    """Its row. Raises NotInStoreError: there is none; SpaceError: its vectors do not follow from features alone."""
    rows = {row["space"]: row for row in vectors.spaces()}
    if space not in rows:
        told = did_you_mean(space, rows) or "; `fute ls spaces` lists what there is"
        raise NotInStoreError(f"no space {space} in {vectors.root}{told}")
    if rows[space]["method"] != "crosscov":
        raise SpaceError(
            f"space {space} is of {rows[space]['method']}; only crosscov's vectors follow from features, so only its "
            "spaces can be aligned or exported"
        )
    return rows[space]


def _crosscov(space: Mapping[str, Any]) -> CrosscovConfig:
    return CrosscovConfig.model_validate(json.loads(space["settings"])["method"])


def _features(store: Store, space: Mapping[str, Any]) -> Features:
    return features_of(store, json.loads(space["settings"])["surrogate"], [])


def _pool_rows(config: CrosscovConfig, features: Features, pool: Pool) -> Doubles:
    """(n, d) the pool's whitened features, centred within its sources as a model's are."""
    z = Crosscov(config, features, pool).whitening.apply(features(pool.inputs))
    return centred_within(z, source_groups(np.asarray(pool.source_ids)))


def _tasks(
    store: Store, embedded_in: Mapping[str, Any], made_by: Mapping[str, Any], pool: Pool
) -> dict[str, NDArray[Any]]:
    """Pseudo-tasks of one space as another embeds them.

    Raises:
        SpaceError: the pool holds too few.
    """
    embedder = Crosscov(_crosscov(embedded_in), _features(store, embedded_in), pool)
    return _enough(embed_pseudo_tasks(embedder, _features(store, made_by), pool, made_by["seed"]), pool)


def _own_tasks(store: Store, space: Mapping[str, Any], pool: Pool) -> dict[str, NDArray[Any]]:
    made = store.cached_arrays("pseudo", space["space"], str(FRAME_VERSION), lambda: _tasks(store, space, space, pool))
    return _enough(made, pool)


def check_vectors(store: Store, space: str) -> Floats:
    """(2 CHECKS, dim) of the first of a space's own tasks, by which another store knows it again."""
    row = _space(VectorStore(store), space)
    made = _own_tasks(store, row, store.pool(row["pool"]))
    return np.concatenate([made[kind][:CHECKS] for kind in ("datasets", "models")])


def _enough(made: Mapping[str, NDArray[Any]] | None, pool: Pool) -> dict[str, NDArray[Any]]:
    if not made:
        raise SpaceError(f"pool {pool.id} holds too few tasks of its own to measure an alignment; give it more texts")
    return dict(made)
