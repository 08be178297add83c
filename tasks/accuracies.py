"""Expected accuracies of a space's models on its labelled datasets, each pair once."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from fute.errors import DataError
from fute.surrogate.vectors import has_no_model
from fute.train.result import TrainingResult
from fute.types import Outputs
from storage.accuracies import missing_accuracies, put_accuracies
from storage.retirements import SubjectKey
from storage.store import Store
from storage.vectors import StoredEmbedding, VectorStore
from tasks import resources
from tasks.embed import EmbeddingRef
from tasks.engine import NO_CACHE, task
from tasks.run import Failure, Run
from tasks.surrogate import SpaceRef

log = logging.getLogger(__name__)

Missing = Sequence[tuple[StoredEmbedding, Sequence[StoredEmbedding]]]


@task(cache_policy=NO_CACHE, task_run_name="accuracies-{space.id}")
def expect_accuracies(run: Run, space: SpaceRef, embedded: list[EmbeddingRef] | None = None) -> list[Failure]:
    """Judge the pairs of datasets and models that the store lacks, by texts that no model was trained on where there
    are such; what could not be judged. Spaces of one pool and surrogate share what is found.

    The kernel of the pool takes memory and time as `tasks.match.read_outs` says; where nothing is missing it is not
    made.
    """
    if has_no_model(space.surrogate.model):
        return []  # what a read-out says was measured through models that read texts
    store = run.open_store()
    current: dict[SubjectKey, str] = {(e.kind, e.subject): e.fingerprint for e in embedded or () if e.space == space.id}
    missing = missing_accuracies(store, space.columns(), VectorStore(store).population(space.id, current))
    if not missing:
        return []
    outputs, failures = _outputs(store, space.pool, missing)
    rows = list(_rows(run, space, missing, outputs, failures))
    if rows:
        put_accuracies(store, space.columns(), rows, run.stamp)
    return failures


def _outputs(store: Store, pool: str, missing: Missing) -> tuple[dict[str, Outputs], list[Failure]]:
    """Outputs of the models, by id; one that cannot be read stops no other."""
    found: dict[str, Outputs] = {}
    failures = []
    for model in {m.subject: m for _, models in missing for m in models}.values():
        try:
            found[model.subject] = store.outputs(pool, model.ref)
        except Exception as exc:
            log.warning("match of %s failed: %s", model.subject, exc)
            failures.append(Failure(subject=model.subject, stage="match", reason=str(exc)))
    return found, failures


def _rows(
    run: Run, space: SpaceRef, missing: Missing, outputs: dict[str, Outputs], failures: list[Failure]
) -> Iterator[dict[str, Any]]:
    from tasks.match import held_out_scores, read_outs
    from tasks.match import judged as judge
    from tasks.match_kept import accuracy_row
    from tasks.match_target import Labelled, labelled_part  # scikit-learn, and only where something is missing

    store = run.open_store()
    targets: list[tuple[str, Labelled, list[StoredEmbedding], dict[str, TrainingResult]]] = []
    for dataset, models in missing:
        there = [m for m in models if m.subject in outputs]
        try:
            whole = store.dataset(dataset.ref)
            target = labelled_part(dataset.subject, whole)
            targets.append((dataset.ref, target, there, held_out_scores(store, whole, there)))
        except DataError as exc:  # too few labels
            yield from ({"dataset": dataset.ref, "model": m.ref, "accuracy_unknown": str(exc)} for m in there)
        except Exception as exc:
            log.warning("match of %s failed: %s", dataset.subject, exc)
            failures.append(Failure(subject=dataset.subject, stage="match", reason=str(exc)))
    judged = {m.subject: m for _, _, models, _ in targets for m in models}
    if not judged:
        return
    features = resources.features(store, space.surrogate, run.folder)
    with resources.compute_lock:
        read = read_outs(store.pool(space.pool), {name: outputs[name] for name in judged}, features)
        for ref, target, models, held_out in targets:
            for model, found in zip(models, judge(read, models, target, features, held_out), strict=True):
                yield accuracy_row(ref, model.ref, found, target)
