"""On how many texts must a source model answer before its trained prefix finds the dataset that it was trained on?

    OMP_NUM_THREADS=1 python benchmarks/claims_inputs.py
    OMP_NUM_THREADS=1 python benchmarks/claims_inputs.py --cases "paper, 1000 texts" "paper, 4000 texts"

FUTE's own use of tupate, models against datasets, by its default recipe and by `preset: paper`, on 1,000 to 16,000
texts of one pool; smaller samples are parts of larger ones. The models are every other source model of claims.py, the
datasets all of its sixteen. `preset: paper` has batches of 128: on 1,000 texts it passes over them four times, for the
32 steps that 4,000 give it in one pass; on 16,000 it has 125 steps.

Needs the shared data (FUTE_SHARED, or ../shared beside the checkout). Answers and vectors are kept in --cache as they
are made: eight minutes for a prefix of 16,000 texts, on one core.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import cache as once
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from claims import known_scores
from claims_measures import Doubles, Transfers, by_target, interval
from claims_study import MEMBERS, PLAIN, Space, Study, centred, cosines
from command import as_run, write_record
from numpy.typing import NDArray
from quality import METHODS, TRAINED, KeptVectors, _embedder
from real_tasks import real_pool
from source_models import SourceModel, pool_outputs
from threadpoolctl import threadpool_limits
from transfer import SOURCES, TARGETS

from fute.config import SurrogateConfig
from fute.evaluate.transfer_scores import TransferScores
from fute.methods.tupate.config import TupateConfig
from fute.types import Floats, Pool
from storage.stamp import code_version

HERE = Path(__file__).parent
SIZES = (1000, 4000, 16000)
PER_SOURCE = 100
EVERY = 2
RECIPES = {"default": "tupate", "paper": "tupate, paper"}
CASES = {f"{recipe}, {size} texts": (recipe, size) for recipe in RECIPES for size in SIZES}
CROSSCOV = "crosscov, 1500 texts"


def main() -> None:
    options = _options()
    shared = Path(os.environ.get("FUTE_SHARED", HERE.parents[1] / "shared"))
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    study = Study(shared, options.cache)
    pool = real_pool(shared, "loose", 0, study.everything, rows=max(SIZES), per_source=PER_SOURCE)
    scores = every_other(known_scores(HERE / "results/transfer_scores.json"))
    found = {}
    with threadpool_limits(1):
        models = study.models(None)[::EVERY]
        for case in options.cases:
            # A dataset is learned from its own rows, whatever the pool: these are the vectors of claims.py.
            datasets = Space(study, RECIPES[CASES[case][0]], SurrogateConfig()).datasets
            found[case] = measured(embedded(study, pool, models, case), datasets, study.target_rows, scores)
        crosscov = Space(study, "crosscov", SurrogateConfig())
        found[CROSSCOV] = measured(crosscov.models(models), crosscov.datasets, study.target_rows, scores)
    print(told(found))
    record = {
        "command": f"OMP_NUM_THREADS=1 {as_run(__file__)}", "git_commit": code_version(),
        "settings": {
            "models": SOURCES[::EVERY], "datasets": SOURCES, "targets": TARGETS, "pool_rows": len(pool),
            "methods": {case: method_of(case).identity() for case in options.cases},
        },
        "results": found,
    }  # fmt: skip
    write_record(record, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--out", type=Path, default=HERE / "results/claims_inputs.json")
    return parser.parse_args()


def method_of(case: str) -> TupateConfig:
    recipe, size = CASES[case]
    more: dict[str, Any] = {"max_rows": size}
    if recipe == "paper":
        given = METHODS[RECIPES[recipe]]
        more |= {"preset": "paper", "epochs_model": max(1, 4000 // size), "epochs_dataset": given.epochs_dataset}
    return TupateConfig.model_validate({**TRAINED, **more})


def embedded(study: Study, pool: Pool, models: Sequence[SourceModel], case: str) -> Floats:
    """(models, dim), each learned from what it answers on so many texts of the pool."""
    method, surrogate = method_of(case), SurrogateConfig()
    kept = KeptVectors(study.cache / "quality", method, surrogate, pool, 0)
    embedder = once(partial(_embedder, method, surrogate, study.features(surrogate), pool, 0))
    found = []
    for model in models:
        outputs = partial(pool_outputs, model, pool, study.cache / "source models", rows=len(pool))
        found.append(kept.get(f"source model {model.key}", lambda asked=outputs: embedder().model(asked()).vector))
    print(f"{case}: {kept.seconds / kept.asked:.1f} s a model, its answers included", flush=True)
    return np.stack(found)


def every_other(scores: TransferScores) -> TransferScores:
    return TransferScores(
        scores.sources[::EVERY], scores.targets, scores.source_families[::EVERY], scores.target_families,
        scores.scores[::EVERY], scores.baseline,
    )  # fmt: skip


def measured(models: Floats, datasets: Floats, targets: Sequence[int], scores: TransferScores) -> dict[str, Any]:
    """By reference: where each model's own dataset stands among all for it, where each dataset's own model stands, and
    how well the models are ranked as sources for each target."""
    own = np.arange(len(datasets))[::EVERY]
    found = {}
    for reference, similarity in (
        (PLAIN, cosines(models, datasets)),
        (MEMBERS, cosines(centred(models), centred(datasets))),
    ):
        transfers = by_target(_transfers(scores), similarity[:, targets])
        found[reference] = {
            "model to dataset": _retrieval(similarity, own),
            "dataset to model": _retrieval(similarity[:, own].T, np.arange(len(models))),
            "transfer": {m: interval(values) for m, values in transfers.items()},
        }
    return found


def _transfers(scores: TransferScores) -> Transfers:
    backbone = np.zeros(len(scores.sources), np.intp)
    counted = (~np.isnan(scores.baseline)).sum(axis=1)
    return Transfers(scores.mean_scores, scores.mean_baseline, scores.same_family, backbone, counted)


def _retrieval(similarity: Doubles, own: NDArray[np.intp]) -> dict[str, Any]:
    """P@1 and the mean rank of the one that is looked for, and of how many; equal ones count against it."""
    looked_for = similarity[np.arange(len(similarity)), own]
    rank = (similarity >= looked_for[:, None]).sum(axis=1)
    return {"p_at_1": interval((rank == 1).astype(float)), "mean_rank": interval(rank.astype(float)),
            "queries": len(similarity), "candidates": similarity.shape[1]}  # fmt: skip


def told(found: dict[str, Any]) -> str:
    heads = ("M>D P@1", "rank", "D>M P@1", "rank", "NDCG 0-1", "regret")
    lines = [" " * 44 + "".join(f"{head:>10}" for head in heads)]
    for name, by_reference in found.items():
        for reference, one in by_reference.items():
            numbers = [one[d][m][0] for d in ("model to dataset", "dataset to model") for m in ("p_at_1", "mean_rank")]
            numbers += [one["transfer"][m][0] for m in ("ndcg", "regret")]
            lines.append(f"{name:<24}{reference:<20}" + "".join(f"{number:>10.3f}" for number in numbers))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
