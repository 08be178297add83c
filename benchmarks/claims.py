"""FUTE's main claim: does the embedding of a source model find the transfer that pays, as well as methods for one
architecture do, and across architectures?

    OMP_NUM_THREADS=1 python benchmarks/transfer.py         # 576 transfers from MiniLM; results/ holds them
    OMP_NUM_THREADS=1 python benchmarks/transfer.py --layers 3 --draws 2 \\
        --out benchmarks/results/transfer_scores_3_layers.json
    OMP_NUM_THREADS=1 python benchmarks/claims.py --methods crosscov tupate taskemb

Sources are ranked for each target by (a) embeddings of datasets alone, as TaskEmb and TuPaTE do it; (b) the embedding
of the source model against that of the target's dataset, FUTE's own use; (c) lists that never look at the target; (d)
what needs no embedding. With the second file there are source models of two backbones, MiniLM and its first three
layers. Vectors, source models and their answers are kept in --cache, so that a run which was ended goes on.

Needs the shared data (FUTE_SHARED, or ../shared beside the checkout). The rows of a dataset embedding are those of
benchmarks/quality.py; LogME, H-score and LEEP ask the source models about the first 32 of them, as many as the
fine-tuning has.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache as once
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from claims_measures import Doubles, Transfers, best_on_average, by_target, family_first, interval, verdict
from command import as_run, write_record
from match_scores import h_score, leep, logme
from population import PartFeatures
from population import scores as frame_scores
from quality import FEWER_ROWS, METHODS, KeptVectors, _embedder, frame_of
from real_tasks import Task, labelled_rows, manifest, read_task, real_pool, split_rows, task_lists
from referee_rows import write_rows
from scipy.special import softmax
from sklearn.preprocessing import normalize
from source_models import LABELLED_ROWS, SourceModel, labelled_rows_of, pool_outputs, read_source_models, seen_in
from threadpoolctl import threadpool_limits
from transfer import MAX_ROWS, SOURCES, TARGETS, find_backbone
from transfer_scores import load_scores

from fute.config import SurrogateConfig
from fute.evaluate.transfer_scores import TransferScores
from fute.surrogate.features import compute_features
from fute.surrogate.load import load_surrogate
from fute.types import Dataset, Features, Floats, Pool
from fute.unify.frame import Frame
from storage.stamp import code_version
from storage.store import Store

HERE = Path(__file__).parent
LAYERS = 3
OUT_OF_DOMAIN = ("financial_phrasebank",)
"""Targets whose texts are of a trade of their own; medical_questions_pairs is of pairs, which no source here learns."""
DATASETS, MODELS = "datasets", "models against datasets"
PLAIN, MEMBERS, FRAME = "no reference", "members' reference", "frame"
UNMEASURED, OWN_FIRST = "not measured", "own source model nearest to a dataset"
NATIVE = ("tupate", f"tupate, {FEWER_ROWS} rows", "taskemb")
"""Methods that papers use dataset to dataset, within one architecture."""
BASELINES = (
    "best on average over other targets", "the target's family first, then best on average",
    "LogME of the source model", "H-score of the source model", "LEEP of the source model", "centroids of texts",
    "held-out score of the source", "random",
)  # fmt: skip


def main() -> None:
    options = _options()
    shared = Path(os.environ.get("FUTE_SHARED", HERE.parents[1] / "shared"))
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    study = Study(shared, options.cache)
    scores = load_scores(HERE / "results/transfer_scores.json")
    with threadpool_limits(1):
        whole = study.models(None)
        minilm = SurrogateConfig()
        results = {"within MiniLM": within(study, whole, scores, options.methods, options.datasets_only, minilm)}
        if options.second.exists():
            few = study.models(LAYERS)
            second = load_scores(options.second)
            surrogate = SurrogateConfig(model=few_layers(options.cache))
            results["within its first three layers"] = within(study, few, second, options.methods, [], surrogate)
            results["across both"] = across(study, [*whole, *few], [scores, second], options.methods)
    for name, found in results.items():
        print("\n" + told(name, found))
    write_rows(list(referee_rows(results["within MiniLM"])), "transfer")
    record = {
        "command": f"OMP_NUM_THREADS=1 {as_run(__file__)}", "git_commit": code_version(),
        "settings": {
            "sources": SOURCES, "targets": TARGETS, "pool_rows": len(study.pool),
            "methods": {name: METHODS[name].identity() for name in (*options.methods, *options.datasets_only)},
        },
        "source_models": {m.key: m.score for m in whole},
        "stored_sources": load_stored(HERE / "results/transfer_scores.json"),
        "results": results,
    }  # fmt: skip
    write_record(record, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=["crosscov", "tupate", "taskemb"], default=["crosscov"])
    parser.add_argument("--datasets-only", nargs="+", choices=NATIVE, default=[], help="native rankings alone: (a)")
    parser.add_argument("--second", type=Path, default=HERE / "results/transfer_scores_3_layers.json")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--out", type=Path, default=HERE / "results/claims.json")
    return parser.parse_args()


def load_stored(path: Path) -> dict[str, float]:
    return {name: card["accuracy"] for name, card in json.loads(path.read_text())["sources"].items()}


def few_layers(cache: Path) -> str:
    return find_backbone(LAYERS, cache / "transfer").location


class Study:
    """The tasks, their pool and what is kept of them."""

    def __init__(self, shared: Path, cache: Path) -> None:
        entries = manifest(shared)
        learnable, tried = task_lists(shared)
        everything = [read_task(shared, entries[name]) for name in dict.fromkeys([*learnable, *tried])]
        by_id = {task.id: task for task in everything}
        self.cache = cache
        self.tasks: list[Task] = [by_id.get(i) or read_task(shared, entries[i]) for i in SOURCES]
        self.targets = [self.tasks[SOURCES.index(i)] for i in TARGETS]
        self.target_rows = [SOURCES.index(i) for i in TARGETS]
        self.pool: Pool = real_pool(shared, "loose", 0, everything)
        self._with_tests = partial(read_task, shared, max_rows=MAX_ROWS, splits=("train", "test"))
        self._entries = entries
        self._store = Store(cache)

    def models(self, layers: int | None) -> list[SourceModel]:
        tasks = [self._with_tests(self._entries[i]) for i in SOURCES]
        return read_source_models(tasks, layers, self.cache / "transfer")

    def features(self, surrogate: SurrogateConfig) -> Features:
        plain = load_surrogate(surrogate, HERE)
        return self._store.cached_features(plain.id, partial(compute_features, plain))

    def vectors(
        self, name: str, surrogate: SurrogateConfig, models: Sequence[SourceModel]
    ) -> tuple[Floats, Floats, Callable[[], Frame]]:
        """Of all tasks as datasets, and of source models; and what makes the space's frame."""
        method, features = METHODS[name], self.features(surrogate)
        config = surrogate.model_copy(update={"dtype": "float32" if name == "crosscov" else "auto"})
        kept = KeptVectors(self.cache / "quality", method, config, self.pool, 0)
        parts = PartFeatures(features, self.pool)
        read = partial(parts.read, slice(None))
        embedder = once(partial(_embedder, method, config, read, self.pool, 0))

        def dataset(task: Task) -> Floats:
            return kept.get(f"{task.id}, split 0", lambda: embedder().dataset(part(task)).vector)

        def part(task: Task) -> Dataset:
            rows = split_rows(task, 0)
            return parts.part(task, rows) if name == "crosscov" else labelled_rows(task, rows.dataset)

        def model(source: SourceModel) -> Floats:
            outputs = pool_outputs(source, self.pool, self.cache / "source models")
            return kept.get(f"source model {source.key}", lambda: embedder().model(outputs).vector)

        datasets = np.stack([dataset(task) for task in self.tasks])
        found = np.stack([model(m) for m in models]) if models else datasets[:0]
        print(f"{name}: {kept.seconds / max(kept.asked, 1):.2f} s a subject", flush=True)
        return datasets, found, lambda: frame_of(kept, embedder, read, self.pool, 0)


def within(
    study: Study,
    models: Sequence[SourceModel],
    scores: TransferScores,
    methods: Sequence[str],
    datasets_only: Sequence[str],
    native: SurrogateConfig,
) -> dict[str, Any]:
    """One backbone. (a) with that backbone as the surrogate, (b) always with MiniLM."""
    transfers = Transfers(scores.mean_scores, scores.mean_baseline, scores.same_family)
    own_first = {}
    ranked: dict[str, Doubles] = {}
    for method in methods:
        datasets, of_models, frame = study.vectors(method, SurrogateConfig(), models)
        own = datasets if native == SurrogateConfig() else study.vectors(method, native, [])[0]
        targets = study.target_rows
        ranked[f"{method}, {DATASETS}, {PLAIN}"] = cosines(own, own[targets])
        ranked[f"{method}, {DATASETS}, {MEMBERS}"] = cosines(centred(own), centred(own)[targets])
        ranked[f"{method}, {MODELS}, {PLAIN}"] = cosines(of_models, datasets[targets])
        ranked[f"{method}, {MODELS}, {MEMBERS}"] = cosines(centred(of_models), centred(datasets)[targets])
        if method == "crosscov":  # a frame of a trained method is 48 more trainings
            ranked |= {f"{method}, {k}": v for k, v in in_frame(frame(), datasets, of_models, targets).items()}
        own_first[method] = float((cosines(datasets, of_models).argmax(axis=1) == np.arange(len(datasets))).mean())
    for method in datasets_only:
        own, targets = study.vectors(method, native, [])[0], study.target_rows
        ranked[f"{method}, {DATASETS}, {PLAIN}"] = cosines(own, own[targets])
        ranked[f"{method}, {DATASETS}, {MEMBERS}"] = cosines(centred(own), centred(own)[targets])
    return compared(study, models, transfers, ranked) | {OWN_FIRST: own_first}


def across(
    study: Study, models: Sequence[SourceModel], scores: Sequence[TransferScores], methods: Sequence[str]
) -> dict[str, Any]:
    """All source models of both backbones compete; transfers of the draws that both have."""
    draws = min(each.scores.shape[2] for each in scores)
    both = np.concatenate([each.scores[:, :, :draws].mean(axis=2) for each in scores])
    baseline = scores[0].baseline[:, :draws].mean(axis=1)
    transfers = Transfers(both, baseline, np.concatenate([each.same_family for each in scores]))
    ranked: dict[str, Doubles] = {}
    for method in methods:
        datasets, of_models, frame = study.vectors(method, SurrogateConfig(), models)
        targets = study.target_rows
        twice = np.concatenate([datasets] * len(scores))
        ranked[f"{method}, {DATASETS}, {PLAIN}"] = cosines(twice, datasets[targets])
        ranked[f"{method}, {MODELS}, {PLAIN}"] = cosines(of_models, datasets[targets])
        ranked[f"{method}, {MODELS}, {MEMBERS}"] = cosines(centred(of_models), centred(datasets)[targets])
        if method == "crosscov":
            placed = in_frame(frame(), datasets, of_models, targets)
            ranked[f"{method}, {MODELS}, {FRAME}"] = placed[f"{MODELS}, {FRAME}"]
    return compared(study, models, transfers, ranked)


def cosines(sources: Floats, targets: Floats) -> Doubles:
    return np.asarray(normalize(sources) @ normalize(targets).T, dtype=np.float64)


def centred(vectors: Floats) -> Floats:
    """Each at unit length, less the mean of its kind among those that are ranked."""
    unit = normalize(vectors)
    return unit - unit.mean(axis=0)


def in_frame(frame: Frame, datasets: Floats, models: Floats, targets: Sequence[int]) -> dict[str, Doubles]:
    placed, of_models = frame.place(datasets), frame.place(models)
    of_targets = placed[list(targets)]
    return {
        f"{DATASETS}, {FRAME}": frame_scores(frame, placed, "dataset", of_targets, "dataset"),
        f"{MODELS}, {FRAME}": frame_scores(frame, of_models, "model", of_targets, "dataset"),
    }


def baselines(study: Study, models: Sequence[SourceModel], transfers: Transfers) -> dict[str, Doubles]:
    """The rows (c) and (d)."""
    shape = transfers.scores.shape
    asked = {name: np.full(shape, np.nan) for name in BASELINES[2:5]}
    for s, model in enumerate(models):
        for t, target in enumerate(study.targets):
            if model.task.id != target.id:
                logits, states = (v.astype(np.float64) for v in seen_in(model, target, study.cache / "source models"))
                labels = target.labels[labelled_rows_of(target)]
                for name, value in zip(
                    asked, (logme(states, labels), h_score(states, labels), leep(softmax(logits, axis=1), labels)),
                    strict=True,
                ):  # fmt: skip
                    asked[name][s, t] = value
    features = study.features(SurrogateConfig())
    of_pool = features(study.pool.inputs).mean(axis=0)
    centroids = np.stack([features(t.inputs)[split_rows(t, 0).dataset].mean(axis=0) - of_pool for t in study.tasks])
    texts = cosines(centroids, centroids[study.target_rows])
    held_out = np.array([m.score["accuracy"] - m.score["majority"] for m in models])
    return {
        BASELINES[0]: best_on_average(transfers.scores), BASELINES[1]: family_first(transfers), **asked,
        BASELINES[5]: np.concatenate([texts] * (len(models) // len(texts))),
        BASELINES[6]: np.broadcast_to(held_out[:, None], shape).astype(np.float64), BASELINES[7]: np.zeros(shape),
    }  # fmt: skip


def compared(
    study: Study, models: Sequence[SourceModel], transfers: Transfers, ranked: dict[str, Doubles]
) -> dict[str, Any]:
    """Measures of every ranking, what FUTE's use adds to others, and verdicts."""
    everything = ranked | baselines(study, models, transfers)
    each = {name: by_target(transfers, similarity) for name, similarity in everything.items()}
    inside = {name: by_target(transfers, similarity, in_family=True) for name, similarity in everything.items()}
    ndcg = {name: found["ndcg"] for name, found in each.items()}
    domain = [TARGETS.index(t) for t in OUT_OF_DOMAIN]
    differences, verdicts = {}, {}
    for name in (n for n in ranked if f", {MODELS}, " in n):
        method, _, reference = name.split(", ")
        own = f"{method}, {DATASETS}, {reference}"
        natives = [n for m in NATIVE for r in (PLAIN, MEMBERS) if (n := f"{m}, {DATASETS}, {r}") in ndcg]
        rivals = [own, *natives, BASELINES[0], BASELINES[1], "random"]
        gains = {other: ndcg[name] - ndcg[other] for other in rivals if other in ndcg}
        differences[name] = {other: interval(values) for other, values in gains.items()}
        chance = {"random": gains["random"]}
        verdicts[name] = {
            "as good as native methods": verdict(chance, {n: gains[n] for n in natives}) if natives else UNMEASURED,
            "better than the best on average": verdict(chance | {"list": gains[BASELINES[0]]}, {}),
            "better than the family first": verdict(chance | {"list": gains[BASELINES[1]]}, {}),
            "out of domain as good as native methods": verdict({}, {n: gains[n][domain] for n in natives})
            if natives
            else UNMEASURED,
        }
    return {
        "targets": len(study.targets), "sources": len(models),
        "measures": {
            name: {
                "all": {m: interval(v) for m, v in each[name].items()},
                "in family": {m: interval(v) for m, v in inside[name].items()},
                "out of domain": {m: float(v[domain].mean()) for m, v in each[name].items()},
            }
            for name in everything
        },
        "differences in NDCG": differences,
        "verdicts": verdicts,
    }  # fmt: skip


def referee_rows(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What was measured within one backbone, as rows of the referee's table."""
    measures = {
        "rank of the best": ("all", "best_rank"), "NDCG": ("all", "ndcg"), "regret": ("all", "regret"),
        "NDCG within the family": ("in family", "ndcg"),
    }  # fmt: skip
    for name, parts in found["measures"].items():
        for measure, (part, key) in measures.items():
            value, low, high = parts[part][key]
            yield {
                "zoo": f"{found['sources']} source models, {found['targets']} targets", "method": name,
                "reads": _reads(name), "question": "transfer", "measure": measure, "value": value, "low": low,
                "high": high, "n": found["targets"], "seconds": None,
            }  # fmt: skip


def _reads(name: str) -> str:
    if f", {MODELS}, " in name:
        return "answers on the pool, labels of the target"
    if f", {DATASETS}, " in name:
        return "labels of source and target"
    if name in BASELINES[:2]:
        return "transfers to other targets"
    if name in BASELINES[2:5]:
        return f"answers on {LABELLED_ROWS} labelled texts of the target"
    return {"centroids of texts": "texts", "held-out score of the source": "its score"}.get(name, "nothing")


def told(title: str, found: dict[str, Any]) -> str:
    heads = ("best rank", "NDCG 0-1", "paper", "regret", "gain", "in family", "regret")
    lines = [f"{title}: {found['sources']} sources, {found['targets']} targets",
             " " * 52 + "".join(f"{head:>10}" for head in heads)]  # fmt: skip
    for name, parts in found["measures"].items():
        one, own = ({m: v[0] for m, v in parts[p].items()} for p in ("all", "in family"))
        values = [one[m] for m in ("best_rank", "ndcg", "ndcg_paper", "regret", "pick_gain")]
        lines.append(f"  {name:<50}" + "".join(f"{v:>10.3f}" for v in [*values, own["ndcg"], own["regret"]]))
    for name, others in found["differences in NDCG"].items():
        lines.append(f"  {name} minus")
        lines += [f"    {other:<50}{m:>+8.3f} ({low:+.3f} to {high:+.3f})" for other, (m, low, high) in others.items()]
        lines += [f"    {claim}: {said}" for claim, said in found["verdicts"][name].items()]
    return "\n".join([*lines, f"  {OWN_FIRST}: {found.get(OWN_FIRST)}"])


if __name__ == "__main__":
    main()
