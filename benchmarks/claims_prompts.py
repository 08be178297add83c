"""Prompts without labels, as FUTE would choose them: is the prompt whose model embedding is closest the best one?

    python benchmarks/claims_prompts.py        # --seeds 10 --rows 200

Models: OPT-2.7B with 50 published prompts on SST-2, and the network of prompt_selection.py with its 13 judging prompts
on its ten targets, uncalibrated and calibrated as in prompt_calibration.py. Closeness is the cosine of a prompt's MTE,
on the target's texts, with DTEs of references (related labelled datasets), or with the DTE of the target's own labelled
texts of the draw, which no method without labels has: FUTE at its best. Beside it stand mutual information, entropies,
votes, and fute's default. Answers that --cache does not hold are asked for.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from claims_measures import Doubles, interval
from command import as_run, write_record
from prompt_calibration import RULES, Answers, ask_network, biases, read_opt
from prompt_selection import HERE, two_labels
from prompt_targets import TARGETS, UNSEEN, Target, read_references, read_target
from selection_measures import ranking_quality
from threadpoolctl import threadpool_limits

from fute.config import SurrogateConfig
from fute.data.sampling import generator, stratified_sample
from fute.select.ranking import METHODS, Evidence
from fute.select.references import labelled_texts
from fute.select.strength import LabelledTexts, TargetSpace, closeness, oriented_closeness
from fute.surrogate.features import compute_features
from fute.surrogate.load import load_surrogate
from fute.types import Features, Floats, TextTable
from storage.stamp import code_version
from storage.store import Store

SHOWN = (
    "closeness", "oriented_closeness", "oriented_strength", "mutual_information", "oriented_information",
    "global_entropy", "local_entropy", "mdl", "zps_log_probability", "zps_probability", "zps_majority", "consensus",
    "consensus_alone",
)  # fmt: skip
OWN = {"closeness, own labels": closeness, "oriented_closeness, own labels": oriented_closeness}
"""With the DTE of the draw's own labelled texts in place of references'."""
MEASURES = ("rank_correlation", "regret", "ndcg")
TEXTS = 120  # of each target of the network, as in prompt_calibration.py
SHARE = 0.8  # of a target's texts in a draw, at most


@dataclass(frozen=True, eq=False)
class Case:
    """A model's prompts on one target.

    Attributes:
        features: (n, width) of its texts.
        references: related labelled datasets.
    """

    answers: Answers
    features: Floats
    references: list[LabelledTexts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="draws of texts")
    parser.add_argument("--rows", type=int, default=200, help="texts in a draw")
    parser.add_argument("--opt-only", action="store_true", help="without the network and its ten targets")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--out", type=Path, default=HERE / "results/claims_prompts.json")
    options = parser.parse_args()
    shared = Path(os.environ.get("FUTE_SHARED") or HERE.parents[1] / "shared")
    surrogate = load_surrogate(SurrogateConfig(), HERE)
    features = Store(options.cache).cached_features(surrogate.id, partial(compute_features, surrogate))
    found: dict[str, dict[str, Any]] = {}
    with threadpool_limits(1):
        for case in cases(shared, None if options.opt_only else options.cache, features):
            found[case.answers.name] = {rule: measure(case, rule, options.seeds, options.rows) for rule in RULES}
            print(f"{case.answers.name}: done", flush=True)
    network = [name for name in found if name.startswith("network")]
    groups = {"OPT-2.7B, SST-2": ["OPT-2.7B sst2"]}
    if network:
        groups[f"network, {len(network)} targets"] = network
    results = {
        title: {rule: over_targets([found[n][rule] for n in of]) for rule in RULES} for title, of in groups.items()
    }
    for title, rules in results.items():
        print(f"\n{title}: rank correlation, regret, NDCG; " + ", ".join(RULES))
        for method in rules["none"]:
            told = ["  ".join(f"{rules[r][method][m][0]:>6.3f}" for m in MEASURES) for r in RULES]
            print(f"  {method:<32}" + " | ".join(told))
    against = {rule: closeness_against([found[n][rule] for n in network]) for rule in RULES if network}
    for rule, above in against.items():
        print(f"\ncloseness on the network's targets, {rule}: rank correlation above")
        for name, (mean, low, high) in above.items():
            print(f"  {name:<32}{mean:+.3f} ({low:+.3f} to {high:+.3f})")
    settings = {"seeds": options.seeds, "rows": options.rows, "texts of the network's targets": TEXTS, "share": SHARE}
    write_record(
        {
            "command": as_run(__file__), "git_commit": code_version(), "settings": settings, "results": results,
            "each": found, "closeness on the network above": against,
        },
        options.out,
    )  # fmt: skip


def cases(shared: Path, cache: Path | None, features: Features) -> Iterator[Case]:
    opt = read_opt(shared / "llm")
    table = pq.read_table(shared / "llm/opt27b_sst2_rows.parquet").to_pandas().sort_values("row")
    target = Target("sst2", "sentiment", TextTable(list(table["text"])), opt.labels, opt.candidates.label_names)
    yield Case(opt, features(target.inputs), references_of(shared, target, features))
    if cache is None:
        return
    family_of = {name: family for family in TARGETS for name in (*TARGETS[family], *UNSEEN[family])}
    for answers in ask_network(shared, cache, TEXTS):
        name = answers.name.removeprefix("network ")
        target = read_target(shared, family_of[name], name)
        taken = stratified_sample(target.labels, TEXTS, generator(0, "calibration", name))
        yield Case(answers, features(target.inputs)[taken], references_of(shared, target, features))


def references_of(shared: Path, target: Target, features: Features) -> list[LabelledTexts]:
    found = read_references(shared, target.family, [target])
    if "not_entailment" in target.label_names:  # neutral and contradiction, under the target's name
        found = [two_labels(r) for r in found]
    read = (labelled_texts(r, target.label_names, target.inputs, features) for r in found)
    return [r for r in read if r is not None]


def measure(case: Case, rule: str, seeds: int, rows: int) -> dict[str, dict[str, float]]:
    """Method -> measure -> mean over draws; accuracies are those of all texts, calibrated as the candidates are."""
    answers, n_labels = case.answers, len(case.answers.candidates.label_names)
    n = len(answers.labels)
    kept: dict[str, list[list[float]]] = {}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        draw = np.sort(rng.choice(n, size=min(rows, int(SHARE * n)), replace=False))
        calibrated = answers.candidates.calibrated(biases(rule, answers, draw))
        accuracies = (calibrated.labels == answers.labels).mean(axis=1)
        space = TargetSpace.fit(case.features[draw], case.references, n_labels)
        evidence = Evidence(calibrated.rows(draw), space)
        own_labels = LabelledTexts("own", case.features[draw], answers.labels[draw])
        own = TargetSpace.fit(case.features[draw], [own_labels], n_labels)
        scores: dict[str, Doubles] = {name: METHODS[name](evidence) for name in SHOWN}
        scores |= {name: score(own, own.embeddings(evidence.candidates)) for name, score in OWN.items()}
        scores["random"] = np.zeros(len(accuracies))
        scores["oracle (labels of the draw)"] = (evidence.candidates.labels == answers.labels[draw]).mean(axis=1)
        for name, values in scores.items():
            quality = ranking_quality(values, accuracies)
            kept.setdefault(name, []).append([float(getattr(quality, m)) for m in MEASURES])
    return {name: dict(zip(MEASURES, np.mean(of, axis=0).tolist(), strict=True)) for name, of in kept.items()}


def closeness_against(found: list[dict[str, dict[str, float]]]) -> dict[str, tuple[float, float, float]]:
    """Paired differences in rank correlation of FUTE's closeness with each other method, targets resampled."""
    own = np.array([each["closeness"]["rank_correlation"] for each in found])
    methods = [m for m in (*SHOWN[1:], "random") if all(m in each for each in found)]
    return {m: interval(own - np.array([each[m]["rank_correlation"] for each in found])) for m in methods}


def over_targets(found: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Mean and 95 % interval, targets resampled (one target: no interval, its value three times)."""
    return {
        method: {m: interval(np.array([each[method][m] for each in found])) for m in MEASURES}
        for method in (found[0] if found else {})
    }


if __name__ == "__main__":
    main()
