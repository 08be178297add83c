"""FUTE's main claim: does the embedding of a source model find the transfer that pays, as well as methods for one
architecture do, and across architectures?

    OMP_NUM_THREADS=1 python benchmarks/transfer.py         # 576 transfers from MiniLM; results/ holds them
    OMP_NUM_THREADS=1 python benchmarks/transfer.py --layers 3 --draws 2 \\
        --out benchmarks/results/transfer_scores_3_layers.json
    OMP_NUM_THREADS=1 python benchmarks/claims.py --methods crosscov tupate taskemb

Sources are ranked for each target by (a) embeddings of datasets alone, as TaskEmb and TuPaTE do it; (b) the embedding
of the source model against that of the target's dataset, FUTE's own use; (c) lists that never look at the target; (d)
what needs no embedding. With the second file there are source models of two backbones, MiniLM and its first three
layers, each with its own recipe. Vectors, source models and their answers are kept in --cache, so that a run which was
ended goes on.

Needs the shared data (FUTE_SHARED, or ../shared beside the checkout). The rows of a dataset embedding are those of
benchmarks/quality.py; LogME, H-score and LEEP ask the source models about the first 32 of them, as many as the
fine-tuning has, though not the same.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from claims_measures import (
    Doubles,
    Transfers,
    backbone_means,
    best_on_average,
    by_target,
    family_first,
    interval,
    less_backbone,
    lexicographic,
    picks,
    stronger_first,
    verdict,
)
from claims_study import MEMBERS, PLAIN, Space, Study, cosines, of_datasets, of_source_models
from command import as_run, write_record
from match_scores import leep, logme, shrunk_h_score
from quality import FEWER_ROWS, METHODS
from real_tasks import split_rows
from referee_rows import write_rows
from scipy.special import softmax
from source_models import LABELLED_ROWS, SourceModel, labelled_rows_of, seen_in
from threadpoolctl import threadpool_limits
from transfer import SOURCES, TARGETS, find_backbone
from transfer_scores import load_scores

from fute.config import SurrogateConfig
from fute.evaluate.transfer_scores import TransferScores
from storage.stamp import code_version

HERE = Path(__file__).parent
LAYERS = 3
OUT_OF_DOMAIN = ("financial_phrasebank",)
"""Targets whose texts are of a trade of their own; medical_questions_pairs is of pairs, which no source here learns."""
DATASETS, MODELS = "datasets", "models against datasets"
LESS_BACKBONE = "less its backbone's mean"
UNMEASURED, UNDEFINED, OWN_FIRST = "not measured", "not defined", "own source model nearest to a dataset"
NATIVE = ("tupate", f"tupate, {FEWER_ROWS} rows", "taskemb")
"""Methods that papers use dataset to dataset, within one architecture."""
ON_AVERAGE, BY_FAMILY = "best on average over other targets", "the target's family first, then best on average"
STRONGER = "the stronger backbone first"
STRONGER_FAMILY = "the stronger backbone first, there the target's family"
LISTS = (ON_AVERAGE, BY_FAMILY, STRONGER, STRONGER_FAMILY)
ASKED = ("LogME of the source model", "H-score of the source model, shrunk", "LEEP of the source model")
TEXTS, HELD_OUT, RANDOM = "centroids of texts", "held-out score of the source", "random"


def main() -> None:
    options = _options()
    shared = Path(os.environ.get("FUTE_SHARED", HERE.parents[1] / "shared"))
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    study = Study(shared, options.cache)
    scores, minilm = known_scores(HERE / "results/transfer_scores.json"), SurrogateConfig()
    with threadpool_limits(1):
        whole = study.models(None)
        results = {"within MiniLM": within(study, whole, scores, options.methods, options.datasets_only, minilm)}
        few: list[SourceModel] = []
        if options.second.exists():
            few = study.models(LAYERS)
            second, surrogate = known_scores(options.second), SurrogateConfig(model=few_layers(options.cache))
            results["within its first three layers"] = within(
                study, few, second, options.methods, options.datasets_only, surrogate
            )
            results["across both"] = across(study, [*whole, *few], [scores, second], options.methods)
    for name, found in results.items():
        print("\n" + told(name, found))
    for name, file in (("within MiniLM", "transfer"), ("across both", "transfer_two_backbones")):
        if name in results:
            write_rows(list(referee_rows(results[name])), file)
    record = {
        "command": f"OMP_NUM_THREADS=1 {as_run(__file__)}", "git_commit": code_version(),
        "settings": {
            "sources": SOURCES, "targets": TARGETS, "pool_rows": len(study.pool), "primary reference": PLAIN,
            "methods": {name: METHODS[name].identity() for name in (*options.methods, *options.datasets_only)},
        },
        "source_models": {m.key: m.score for m in [*whole, *few]},
        "stored_sources": load_stored(HERE / "results/transfer_scores.json"),
        "results": results,
    }  # fmt: skip
    write_record(record, options.out)


def known_scores(path: Path) -> TransferScores:
    """Of the very sources and targets that are ranked here, in their order."""
    scores = load_scores(path)
    if (list(scores.sources), list(scores.targets)) != (SOURCES, TARGETS):
        raise SystemExit(f"{path} holds other sources or targets than benchmarks/transfer.py names; measure it anew")
    return scores


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


def within(
    study: Study,
    models: Sequence[SourceModel],
    scores: TransferScores,
    methods: Sequence[str],
    datasets_only: Sequence[str],
    native: SurrogateConfig,
) -> dict[str, Any]:
    """One backbone. (a) with that backbone as the surrogate, (b) always with MiniLM."""
    own_first, targets = {}, study.target_rows
    ranked: dict[str, Doubles] = {}
    for method in methods:
        space = Space(study, method, SurrogateConfig())
        its = space if native == SurrogateConfig() else Space(study, method, native)
        of_models = space.models(models)
        ranked |= {f"{method}, {DATASETS}, {k}": v for k, v in of_datasets(its, method, targets).items()}
        if its is not space:
            ranked[f"{method}, {DATASETS} as MiniLM sees them, {PLAIN}"] = cosines(
                space.datasets, space.datasets[targets]
            )
        ranked |= {
            f"{method}, {MODELS}, {k}": v for k, v in of_source_models(space, method, of_models, targets).items()
        }
        if method == "crosscov":
            for rows in (FEWER_ROWS, LABELLED_ROWS):
                ranked[f"{method}, {MODELS} of {rows} rows, {PLAIN}"] = cosines(of_models, space.targets_of(rows))
        nearest = cosines(space.datasets, of_models).argmax(axis=1)
        own_first[method] = float((nearest == np.arange(len(models))).mean())
    for method in datasets_only:
        found = of_datasets(Space(study, method, native), method, targets)
        ranked |= {f"{method}, {DATASETS}, {k}": v for k, v in found.items()}
    by_draw = [
        Transfers.of([replace(scores, scores=scores.scores[:, :, [d]], baseline=scores.baseline[:, [d]])])
        for d in np.flatnonzero(scores.counted.all(axis=0))
    ]
    found = compared(study, models, Transfers.of([scores]), ranked) | {OWN_FIRST: own_first}
    return found | ({"judged by one draw at a time": judged_by_draw(by_draw, ranked)} if len(by_draw) > 1 else {})


def across(
    study: Study, models: Sequence[SourceModel], scores: Sequence[TransferScores], methods: Sequence[str]
) -> dict[str, Any]:
    """All source models of both backbones compete; transfers of the draws that both have. Embeddings of datasets cannot
    tell the two models of a task apart: these are ties, alone or under the stronger backbone's."""
    transfers, targets = Transfers.of(scores), study.target_rows
    stronger = stronger_first(transfers)
    ranked: dict[str, Doubles] = {}
    means = {}
    for method in methods:
        space = Space(study, method, SurrogateConfig())
        of_models = space.models(models)
        for reference, similarity in of_datasets(space, method, targets).items():
            ranked[f"{method}, {DATASETS}, {reference}"] = twice = np.concatenate([similarity] * len(scores))
            if reference == PLAIN:
                ranked[f"{STRONGER}, there {method}, {DATASETS}"] = lexicographic(stronger, twice)
        for reference, similarity in of_source_models(space, method, of_models, targets).items():
            ranked[f"{method}, {MODELS}, {reference}"] = similarity
            if reference == PLAIN:
                ranked[f"{method}, {MODELS}, {LESS_BACKBONE}"] = less_backbone(transfers, similarity)
                ranked[f"{STRONGER}, there {method}, {MODELS}"] = lexicographic(stronger, similarity)
                means[method] = backbone_means(transfers, similarity).mean(axis=1).tolist()
    return compared(study, models, transfers, ranked) | {
        "mean cosine by backbone": means,
        "mean score by backbone": backbone_means(transfers, transfers.scores).mean(axis=1).tolist(),
        "targets whose best source is of the first backbone": picks(transfers, np.nan_to_num(transfers.scores, nan=-1)),
        "first picks of the first backbone": {name: picks(transfers, by) for name, by in ranked.items()},
    }  # fmt: skip


def judged_by_draw(by_draw: Sequence[Transfers], ranked: dict[str, Doubles]) -> dict[str, Any]:
    """How far transfers to other rows of a target foretell these: what no ranking of sources can be asked to beat."""
    names = [n for n in ranked if f", {MODELS}, {PLAIN}" in n]
    found: dict[str, list[dict[str, Doubles]]] = {}
    for d, judge in enumerate(by_draw):
        others = np.mean([each.scores for i, each in enumerate(by_draw) if i != d], axis=0)
        for name, by in [("transfers of the other draws", others), (RANDOM, np.zeros_like(others)),
                         *((n, ranked[n]) for n in names)]:  # fmt: skip
            found.setdefault(name, []).append(by_target(judge, by))
    return {
        name: {m: interval(np.mean([one[m] for one in each], axis=0)) for m in ("ndcg", "regret", "pick_gain")}
        for name, each in found.items()
    }


def baselines(study: Study, models: Sequence[SourceModel], transfers: Transfers) -> dict[str, Doubles]:
    """The rows (c) and (d)."""
    shape = transfers.scores.shape
    lists = {ON_AVERAGE: best_on_average(transfers.scores), BY_FAMILY: family_first(transfers)}
    if transfers.several:
        lists[STRONGER] = stronger_first(transfers)
        lists[STRONGER_FAMILY] = lexicographic(lists[STRONGER], lists[BY_FAMILY])
    asked = {name: np.full(shape, np.nan) for name in ASKED}
    for s, model in enumerate(models):
        for t, target in enumerate(study.targets):
            if model.task.id != target.id:
                logits, states = (v.astype(np.float64) for v in seen_in(model, target, study.cache / "source models"))
                labels = target.labels[labelled_rows_of(target)]
                for name, value in zip(
                    asked,
                    (logme(states, labels), shrunk_h_score(states, labels), leep(softmax(logits, axis=1), labels)),
                    strict=True,
                ):
                    asked[name][s, t] = value
    features = study.features(SurrogateConfig())
    of_pool = features(study.pool.inputs).mean(axis=0)
    centroids = np.stack([features(t.inputs)[split_rows(t, 0).dataset].mean(axis=0) - of_pool for t in study.tasks])
    texts = cosines(centroids, centroids[study.target_rows])
    held_out = np.array([m.score["accuracy"] - m.score["majority"] for m in models])
    return {
        **lists, **asked, TEXTS: np.concatenate([texts] * (len(models) // len(texts))),
        HELD_OUT: np.broadcast_to(held_out[:, None], shape).astype(np.float64), RANDOM: np.zeros(shape),
    }  # fmt: skip


def compared(
    study: Study, models: Sequence[SourceModel], transfers: Transfers, ranked: dict[str, Doubles]
) -> dict[str, Any]:
    """Measures of every ranking, what FUTE's use adds to others, and verdicts."""
    others = baselines(study, models, transfers)
    everything = ranked | others
    each = {name: by_target(transfers, similarity) for name, similarity in everything.items()}
    inside = {name: by_target(transfers, similarity, in_family=True) for name, similarity in everything.items()}
    ndcg = {name: found["ndcg"] for name, found in each.items()}
    domain = [TARGETS.index(t) for t in OUT_OF_DOMAIN]
    differences, verdicts = {}, {}
    for name in (n for n in ranked if f", {MODELS}, " in n and not n.startswith(STRONGER)):
        method, _, reference = name.split(", ", 2)
        own = f"{method}, {DATASETS}, {PLAIN if reference == LESS_BACKBONE else reference}"
        natives = [n for m in NATIVE for r in (PLAIN, MEMBERS) if (n := f"{m}, {DATASETS}, {r}") in ndcg]
        then = [n for n in ranked if n.startswith(STRONGER)]
        gains = {other: ndcg[name] - ndcg[other] for other in [own, *natives, *then, *others] if other in ndcg}
        differences[name] = {other: interval(values) for other, values in gains.items()}
        chance, known = {RANDOM: gains[RANDOM]}, [n for n in LISTS if n in gains]
        verdicts[name] = {f"better than {n}": verdict(chance | {n: gains[n]}, {}) for n in known} | {
            f"as good as {n}": verdict(chance, {n: gains[n]}) for n in (BY_FAMILY, STRONGER_FAMILY) if n in gains
        }
        # Across backbones methods for one must tie the two models of a task: whoever does not is better by that alone.
        against = {n: gains[n] for n in natives}
        none = UNDEFINED if transfers.several else UNMEASURED
        met = bool(natives) and not transfers.several
        verdicts[name] |= {
            "as good as native methods": verdict(chance, against) if met else none,
            "out of domain as good as native methods": verdict({}, {n: gains[n][domain] for n in natives})
            if met
            else none,
        }
    return {
        "targets": len(study.targets), "sources": len(models), "backbones": int(transfers.backbone.max()) + 1,
        "draws": transfers.draws.tolist(),
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
    of = " of two backbones" if found["backbones"] > 1 else ""
    zoo = f"{found['sources']} source models{of}, {found['targets']} targets"
    for name, parts in found["measures"].items():
        for measure, (part, key) in measures.items():
            value, low, high = parts[part][key]
            yield {
                "zoo": zoo, "method": name,
                "reads": _reads(name), "question": "transfer", "measure": measure, "value": value, "low": low,
                "high": high, "n": found["targets"], "seconds": None,
            }  # fmt: skip


def _reads(name: str) -> str:
    known = ", transfers to other targets" if name.startswith(STRONGER) else ""
    if f", {MODELS}" in name:
        return "answers on the pool, labels of the target" + known
    if f", {DATASETS}" in name:
        return "labels of source and target" + known
    if name in LISTS:
        return "transfers to other targets"
    if name in ASKED:
        return f"answers on {LABELLED_ROWS} labelled texts of the target"
    return {TEXTS: "texts", HELD_OUT: "its score"}.get(name, "nothing")


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
