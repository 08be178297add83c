"""Drift: false alarms of unchanged endpoints, a slow drift, real snapshots of a hosted model, and what watching costs.

Of the snapshots one asking each is published, so their noise is not known: it is simulated, a share of the rows that
say something else half of the time.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from command import as_run, write_record
from numpy.typing import NDArray
from scipy.stats import binom, binomtest
from threadpoolctl import threadpool_limits

from fute.config import DriftConfig
from fute.drift import Answers, batches, ceiling, p_value
from fute.tripwire import SURE_ROWS, WIRE_ALPHA, WIRE_ROWS, wire_p_value
from storage.stamp import code_version
from tasks.drift import QUIET

HERE = Path(__file__).parent
CONFIG = DriftConfig()
ROWS, WEEKS = CONFIG.panel_rows, 52
NOISE = (0.0, 0.01, 0.02, 0.03, 0.05)
ANSWER = {"opinionqa": re.compile(r"\(([A-Z])\)"), "prime": re.compile(r"\[(yes|no)\]", re.IGNORECASE)}
PROMPT_TOKENS, ANSWER_TOKENS = 200, 2
USD_PER_MILLION = (0.15, 0.60)  # of a small hosted model, in and out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=40, help="unchanged endpoints of each noise, for a year")
    parser.add_argument("--drifting", type=int, default=30, help="endpoints that drift, of each noise")
    parser.add_argument("--draws", type=int, default=500, help="draws of rows of a snapshot")
    parser.add_argument("--out", type=Path, default=HERE / "results/drift.json")
    options = parser.parse_args()
    shared = Path(os.environ.get("FUTE_SHARED") or HERE.parents[1] / "shared")
    with threadpool_limits(1):
        results = {
            "unchanged": unchanged(options.models),
            "slow": slow(options.drifting),
            "labels alone": labels_alone(),
            "trips of unchanged endpoints": trips(options.models),
            "snapshots": [*snapshots(shared / "llm", options.draws)],
            "cost": cost(),
        }
    for name, result in results.items():
        print(name, *(result if isinstance(result, list) else result.items()), sep="\n  ")
    settings = {"models": options.models, "drifting": options.drifting, "draws": options.draws}
    write_record(
        {"command": as_run(__file__), "settings": settings, "git_commit": code_version(), "results": results},
        options.out,
    )


def a_year(noise: float, rng: np.random.Generator, drift: float = 0.0, weeks: int = WEEKS) -> Iterator[float]:
    """p of each weekly reading of an endpoint; a share of rows says something else half of the time, and `drift` of all
    rows something new for good each week."""
    noisy, new = rng.random(ROWS) < noise, np.zeros(ROWS, bool)

    def ask() -> np.ndarray[Any, Any]:
        return np.where(new, 2, noisy & (rng.random(ROWS) < 0.5))

    reference = ask()
    differing = sum(int((ask() != reference).sum()) for _ in range(CONFIG.askings - 1))
    top = ceiling(differing, ROWS * (CONFIG.askings - 1), CONFIG.alpha)
    counts: list[int] = []
    asked: list[int] = []
    for _ in range(weeks):
        new |= rng.random(ROWS) < drift
        for rows in batches(ROWS, int(rng.integers(2**31))):
            counts.append(int((ask() != reference)[rows].sum()))
            asked.append(len(rows))
        yield p_value([counts] * 2, asked, [top] * 2, CONFIG.alpha)


def unchanged(models: int) -> dict[str, Any]:
    """Alarms among weekly checks, over all noises. The promise is for each endpoint in the life of its baseline."""
    rng = np.random.default_rng(0)
    years = [[p <= CONFIG.alpha for p in a_year(noise, rng)] for noise in NOISE for _ in range(models)]
    checks, alarms, ever = sum(map(len, years)), sum(map(sum, years)), sum(map(any, years))
    high = {
        "alarms_below": binomtest(alarms, checks).proportion_ci(0.95).high,
        "endpoints_below": binomtest(ever, len(years)).proportion_ci(0.95).high,
    }
    return {"checks": checks, "alarms": alarms, "endpoints": len(years), "endpoints_with_alarm": ever, **high}


def slow(endpoints: int) -> list[dict[str, Any]]:
    """Weeks until 0.2 % a week of new answers are an alarm."""
    rng = np.random.default_rng(1)
    found = []
    for noise in (0.0, 0.02, 0.05):
        weeks = [
            next((week for week, p in enumerate(a_year(noise, rng, 0.002, 104), start=1) if p <= CONFIG.alpha), 999)
            for _ in range(endpoints)
        ]
        found.append({"noise": noise, "median": float(np.median(weeks)), "last": int(max(weeks))})
    return found


def labels_alone() -> list[dict[str, Any]]:
    """How often one look of the wire trips where a share of the labels changed, by the looks that it is compared with;
    of an endpoint that never varied and answers with labels alone. The rows that changed are a binomial draw."""
    rng, found = np.random.default_rng(0), []
    labels = np.eye(2, dtype=np.float32)[rng.integers(2, size=WIRE_ROWS)]
    answered = np.ones(WIRE_ROWS, bool)
    for looks in (3, 10, 30):
        tripped = []
        for changed in range(WIRE_ROWS + 1):
            now = labels.copy()
            now[:changed] = 1 - now[:changed]
            before = [Answers(labels, answered)] * looks
            p_values = [wire_p_value(before, Answers(now, answered), labels=True, seed=seed) for seed in range(20)]
            tripped.append(np.mean(np.array(p_values) <= WIRE_ALPHA))
        for share in (0.05, 0.1, 0.2, 0.28, 0.4):
            chance = binom.pmf(np.arange(WIRE_ROWS + 1), WIRE_ROWS, share) @ np.array(tripped)
            found.append({"looks": looks, "share changed": share, "trips": round(float(chance), 2)})
    return found


def trips(endpoints: int, looks: int = 150) -> list[dict[str, Any]]:
    """Looks at unchanged noisy endpoints that trip, each compared with the baseline and the last quiet ones."""
    found = []
    for name, n in (("labels alone", WIRE_ROWS), ("log-probabilities", SURE_ROWS)):
        tripped = 0
        for endpoint in range(endpoints):
            rng = np.random.default_rng(endpoint)
            likely = rng.beta(0.5, 0.5, n)
            before = [noisy(likely, name == "labels alone", rng) for _ in range(3)]
            quiet: list[Answers] = []
            for _ in range(looks):
                now = noisy(likely, name == "labels alone", rng)
                compared, seed = [*before, *quiet[-QUIET:]], int(rng.integers(1 << 30))
                if wire_p_value(compared, now, labels=True, seed=seed) <= WIRE_ALPHA:
                    tripped += 1
                else:
                    quiet.append(now)
        high = binomtest(tripped, endpoints * looks).proportion_ci(0.95).high
        found.append(
            {"answers": name, "looks": endpoints * looks, "tripped": tripped, "at most": round(float(high), 5)}
        )
    return found


def noisy(likely: NDArray[np.float64], hard: bool, rng: np.random.Generator) -> Answers:
    """One asking: labels drawn, or log-odds with noise of their own."""
    if hard:
        first = (rng.random(len(likely)) < likely).astype(np.float64)
    else:
        odds = np.log(likely / (1 - likely)).clip(-5, 5) + 0.3 * rng.standard_normal(len(likely))
        first = 1 / (1 + np.exp(-odds))
    return Answers(np.stack([first, 1 - first], axis=1).astype(np.float32), np.ones(len(likely), bool))


def snapshots(folder: Path, draws: int) -> Iterator[dict[str, Any]]:
    """Share of draws of so many rows that are an alarm: of the later snapshot, and of the earlier one asked again."""
    if not folder.is_dir():
        return
    for name, pattern in ANSWER.items():
        table = pq.read_table(folder / f"gpt35_{name}.parquet").to_pandas()
        table["said"] = [choice(pattern, text) for text in table["answer"]]
        both = [table[table["snapshot"] == snapshot].drop_duplicates("query") for snapshot in ("0301", "0613")]
        wide = both[0].merge(both[1], on="query")
        before, after = wide["said_x"].to_numpy(), wide["said_y"].to_numpy()
        for noise in (0.0, 0.02, 0.05):
            rng = np.random.default_rng(2)
            for rows in (5, 10, 15, 25, 50, 100):
                seen, false = 0, 0
                for _ in range(draws):
                    noisy = (rng.random((CONFIG.askings + 1, ROWS)) < 0.5) & (rng.random(ROWS) < noise)
                    first, *others, now = noisy
                    trials = sum(int((asking != first).sum()) for asking in others)
                    top = ceiling(trials, ROWS * len(others), CONFIG.alpha)
                    drawn = rng.permutation(len(wide))[:rows]
                    own = (now != first)[:rows]
                    update = (before[drawn] != after[drawn]) | own
                    for differs, is_update in ((update, True), (own, False)):
                        alarm = p_value([[int(differs.sum())]] * 2, [rows], [top] * 2, CONFIG.alpha) <= CONFIG.alpha
                        seen, false = seen + (alarm and is_update), false + (alarm and not is_update)
                differing = float((before != after).mean())
                yield {
                    "questions": name, "differing": differing, "noise": noise, "rows": rows,
                    "power": seen / draws, "false": false / draws,
                }  # fmt: skip


def choice(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found.group(1).lower() if found else "none"


def cost() -> list[dict[str, Any]]:
    """Calls and dollars a year for each prompted model."""
    hours, panel = 24 * 365, sum(map(len, batches(ROWS, 0)))
    plans = {
        "before: 256 texts every hour": ROWS * hours,
        "wire every hour, with probabilities": SURE_ROWS * hours,
        "wire every hour, labels only": WIRE_ROWS * hours,
        "wire every six hours, with probabilities": SURE_ROWS * hours // 6,
        "panel every week": panel * WEEKS,
        "panel for false trips of the wire": round(WIRE_ALPHA * hours * panel),
        "baseline, once": ROWS * CONFIG.askings,
    }
    usd = (PROMPT_TOKENS * USD_PER_MILLION[0] + ANSWER_TOKENS * USD_PER_MILLION[1]) / 1e6
    return [{"plan": plan, "calls": calls, "usd": round(calls * usd, 2)} for plan, calls in plans.items()]


if __name__ == "__main__":
    main()
