"""What does calibrating the answers of prompts bring, and does a prompt that is chosen calibrated do well?

    python benchmarks/prompt_calibration.py [--seeds N] [--rows N] [--texts N]

Answers of two models: OPT-2.7B, which was never taught to follow a prompt, on SST-2 (published, in the shared folder,
50 prompts), and the small network of prompt_selection.py on its ten targets (judging prompts; asked here, and kept in
benchmarks/.cache). Texts are drawn so that classes are balanced, and so that they are not; the share of each class
decides the accuracy too. Labels are for measuring alone.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from command import as_run, write_record
from prompt_answers import Answerer, label_probabilities, read_wordings
from prompt_selection import HERE, SETS
from prompt_targets import TARGETS, UNSEEN, read_target, verbalizer_for
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits

from fute.data.sampling import generator, stratified_sample
from fute.models.calibration import CONTENT_FREE, Calibration, content_free_bias, marginal_bias
from fute.select.candidates import Candidates, Doubles, Integers
from fute.select.entropy import mutual_information
from fute.select.ranking import Evidence, consensus_accuracy
from fute.select.zps import zps
from fute.types import TextTable
from storage.stamp import code_version

RULES: tuple[Calibration, ...] = ("none", "content_free", "marginal")
METHODS: dict[str, Callable[[Candidates], Doubles]] = {
    "mutual_information": mutual_information,
    "consensus": lambda candidates: consensus_accuracy(Evidence(candidates)),
    "zps_log_probability": zps,
}


@dataclass(frozen=True, eq=False)
class Answers:
    """Attributes:
    candidates: m prompts on n texts.
    content_free: (m, k, c) their answers to inputs that say nothing.
    labels: (n,).
    """

    name: str
    candidates: Candidates
    content_free: Doubles
    labels: Integers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="draws of texts")
    parser.add_argument("--rows", type=int, default=200, help="texts in a draw")
    parser.add_argument("--texts", type=int, default=120, help="of each target that the network is asked about")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--out", type=Path, default=HERE / "results/prompt_calibration.json")
    options = parser.parse_args()
    shared = Path(os.environ.get("FUTE_SHARED") or HERE.parents[1] / "shared")
    if not (shared / "llm").is_dir():
        raise SystemExit(f"no answers in {shared}; set FUTE_SHARED to the folder that holds llm/, data/ and answerer/")
    results, leans = {}, {}
    with threadpool_limits(1):
        for answers in chain([read_opt(shared / "llm")], ask_network(shared, options.cache, options.texts)):
            for shares in balances(len(answers.candidates.label_names)):
                name = f"{answers.name} {' '.join(f'{share:.1f}' for share in shares)}"
                results[name] = measure(answers, shares, options.seeds, options.rows)
                show(name, results[name])
            leans[answers.name] = leaning(answers)
            print(f"  lean {leans[answers.name]}")
    settings = {"seeds": options.seeds, "rows": options.rows, "texts": options.texts}
    record = {
        "command": as_run(__file__),
        "settings": settings,
        "git_commit": code_version(),
        "results": results,
        "lean": leans,
    }
    write_record(record, options.out)


def balances(n_labels: int) -> list[list[float]]:
    """Even, and with each label in turn as the frequent one: 0.8 of two, 0.6 of three."""
    frequent = 0.8 if n_labels == 2 else 0.6
    rest = (1 - frequent) / (n_labels - 1)
    return [
        [1 / n_labels] * n_labels,
        *([frequent if c == label else rest for c in range(n_labels)] for label in range(n_labels)),
    ]


def measure(answers: Answers, shares: list[float], seeds: int, rows: int) -> dict[str, dict[str, float]]:
    """Rule -> accuracy of the median prompt, of the best, and of that which each method chooses, as it is then used:
    with the bias that was found on the draw. Means over draws; accuracies are those of all texts, weighted."""
    found: dict[str, list[dict[str, float]]] = {rule: [] for rule in RULES}
    for seed in range(seeds):
        drawn = draw(answers.labels, shares, rows, np.random.default_rng(seed))
        for rule in RULES:
            all_texts = answers.candidates.calibrated(biases(rule, answers, drawn))
            right = all_texts.labels == answers.labels
            accuracies = sum(
                share * right[:, answers.labels == label].mean(axis=1) for label, share in enumerate(shares)
            )
            assert isinstance(accuracies, np.ndarray)
            texts = all_texts.rows(drawn)
            chosen = {name: float(accuracies[score(texts).argmax()]) for name, score in METHODS.items()}
            found[rule].append({"median": float(np.median(accuracies)), "best": float(accuracies.max()), **chosen})
    return {
        rule: {name: round(float(np.mean([one[name] for one in of])), 4) for name in of[0]}
        for rule, of in found.items()
    }


def leaning(answers: Answers) -> dict[str, float]:
    """How far prompts lean (the largest number that content-free calibration adds), what calibrating adds to the
    accuracy of a prompt where classes are balanced, and how the two go together: does one tell when to do it?"""
    bias = biases("content_free", answers, np.arange(0))
    right = [answers.candidates.calibrated(by).labels == answers.labels for by in (np.zeros_like(bias), bias)]
    classes = range(len(answers.candidates.label_names))
    before, after = (np.mean([r[:, answers.labels == c].mean(axis=1) for c in classes], axis=0) for r in right)
    lean = np.abs(bias).max(axis=1)
    together = float(spearmanr(lean, after - before).statistic)
    return {"median": float(np.median(lean)), "gain": float((after - before).mean()), "rank_correlation": together}


def biases(rule: Calibration, answers: Answers, drawn: Integers) -> Doubles:
    """(m, c)"""
    if rule == "none":
        return np.zeros(answers.content_free[:, 0].shape)
    source = answers.content_free if rule == "content_free" else answers.candidates.probabilities[:, drawn]
    find = content_free_bias if rule == "content_free" else marginal_bias
    return np.stack([found for each in source if (found := find(each)) is not None])


def draw(labels: Integers, shares: list[float], rows: int, rng: np.random.Generator) -> Integers:
    """Texts with these shares of classes; of a class that has too few, some more than once."""
    parts = []
    for label, share in enumerate(shares):
        members, wanted = np.flatnonzero(labels == label), round(share * rows)
        parts.append(rng.choice(members, wanted, replace=wanted > len(members)))
    return np.concatenate(parts)


def read_opt(folder: Path) -> Answers:
    rows = pq.read_table(folder / "opt27b_sst2_rows.parquet").to_pandas().sort_values("row")
    prompts = pq.read_table(folder / "opt27b_sst2_prompts.parquet").to_pandas()
    table = pq.read_table(folder / "opt27b_sst2_answers.parquet").to_pandas().sort_values("row")
    ids = tuple(prompts["prompt"])
    logs = np.stack([table.loc[table["prompt"] == i, ["log_negative", "log_positive"]].to_numpy() for i in ids])
    empty = np.stack([prompts[[f"{i}_negative", f"{i}_positive"]].to_numpy() for i in ("empty", "na", "mask")], 1)
    names = ("negative", "positive")
    m, n = logs.shape[:2]
    candidates = Candidates(ids, shares_of(logs), np.ones((m, n), bool), names, np.ones(m, np.int64))
    return Answers("OPT-2.7B sst2", candidates, shares_of(empty), rows["label"].to_numpy())


def shares_of(log_probabilities: Doubles) -> Doubles:
    shares = np.exp(log_probabilities - log_probabilities.max(axis=-1, keepdims=True)).astype(np.float64)
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def ask_network(shared: Path, cache: Path, texts: int) -> Iterator[Answers]:
    answerer = Answerer(shared / "answerer", cache)
    for family in TARGETS:
        wordings = read_wordings(Path(str(SETS["judging"]).format(family)))
        for name in (*TARGETS[family], *UNSEEN[family]):
            target = read_target(shared, family, name)
            taken = stratified_sample(target.labels, texts, generator(0, "calibration", name))
            says_nothing = TextTable(CONTENT_FREE, None if target.inputs.pairs is None else CONTENT_FREE)
            found = []
            for inputs in (target.inputs.take(taken), says_nothing):
                found.append(
                    np.stack(
                        [
                            label_probabilities(
                                answerer.table(wording, inputs),
                                answerer.words,
                                verbalizer_for(wording.verbalizer, target.label_names),
                            )
                            for wording in wordings
                        ]
                    ).astype(np.float64)
                )
            m, n = found[0].shape[:2]
            ids, calls = tuple(w.id for w in wordings), np.array([w.calls for w in wordings])
            candidates = Candidates(ids, found[0], np.ones((m, n), bool), target.label_names, calls)
            yield Answers(f"network {name}", candidates, found[1], target.labels[taken])


def show(name: str, found: dict[str, dict[str, float]]) -> None:
    print(f"\n{name}: " + ", ".join(next(iter(found.values()))))
    for rule, of in found.items():
        print(f"  {rule:<14}" + "".join(f"{value:>8.3f}" for value in of.values()), flush=True)


if __name__ == "__main__":
    main()
