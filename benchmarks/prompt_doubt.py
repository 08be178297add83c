"""Two prompts, few texts: whom does a selection without labels choose then, and do its intervals hold?

    python benchmarks/prompt_doubt.py

The 50 published prompts of OPT-2.7B on SST-2, uncalibrated, without references: draws of prompts and texts. Answers are
as they came (graded), or the label alone (certain). Regret is the best accuracy of the draw's prompts on all 872 texts
less that of the chosen one. An interval holds where it has the same score over all texts; those of few texts are
looked at here as well, which `fute select prompts` leaves out. The limits that ship were set with these in sight.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from claims_measures import Doubles
from command import as_run, write_record
from prompt_calibration import read_opt
from prompt_selection import HERE, harden
from threadpoolctl import threadpool_limits

from fute.select.candidates import Candidates, Integers
from fute.select.halving import Halving, successive_halving
from fute.select.ranking import METHODS, NORMAL_95, Evidence, rank_halving
from storage.stamp import code_version
from tasks.select import AUTO, Judge

SHARE = 1 / 3
TWO = ("consensus", "oriented_information", "mutual_information", "global_entropy")
SURE = 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--out", type=Path, default=HERE / "results/prompt_doubt.json")
    options = parser.parse_args()
    shared = Path(os.environ.get("FUTE_SHARED") or HERE.parents[1] / "shared")
    opt = read_opt(shared / "llm")
    graded = opt.candidates
    kinds = {"graded": graded, "certain": harden(graded)}
    accuracies = (graded.labels == opt.labels).mean(axis=1)
    with threadpool_limits(1):
        results = {
            "two": {name: two(found, accuracies, options.draws) for name, found in kinds.items()},
            "one always says the same": {name: lazy(found, accuracies, options.draws) for name, found in kinds.items()},
            "few texts": {str(n): few(graded, accuracies, n, options.draws) for n in (20, 40, 60)},
            "intervals": {
                f"{name}, {m} prompts, {n} texts": held(found, accuracies, m, n, options.draws)
                for name, found in kinds.items() for m in (5, 13) for n in (20, 60, 300)
            },
        }  # fmt: skip
    for title, found in results.items():
        print(title, *(f"{name}: {told}" for name, told in found.items()), sep="\n  ")
    record = {"command": as_run(__file__), "git_commit": code_version(), "settings": {"draws": options.draws}}
    write_record(record | {"results": results}, options.out)


def two(found: Candidates, accuracies: Doubles, draws: int) -> dict[str, float]:
    """Mean regret of each method's choice of two prompts, by 200 texts."""
    regrets: dict[str, list[float]] = {name: [] for name in (*TWO, "random")}
    for seed in range(draws):
        members, rows = drawn(found, 2, 200, seed)
        evidence, own = Evidence(found.some(members).rows(rows)), accuracies[members]
        for name in TWO:
            regrets[name].append(own.max() - own[int(METHODS[name](evidence).argmax())])
        regrets["random"].append(own.max() - own.mean())
    return {name: round(float(np.mean(values)), 3) for name, values in regrets.items()}


def lazy(found: Candidates, accuracies: Doubles, draws: int) -> dict[str, float]:
    """How often each method prefers a prompt that always gives one label to one of the better half."""
    better = np.flatnonzero(accuracies >= np.median(accuracies))
    won = dict.fromkeys(TWO, 0)
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        member, rows = rng.choice(better), rng.choice(found.n_rows, 200, replace=False)
        one = found.some(np.array([member])).rows(rows)
        says = np.array([0.95, 0.05]) if one.probabilities.max(axis=2).min() < 1 else np.array([1.0, 0.0])
        values = np.concatenate([one.probabilities, np.tile(says, (1, len(rows), 1))])
        pair = Candidates((*one.ids, "lazy"), values, np.ones((2, len(rows)), bool), one.label_names, np.ones(2, int))
        for name in TWO:
            won[name] += int(METHODS[name](Evidence(pair)).argmax() == 1)
    return {name: round(count / draws, 2) for name, count in won.items()}


def few(found: Candidates, accuracies: Doubles, n: int, draws: int) -> dict[str, float]:
    """Mean regret among 13 prompts, by successive halving and by the same texts for all, at equal cost."""
    regrets: dict[str, list[float]] = {name: [] for name in ("halving", "the same third", "all texts", "random")}
    score = METHODS["oriented_information"]
    for seed in range(draws):
        members, rows = drawn(found, 13, n, seed)
        some, own = found.some(members).rows(rows), accuracies[members]
        chosen = {
            "halving": halved(some, seed)[0].scores,
            "the same third": score(Evidence(some.rows(np.arange(int(SHARE * n))))),
            "all texts": score(Evidence(some)),
        }
        for name, scores in chosen.items():
            regrets[name].append(own.max() - own[int(scores.argmax())])
        regrets["random"].append(own.max() - own.mean())
    return {name: round(float(np.mean(values)), 3) for name, values in regrets.items()}


def held(found: Candidates, accuracies: Doubles, m: int, n: int, draws: int) -> dict[str, float | int | None]:
    """Intervals of a halving that held, of all and of those that are shown; and of those called sure to be the best how
    many were."""
    inside: list[bool] = []
    shown: list[bool] = []
    sure: list[bool] = []
    for seed in range(draws):
        members, rows = drawn(found, m, n, seed)
        some = found.some(members)
        halving, judge = halved(some.rows(rows), seed)
        true = METHODS[judge.method](Evidence(some))
        asked = np.isfinite(halving.merits).sum(axis=1)
        half = NORMAL_95 * np.nanstd(halving.merits, axis=1) / np.sqrt(asked)
        inside += (np.abs(halving.estimates - true) <= half).tolist()
        ranking = rank_halving(halving, seed=seed)
        is_shown = np.isfinite(ranking.low)
        shown += ((ranking.low <= true) & (true <= ranking.high))[is_shown].tolist()
        first = int(ranking.order[0])
        if ranking.best[first] >= SURE:
            sure.append(bool(accuracies[members][first] == accuracies[members].max()))
    means = {
        name: round(float(np.mean(of)), 2) if of else None for name, of in (("held", inside), ("shown held", shown))
    }
    return {**means, "shown": len(shown), "sure": len(sure), "sure and best": sum(sure)}


def halved(some: Candidates, seed: int) -> tuple[Halving, Judge]:
    def ask(members: Integers, rows: Integers) -> Candidates:
        return some.some(members).rows(rows)

    nothing = np.zeros_like(some.probabilities), np.zeros(some.answered.shape, bool)
    blank, judge = Candidates(some.ids, *nothing, some.label_names, some.calls_per_row), Judge(AUTO, None)
    return successive_halving(blank, ask, judge, share=SHARE, seed=seed), judge


def drawn(found: Candidates, m: int, n: int, seed: int) -> tuple[Integers, Integers]:
    rng = np.random.default_rng(seed)
    return rng.choice(len(found), m, replace=False), rng.choice(found.n_rows, n, replace=False)


if __name__ == "__main__":
    main()
