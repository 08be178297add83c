"""Which prompt, without labels? Methods of choosing, on real tasks with a small network that answers prompts.

    python benchmarks/prompt_selection.py [--seeds N] [--rows N]

Two sets of 13 prompts a family: the benchmark's own, on which methods were compared while they were made, and the set
that ships with fute, which judges them. Needs the shared folder (FUTE_SHARED, or ../shared beside the checkout) with
its data and its answerer. Answers and features are kept in benchmarks/.cache; a first run asks some 107,000 prompts.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from command import write_record
from prompt_answers import Answerer, Wording, label_probabilities, read_wordings
from prompt_targets import (
    TARGETS,
    UNSEEN,
    Target,
    generic_pool,
    read_references,
    read_target,
    verbalizer_for,
)
from selection_measures import ranking_quality
from threadpoolctl import threadpool_limits
from zps_filtered import filtered_zps

from fute.config import SurrogateConfig
from fute.fingerprint import fingerprint
from fute.select.candidates import Candidates, Doubles, Integers
from fute.select.halving import Halving, successive_halving
from fute.select.ranking import METHODS, Evidence, find_merits, oriented_merits
from fute.select.references import labelled_texts
from fute.select.strength import TargetSpace
from fute.surrogate.features import compute_features
from fute.surrogate.identity import surrogate_identity
from fute.surrogate.load import load_surrogate
from fute.types import Dataset, Features, Floats, Outputs, TextTable
from storage.stamp import code_version
from storage.store import Store

HERE = Path(__file__).resolve().parent
SETS = {"development": HERE / "prompt_wordings_{}.yaml", "judging": HERE.parent / "fute/llm/prompt_sets/{}.yaml"}
TURNED = 8
"""Of 13 prompts, whose verbalizers are turned round in the second experiment."""
SHARE = 1 / 3
POOLED = ("closeness", "oriented_closeness", "oriented_strength", "consensus_strength", "mutual_information")
"""Methods that are tried with answers on the generic pool, too."""
SHOWN = ("rank_correlation", "regret", "ndcg")
JUDGES: dict[str, Callable[[Evidence, Integers], Doubles]] = {
    "oriented_information": lambda e, rows: oriented_merits(e, rows)[:, rows],
    "consensus": lambda e, rows: find_merits(e)[:, rows],
}
"""Methods that successive halving is tried with: the defaults, with and without log-probabilities."""
Rows = dict[str, list[dict[str, float]]]


class Case:
    """One target with one set of prompts. `pool`: the same prompts' answers on the generic pool."""

    def __init__(
        self, name: str, target: Target, candidates: Candidates, space: TargetSpace, pool: Evidence | None = None
    ) -> None:
        self.set, self.target = name, target
        self.evidence = Evidence(candidates, space)
        self.pool = pool
        self.accuracies: Doubles = (candidates.labels == target.labels).mean(axis=1)

    def turned(self, seed: int) -> Case:
        """The verbalizers of most prompts turned round: what they call the first label is the second."""
        who = np.random.default_rng(seed).permutation(len(self.evidence.candidates))[:TURNED]
        space = self.evidence.space
        assert space is not None
        pool = None if self.pool is None else Evidence(turn(self.pool.candidates, who), self.pool.space)
        return Case(self.set, self.target, turn(self.evidence.candidates, who), space, pool)

    def as_text(self) -> Case:
        """The most probable answers alone, as an endpoint without log-probabilities gives them."""
        space = self.evidence.space
        assert space is not None
        return Case(self.set, self.target, harden(self.evidence.candidates), space)


def main() -> None:
    options = _options()
    shared = Path(os.environ.get("FUTE_SHARED") or HERE.parents[1] / "shared")
    if not (shared / "answerer").is_dir():
        raise SystemExit(f"no answerer in {shared}; set FUTE_SHARED to the folder that holds data/ and answerer/")
    answerer = Answerer(shared / "answerer", options.cache)
    surrogate = SurrogateConfig(dtype="bfloat16" if answerer.bfloat16 else "float32")
    features = Store(options.cache).cached_features(
        fingerprint(**surrogate_identity(surrogate, HERE)), partial(_features, surrogate)
    )
    cases = [case for family in TARGETS for case in read_cases(shared, family, answerer, features)]
    unseen = [case for family in UNSEEN for case in read_unseen(shared, family, answerer, features)]
    with threadpool_limits(1):
        accuracies([*cases, *unseen])
        results = {
            "all answers": compare(cases, options.seeds, options.rows),
            f"verbalizers of {TURNED} of 13 turned round": compare(
                [case.turned(seed) for case in cases if len(case.target.label_names) == 2 for seed in range(3)],
                max(1, options.seeds // 3), options.rows,
            ),
            "targets not seen before": compare(unseen, options.seeds, options.rows),
            "answers as text": compare([case.as_text() for case in cases], options.seeds, options.rows),
        }  # fmt: skip
        for title, found in results.items():
            show(title, found)
        halved = halve([*cases, *unseen], options.seeds)
        # The default for text answers. It looks at labels alone, so that the same is to be expected of it.
        as_text = halve([case.as_text() for case in [*cases, *unseen]], options.seeds, ["consensus"])
        halved |= {f"{method}, answers as text": found for method, found in as_text.items()}
        calibration = {
            f"{case.set} {case.target.id}": float(np.mean(METHODS["consensus"](case.evidence) - case.accuracies))
            for case in [*cases, *unseen]
        }
    show_halving(halved)
    print("\nexpected accuracy (consensus) less true accuracy, mean over 13 prompts:")
    for name, value in calibration.items():
        print(f"  {name:<28}{value:+.3f}")
    record = {
        "settings": {"seeds": options.seeds, "rows": options.rows, "turned": TURNED, "share": SHARE,
                     "precision": answerer.precision, "surrogate": surrogate.identity(),
                     "targets": {c.target.id: len(c.target.labels) for c in [*cases, *unseen]}},
        "versions": {n: version(n) for n in ("fute", "numpy", "torch", "transformers")}
        | {"python": platform.python_version()},
        "git_commit": code_version(),
        "prompts_asked_now": answerer.asked,
        "accuracies": {
            f"{c.set} {c.target.id}": dict(zip(c.evidence.candidates.ids, c.accuracies.tolist(), strict=True))
            for c in [*cases, *unseen]
        },
        "results": results,
        "halving": halved,
        "calibration": calibration,
    }  # fmt: skip
    write_record(record, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="draws of rows for each target")
    parser.add_argument("--rows", type=int, default=200, help="texts in a draw")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--out", type=Path, default=HERE / "results/prompt_selection.json")
    return parser.parse_args()


def _features(config: SurrogateConfig, inputs: TextTable) -> Floats:
    started = time.perf_counter()
    values = compute_features(load_surrogate(config, HERE), inputs)
    print(f"  features of {len(inputs)} texts: {time.perf_counter() - started:.1f} s", flush=True)
    return values


def read_cases(shared: Path, family: str, answerer: Answerer, features: Features) -> list[Case]:
    targets = [read_target(shared, family, name) for name in TARGETS[family]]
    pool, references = generic_pool(shared, family, targets), read_references(shared, family, targets)
    cases = []
    for target in targets:
        known = [labelled_texts(r, target.label_names, target.inputs, features) for r in references]
        known = [k for k in known if k is not None]
        if "not_entailment" in target.label_names:  # neutral and contradiction, under the target's name
            known = [labelled_texts(two_labels(r), target.label_names, target.inputs, features) for r in references]
        n_labels = len(target.label_names)
        space, pool_space = (TargetSpace.fit(features(x), known, n_labels) for x in (target.inputs, pool))
        for name, path in SETS.items():
            wordings = read_wordings(Path(str(path).format(family)))
            asked = partial(candidates, wordings, answerer, target)
            cases.append(Case(name, target, asked(target.inputs), space, Evidence(asked(pool), pool_space)))
            print(f"  {name} {target.id}: {len(target.labels)} rows", flush=True)
    return cases


def read_unseen(shared: Path, family: str, answerer: Answerer, features: Features) -> list[Case]:
    """The judging prompts on targets that no method was compared on, with the references that are left."""
    wordings = read_wordings(Path(str(SETS["judging"]).format(family)))
    cases = []
    for name in UNSEEN[family]:
        target = read_target(shared, family, name)
        found = [
            labelled_texts(r, target.label_names, target.inputs, features)
            for r in read_references(shared, family, [target])
        ]
        space = TargetSpace.fit(features(target.inputs), [f for f in found if f], len(target.label_names))
        cases.append(Case("judging", target, candidates(wordings, answerer, target, target.inputs), space))
        print(f"  judging {name}: {len(target.labels)} rows", flush=True)
    return cases


def two_labels(reference: Dataset) -> Dataset:
    """entailment against the rest."""
    assert reference.label_names is not None
    split = reference.train
    entailed = split.targets == reference.label_names.index("entailment")
    turned = replace(split, targets=np.where(entailed, 0, 1))
    return replace(reference, splits={"train": turned}, label_names=("entailment", "not_entailment"))


def candidates(wordings: Sequence[Wording], answerer: Answerer, target: Target, inputs: TextTable) -> Candidates:
    outputs = []
    for wording in wordings:
        verbalizer = verbalizer_for(wording.verbalizer, target.label_names)
        values = label_probabilities(answerer.table(wording, inputs), answerer.words, verbalizer)
        outputs.append(Outputs("probabilities", values, target.label_names))
    return Candidates.of([w.id for w in wordings], outputs, [w.calls for w in wordings])


def turn(found: Candidates, who: Integers) -> Candidates:
    values = found.probabilities.copy()
    values[who] = values[who][:, :, ::-1]
    return Candidates(found.ids, values, found.answered, found.label_names, found.calls_per_row)


def harden(found: Candidates) -> Candidates:
    values = np.eye(len(found.label_names))[found.labels]
    return Candidates(found.ids, values, found.answered, found.label_names, found.calls_per_row)


# ---------------------------------------------------------------------------------------------------------- experiments


def compare(cases: Sequence[Case], seeds: int, rows: int) -> dict[str, dict[str, Any]]:
    """Method -> "set target" -> measures and calls, mean over draws of rows; true accuracies are those of all rows."""
    found: dict[str, dict[str, Rows]] = {}
    for case in cases:
        name = f"{case.set} {case.target.id}"
        n = len(case.target.labels)
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            draw = rng.choice(n, size=min(rows, n), replace=False)
            evidence = case.evidence.rows(draw)
            scores = {method: score(evidence) for method, score in METHODS.items()}
            scores["zps_majority, filtered"] = filtered_zps(evidence.candidates, "majority")
            scores["zps_log_probability, filtered"] = filtered_zps(evidence.candidates)
            scores["random"] = rng.permutation(len(case.accuracies)).astype(float)
            right = evidence.candidates.labels == case.target.labels[draw]
            scores["oracle (labels of the draw)"] = right.mean(axis=1)
            if case.pool is not None:
                scores |= {f"{m}, generic pool": METHODS[m](case.pool) for m in POOLED}
            for method, values in scores.items():
                kept = found.setdefault(method, {}).setdefault(name, {m: [] for m in (*SHOWN, "calls")})
                asked = case.pool if case.pool is not None and method.endswith(", generic pool") else evidence
                kept["calls"].append(float(asked.candidates.calls_per_row.sum() * asked.candidates.n_rows))
                for measure, value in asdict(ranking_quality(values, case.accuracies)).items():
                    kept[measure].append(value)
    return {
        method: {name: {m: float(np.mean(v)) for m, v in kept.items()} for name, kept in of.items()}
        for method, of in found.items()
    }


def halve(cases: Sequence[Case], seeds: int, methods: Sequence[str] = tuple(JUDGES)) -> dict[str, dict[str, Any]]:
    """Method -> "set target" -> regret with all calls, and with a share of them, over orders of the rows."""
    found: dict[str, dict[str, Any]] = {}
    for method in methods:
        for case in cases:
            full, space = case.evidence.candidates, case.evidence.space
            every = int(full.calls_per_row.sum()) * full.n_rows
            chosen = int(METHODS[method](case.evidence).argmax())
            best = float(case.accuracies.max())
            regrets, calls = [], []
            for seed in range(seeds):
                halving = race(full, space, JUDGES[method], seed)
                regrets.append(best - float(case.accuracies[int(halving.scores.argmax())]))
                calls.append(halving.calls / every)
            found.setdefault(method, {})[f"{case.set} {case.target.id}"] = {
                "regret_all_calls": best - float(case.accuracies[chosen]),
                "regret": float(np.mean(regrets)),
                "worst_regret": float(np.max(regrets)),
                "share_of_calls": float(np.mean(calls)),
            }
    return found


def race(
    full: Candidates, space: TargetSpace | None, judge: Callable[[Evidence, Integers], Doubles], seed: int
) -> Halving:
    """A successive halving in which answers that are known beforehand are given out as they are asked for."""
    nothing = np.zeros_like(full.answered)
    blank = Candidates(full.ids, np.zeros_like(full.probabilities), nothing, full.label_names, full.calls_per_row)
    return successive_halving(
        blank,
        lambda members, rows: full.some(members).rows(rows),
        lambda now, rows: judge(Evidence(now, space), rows),
        share=SHARE,
        seed=seed,
    )


# --------------------------------------------------------------------------------------------------------------- output


def accuracies(cases: Sequence[Case]) -> None:
    for case in cases:
        order = np.argsort(-case.accuracies)
        told = ", ".join(f"{case.evidence.candidates.ids[i]} {case.accuracies[i]:.3f}" for i in order)
        print(f"{case.set} {case.target.id} ({len(case.target.labels)} rows): {told}")


def show(title: str, found: dict[str, dict[str, Any]]) -> None:
    names = list(next(iter(found.values())))
    print(f"\n{title}: rank correlation, regret at 1 (mean over draws)")
    print(f"{'':<34}" + "".join(f"{_short(n):>14}" for n in names) + "".join(f"{s:>24}" for s in SETS))
    for method, of in found.items():
        cells = "".join(f"{of[n]['rank_correlation']:>8.2f} {of[n]['regret']:.3f}" for n in names)
        means = ""
        for which in SETS:
            mine = [v for n, v in of.items() if n.startswith(which)]
            if not mine:
                continue
            r, g, d = (float(np.mean([v[m] for v in mine])) for m in SHOWN)
            means += f"{r:>10.2f} {g:.3f} {d:.3f}"
        print(f"{method:<34}{cells}{means}")


def show_halving(found: dict[str, dict[str, Any]]) -> None:
    print(f"\nsuccessive halving, at most {SHARE:.0%} of the calls: regret (worst order), with all calls, share")
    for method, of in found.items():
        for name, v in of.items():
            print(f"  {method:<28}{name:<28}{v['regret']:.3f} ({v['worst_regret']:.3f})  {v['regret_all_calls']:.3f}  "
                  f"{v['share_of_calls']:.2f}")  # fmt: skip
        change = np.mean([v["regret"] - v["regret_all_calls"] for v in of.values()])
        print(f"  {method:<28}mean regret less that with all calls: {change:+.4f}")


def _short(name: str) -> str:
    first, second = name.split(" ", 1)
    return f"{first[:3]} {second[:9]}"


if __name__ == "__main__":
    main()
