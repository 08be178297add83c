"""Source selection: how well the embeddings in the store predict the transfer scores.

A target's embedding is made of its whole training split (as many rows as the method takes), while a transfer gets a few
of these rows. So the embeddings see more labels than the fine-tuning; the printed result says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from fute.config import TransferConfig
from fute.evaluate.transfer import Gain, Selection, chance, evaluate_selection
from fute.evaluate.transfer_scores import TransferScores
from fute.space import embedding_id
from fute.types import Kind
from storage.nearest import placed_vectors
from storage.retirements import SubjectKey
from storage.store import Store
from storage.vectors import VectorStore
from tasks.engine import NO_CACHE, task
from tasks.run import Run
from tasks.study import DatasetRef
from tasks.transfer import SourceRef, TargetScores

CHANCE = "chance"
GAINS: tuple[Gain, Gain] = ("exponential", "relative")


class SelectionRow(BaseModel):
    """One method's measures. A number that is not known is null."""

    method: str
    """crosscov, tupate ..., or chance."""
    space: str | None
    sources_as: Kind | None
    """Whether a source stands for its dataset (DTE) or for the model trained on it (MTE)."""
    frame: str | None
    """What the cosines were measured in: pseudo-tasks, or none."""
    candidates: str
    """all, or family: only sources of the target's own."""
    targets: int
    best_rank: float | None
    ndcg: float | None
    """Of gain 2^score - 1: near 1 for any ranking, read it beside chance."""
    ndcg_relative: float | None
    """Of gain 0 for the target's worst source to 1 for its best."""
    regret: float | None
    pick_gain: float | None


class TransferReport(BaseModel):
    """The score matrix of a study, and what each method made of it."""

    study: str
    sources: list[str]
    targets: list[str]
    source_families: list[str | None]
    target_families: list[str | None]
    scores: list[list[float | None]]
    """(sources, targets), means over the seeds."""
    baseline: list[float | None]
    """(targets,) from the plain backbone."""
    seeds: int
    rows: int
    """Training rows of a target that a transfer gets; the target's embedding is made of its whole training split."""
    reused: int
    """Scores that were in the store already."""
    selection: list[SelectionRow]


@dataclass(frozen=True, eq=False)
class SpaceSimilarities:
    """What one space says of sources and targets.

    Attributes:
        frame: what its cosines are measured in: pseudo-tasks, or none.
        sources_as: whether a source stands for its dataset or for the model trained on it.
        cosines: (sources, targets), NaN where an embedding is not in the store.
    """

    method: str
    space: str
    frame: str
    sources_as: Kind
    cosines: NDArray[np.float64]


@task(cache_policy=NO_CACHE, task_run_name="select-sources")
def select_sources(
    run: Run,
    families: dict[str, str | None],
    targets: list[DatasetRef],
    sources: list[SourceRef],
    found: list[TargetScores],
    config: TransferConfig,
) -> str:
    """Write the matrix, with each method's measures on it, as JSON in the store's reports; returns its path."""
    store = run.open_store()
    cells = [(source, f.target, f.seed, score) for f in found for source, score in f.scores.items()]
    matrix = TransferScores.of([s.dataset.id for s in sources], [t.id for t in targets], families, config.seeds, cells)
    report = TransferReport(
        study=run.study,
        sources=list(matrix.sources),
        targets=list(matrix.targets),
        source_families=list(matrix.source_families),
        target_families=list(matrix.target_families),
        scores=[[_known(score) for score in row] for row in matrix.mean_scores],
        baseline=[_known(score) for score in matrix.mean_baseline],
        seeds=config.seeds,
        rows=config.rows,
        reused=sum(f.reused for f in found),
        selection=_measure(store, matrix, targets, sources),
    )
    return str(store.put_report(f"{run.study}.transfer.json", report.model_dump_json(indent=1) + "\n"))


def read_report(path: str) -> TransferReport:
    return TransferReport.model_validate(json.loads(Path(path).read_text(encoding="utf-8")))


def _measure(
    store: Store, matrix: TransferScores, targets: list[DatasetRef], sources: list[SourceRef]
) -> list[SelectionRow]:
    """All-class and, where families leave a choice, in-class; chance first."""
    scores, baseline = matrix.mean_scores, matrix.mean_baseline
    embedded = similarities(store, targets, sources)
    rows = []
    everybody = np.ones(scores.shape, dtype=bool)
    for candidates, allowed in (("all", everybody), ("family", matrix.same_family)):
        expected, relative = (chance(scores, baseline=baseline, allowed=allowed, gain=gain) for gain in GAINS)
        if expected.targets == 0:
            continue
        rows.append(_row(None, candidates, expected, relative.ndcg))
        for told in embedded:
            measured, relative = (
                evaluate_selection(scores, told.cosines, baseline=baseline, allowed=allowed, gain=gain)
                for gain in GAINS
            )
            rows.append(_row(told, candidates, measured, relative.ndcg))
    return rows


def similarities(store: Store, targets: list[DatasetRef], sources: list[SourceRef]) -> list[SpaceSimilarities]:
    """Cosines in each space's own frame, sources as datasets and as models.

    A space in which a whole side is missing is left out.
    """
    vectors = VectorStore(store)
    found: list[SpaceSimilarities] = []
    for space in vectors.spaces():
        population = vectors.population(space["space"], _embeddings_of(space["space"], targets, sources))
        if not population:
            continue
        frame = vectors.ranked_frame(space["space"])
        placed = placed_vectors(population, frame)
        place = {(e.kind, e.ref): i for i, e in enumerate(population)}
        aims = [place.get(("dataset", t.ref)) for t in targets]
        starts: dict[Kind, list[int | None]] = {
            "dataset": [place.get(("dataset", s.dataset.ref)) for s in sources],
            "model": [place.get(("model", s.model.ref)) if s.model else None for s in sources],
        }
        for kind, rows in starts.items():
            cosines = np.full((len(rows), len(aims)), np.nan)
            for i, row in enumerate(rows):
                for j, column in enumerate(aims):
                    if row is not None and column is not None:
                        cosines[i, j] = placed[row] @ placed[column]
            if not np.isnan(cosines).all():
                framed = "none" if frame is None else "pseudo-tasks"
                found.append(SpaceSimilarities(space["method"], space["space"], framed, kind, cosines))
    return found


def _embeddings_of(space: str, targets: list[DatasetRef], sources: list[SourceRef]) -> dict[SubjectKey, str]:
    """The embeddings of just these versions of the subjects, whichever the last ranking saw."""
    refs: list[tuple[Kind, str]] = [("dataset", d.ref) for d in (*targets, *(s.dataset for s in sources))]
    refs += [("model", s.model.ref) for s in sources if s.model]
    found: dict[SubjectKey, str] = {}
    for kind, ref in refs:
        subject, _, version = ref.rpartition("@")
        found[kind, subject] = embedding_id(space, kind, subject, version)
    return found


def _row(told: SpaceSimilarities | None, candidates: str, measured: Selection, relative: float) -> SelectionRow:
    """A row of the report; of chance where no space told anything."""
    return SelectionRow(
        method=told.method if told else CHANCE,
        space=told.space if told else None,
        sources_as=told.sources_as if told else None,
        frame=told.frame if told else None,
        candidates=candidates,
        targets=measured.targets,
        best_rank=_known(measured.best_rank),
        ndcg=_known(measured.ndcg),
        ndcg_relative=_known(relative),
        regret=_known(measured.regret),
        pick_gain=_known(measured.pick_gain),
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
