"""Transfer: from every source model to one target, each score stored when it is there."""

from __future__ import annotations

from pydantic import BaseModel

from fute.config import TransferConfig
from fute.errors import FuteError
from fute.evaluate.transfer_scores import NO_SOURCE
from fute.surrogate.device import find_device
from fute.surrogate.source import Source, find_source
from fute.train.backbone import backbone_source
from fute.train.finetune import FOLDER
from fute.train.transfer import known_texts, source_recipe, target_rows, transfer, transfer_fingerprint
from storage.store import Store, to_json
from tasks import resources
from tasks.embed import TrainedRef
from tasks.engine import NO_CACHE, task
from tasks.run import Failure, Run, handed_in
from tasks.study import DatasetRef, StudyParts

EVALUATION = "transfer"
"""The name of these rows in the view `evaluations`."""
MEASURE = "accuracy"


class SourceRef(BaseModel):
    """A dataset as a source, and the model trained on it; no model where that training failed."""

    dataset: DatasetRef
    model: TrainedRef | None


class TargetScores(BaseModel):
    """Scores of one target in one draw of its rows."""

    target: str
    seed: int
    scores: dict[str, float]
    """Source (or "none") to held-out accuracy."""
    reused: int
    failures: list[Failure]


@task(cache_policy=NO_CACHE, task_run_name="transfer-{target.id}-{seed}")
@handed_in
def transfer_to_target(
    run: Run, config: TransferConfig, parts: StudyParts, target: DatasetRef, sources: list[SourceRef], seed: int
) -> TargetScores:
    """Fine-tune from the plain backbone and from each source on the same few rows of a target, and score.

    The target's embedding, which is held against these scores, is made of its whole training split.

    Args:
        seed: number of the draw, 0, 1, ...; what is drawn depends on it and on the study's seed.
    """
    store, drawn = run.open_store(), run.seed + seed
    others = [store.dataset(s.dataset.ref) for s in sources if s.dataset.id != target.id]
    rows = target_rows(
        store.dataset(target.ref), rows=config.rows, eval_rows=config.eval_rows, seed=drawn, known=known_texts(others)
    )
    backbone = backbone_source(source_recipe(config, target.id), parts.surrogate, run.folder)
    trained = {s.dataset.id: s.model.ref for s in sources if s.model is not None and s.dataset.id != target.id}
    done = TargetScores(target=target.id, seed=seed, scores={}, reused=0, failures=[])
    for source, ref in {NO_SOURCE: None, **trained}.items():
        identity = backbone.revision if ref is None else ref.rpartition("@")[2]
        key = transfer_fingerprint(identity, rows, config, drawn)
        if store.has_evaluations(key):
            done.reused += 1
        else:
            try:
                with resources.compute_lock:
                    start = backbone if ref is None else trained_source(store, ref)
                    result = transfer(start, rows, config, seed=drawn, device=find_device(parts.surrogate.device))
            except FuteError as exc:  # stops no other source
                done.failures.append(Failure(subject=f"{source} to {target.id}", stage="transfer", reason=str(exc)))
                continue
            settings = {
                **config.training_settings(),
                "rows": len(rows.training),
                "eval_rows": len(rows.held_out),
                "target": target.ref,
                "source_model": ref,
                "backbone": backbone.revision,
            }
            details = {
                "macro_f1": result.macro_f1,
                "majority": result.majority,
                "seconds": result.seconds,
                "rows_left_out_as_shared": rows.n_shared,
                **result.metrics,
            }
            row = {
                "subject": target.id,
                "candidate": source,
                "seed": drawn,
                "measure": MEASURE,
                "value": result.accuracy,
                "settings": to_json(settings),
                "details": to_json(details),
            }
            store.put_evaluations(EVALUATION, [row], run.stamp, key)
        done.scores[source] = store.evaluations(key)[0]["value"]
    return done


def trained_source(store: Store, ref: str) -> Source:
    """The folder of a trained source model, as a model to start from."""
    return find_source(str(store.weights_folder(ref) / FOLDER), None, store.root)
