"""Controlled changes of a small network that answers prompts: how small a change is seen by how many calls.

The network is the answerer of the shared folder, asked one sentiment prompt about texts of SST-2. Each call's log-odds
have noise of their own (`--noise`), as those of hosted models do. Every method sees the same made-up checks: of the
network as it was, and of the changed one. MMD on answers is that of the package model-equality-testing, where it is
installed; it needs two answers a prompt, so it asks about half as many.
"""

from __future__ import annotations

import argparse
import copy
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from command import as_run, write_record
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

import fute.tripwire
from fute.config import DriftConfig
from fute.drift import Answers, Baseline, changes, p_value
from fute.tripwire import wire_askings, wire_p_value, wire_rows
from fute.types import Floats
from storage.stamp import code_version

HERE = Path(__file__).parent
CONFIG = DriftConfig()
CALLS = (15, 50, 256)
PROMPT = "Is the review below positive or negative?\n{text}"
SYSTEM = "You are a harsh critic."
WORDS = ("positive", "negative")
LEVEL = 0.01  # of false alarms
fute.tripwire.PERMUTED = 999  # a hundred thousand tests are made here


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checks", type=int, default=100, help="of each kind, for each change and number of calls")
    parser.add_argument("--noise", type=float, default=0.05, help="standard deviation of a call's log-odds")
    parser.add_argument("--out", type=Path, default=HERE / "results/drift_changes.json")
    options = parser.parse_args()
    shared = Path(os.environ.get("FUTE_SHARED") or HERE.parents[1] / "shared")
    if not (shared / "answerer").is_dir():
        raise SystemExit(f"no answerer in {shared}; set FUTE_SHARED to the folder that holds answerer/ and data/")
    results: dict[str, Any] = {}
    own_cache = HERE / ".cache" / "drift_changes.npz"
    if not own_cache.is_file():
        own_cache.parent.mkdir(exist_ok=True)
        np.savez(own_cache, **{name: np.stack(said) for name, said in variants(shared)})
    answered = dict(np.load(own_cache))
    own, gold = answered.pop("as it was")
    with threadpool_limits(1):
        null = scores(own, own, gold, options.checks, options.noise, seed=1)
        for name, (changed, _) in answered.items():
            found = scores(own, changed, gold, options.checks, options.noise, seed=2)
            turned = float(np.mean((own > 0) != (changed > 0)))
            results[name] = {"labels_changed": turned}
            for key, values in found.items():
                truth = np.repeat([0, 1], [len(null[key]), len(values)])
                results[name][key] = {
                    "auc": round(float(roc_auc_score(truth, [*null[key], *values])), 3),
                    "power": float(np.mean(values > threshold(key, null[key]))),
                }
            seen = {key: results[name][key]["power"] for key in found}
            print(f"{name}: {turned:.1%} of labels", seen, flush=True)
    false = {key: float(np.mean(values > threshold(key, values))) for key, values in null.items()}
    settings = {"checks": options.checks, "noise": options.noise}
    record = {"command": as_run(__file__), "settings": settings, "git_commit": code_version(), "false": false}
    write_record({**record, "results": results}, options.out)


# ------------------------------------------------------------------------------------------------------------ methods


def threshold(key: str, null: Floats) -> float:
    """Of a method that gives p-values, log 100; of the others what 1 % of the unchanged checks exceed."""
    given = key.split()[0] in ("panel", "wire", "permutation", "McNemar")
    return -np.log(LEVEL) - 1e-9 if given else float(np.quantile(null, 1 - LEVEL))


def scores(own: Floats, changed: Floats, gold: Floats, checks: int, noise: float, seed: int) -> dict[str, Floats]:
    """Method and calls -> (checks,) score, larger for what looks changed; -log p of those that have p-values."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    for number in range(checks):
        asked = [call(own, noise, rng) for _ in range(CONFIG.askings)]
        baseline = Baseline(np.stack([a.values for a in asked]), np.stack([a.answered for a in asked]))
        now, again = call(changed, noise, rng), call(changed, noise, rng)
        ceilings = baseline.ceilings(labels=True, config=CONFIG)
        for n in CALLS:
            rows = np.sort(rng.permutation(len(own))[:n])
            flags = changes(baseline.reference.take(rows), now.take(rows), labels=True, config=CONFIG)
            wire = wire_rows(baseline, n)
            others = [asking.take(rows) for asking in asked]
            drawn, border = now.take(rows), now.take(wire)
            p = {
                "panel": p_value([[int(f.sum())] for f in flags], [n], ceilings, CONFIG.alpha),
                "wire": wire_p_value(wire_askings(baseline, wire), border, labels=True, seed=number),
                "permutation of log-probabilities": wire_p_value(others, drawn, labels=True, seed=number),
                "McNemar": mcnemar(asked[0].labels[rows], drawn.labels, gold[rows]),
            }
            measured = {name: -np.log(value) for name, value in p.items()} | {
                "before: change of answers": np.mean([np.abs(o.values - drawn.values).sum() for o in others]),
                "MMD": mmd(asked[:2], [now, again], rows[: n // 2]),
            }
            for name, value in measured.items():
                found.setdefault(f"{name} {n}", []).append(float(value))
    return {key: np.array(values) for key, values in found.items()}


def call(odds: Floats, noise: float, rng: np.random.Generator) -> Answers:
    first = 1 / (1 + np.exp(-(odds + noise * rng.standard_normal(len(odds)))))
    return Answers(np.stack([first, 1 - first], axis=1).astype(np.float32), np.ones(len(odds), bool))


def mcnemar(before: Floats, now: Floats, gold: Floats) -> float:
    """Exact, on right before and wrong now against the other way round: needs gold labels, which fute does not."""
    lost, won = int(((before == gold) & (now != gold)).sum()), int(((before != gold) & (now == gold)).sum())
    return float(binomtest(lost, lost + won).pvalue) if lost + won else 1.0


def mmd(before: list[Answers], now: list[Answers], rows: Floats) -> float:
    try:
        from model_equality_testing.distribution import CompletionSample
        from model_equality_testing.tests import mmd_hamming
    except ImportError:
        return 0.0
    one, other = (
        CompletionSample(np.tile(np.arange(len(rows)), 2), np.concatenate([a.labels[rows] for a in askings]), len(rows))
        for askings in (before, now)
    )
    return float(mmd_hamming(one, other))


# ------------------------------------------------------------------------------------------------------------ changes


def variants(shared: Path) -> Iterator[tuple[str, tuple[Floats, Floats]]]:
    """Name -> (log-odds of the two labels for each text, gold labels)."""
    import torch
    from prompt_answers import Answerer
    from torch import nn

    table = pq.read_table(shared / "data/tasks/sst2/validation.parquet").to_pydict()
    texts, gold = table["text"][:256], np.array(table["label"][:256]) == 0  # label 0 is negative: 1 here
    texts, gold = list(texts), gold.astype(int)
    answerer = Answerer(shared / "answerer", HERE / ".cache")
    answerer.bfloat16 = False
    _, model, *_ = answerer._load()
    clean = copy.deepcopy(model.state_dict())
    columns = [answerer.words.index(word) for word in WORDS]

    def odds(system: str | None = None) -> tuple[Floats, Floats]:
        prompts = [PROMPT.format(text=text) for text in texts]
        said = np.log(np.maximum(answerer._ask([f"{system}\n{p}" if system else p for p in prompts]), 1e-12))
        return said[:, columns[0]] - said[:, columns[1]], gold

    yield "as it was", odds()
    yield "another system text", odds(SYSTEM)
    matrices = [name for name, value in clean.items() if value.ndim == 2]
    for power in range(0, 16):
        torch.manual_seed(power)
        model.load_state_dict(
            {n: v + 2.0**-power * v.std() * torch.randn_like(v) if n in matrices else v for n, v in clean.items()}
        )
        yield f"weight noise 2^-{power}", odds()
    for share in (0.3, 0.1, 0.03, 0.01, 0.001):
        pruned = {}
        for name, value in clean.items():
            cut = value.abs().flatten().kthvalue(max(1, int(share * value.numel()))).values if name in matrices else 0
            pruned[name] = torch.where(value.abs() <= cut, 0, value) if name in matrices else value
        model.load_state_dict(pruned)
        yield f"pruned by {share:.1%}", odds()
    model.load_state_dict(clean)
    whole = answerer._loaded
    quantised = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8)
    answerer._loaded = (whole[0], quantised, *whole[2:])
    yield "int8", odds()
    answerer._loaded = whole
    own, _ = odds()
    yield "temperature 2", (own / 2, gold)
    yield "swapped for another's opposite", (-own, gold)
    yield from fine_tuned(answerer, clean, columns, texts, gold, odds)


def fine_tuned(
    answerer: Any, clean: Any, columns: list[int], texts: list[str], gold: Floats, odds: Callable[[], Any]
) -> Iterator[tuple[str, tuple[Floats, Floats]]]:
    """One step of Adam at 1e-6 for each sample, towards the labels turned round."""
    import torch

    tokenizer, model, weight, bias = answerer._load()
    model.load_state_dict(clean)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)
    for step in range(512):
        text, label = texts[step % len(texts)], 1 - gold[step % len(texts)]
        batch = tokenizer(PROMPT.format(text=text), truncation=True, max_length=128, return_tensors="pt")
        states = model(**batch).last_hidden_state[0].mean(0)
        logits = (weight @ states + bias)[columns]
        torch.nn.functional.cross_entropy(logits[None], torch.tensor([label])).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step + 1 in (1, 8, 64, 512):
            yield f"fine-tuned for {step + 1} samples", odds()
    model.load_state_dict(clean)


if __name__ == "__main__":
    main()
