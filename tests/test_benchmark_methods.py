"""The speed and transfer benchmarks on tiny random surrogates: no shared data, nothing timed."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # scripts beside each other, not a package
import methods
import shapes
import transfer
from plain import ACCUMULATED, MICRO_BATCH, plain_taskemb, plain_tupate
from real_tasks import Task
from transfer_scores import load_scores

from fute.config import TransferConfig
from fute.methods.tupate.config import TupateConfig
from fute.methods.tupate.embed import Tupate
from fute.methods.tupate.prefixed import initial_prefix
from fute.surrogate.load import Surrogate
from fute.surrogate.source import find_source
from fute.types import Dataset, Pool, Split, TextTable
from tests.fute.slow_surrogates import SLOW
from tests.fute.tiny_surrogates import NOUNS, OTHERS, VERBS, build_model, load_tiny, save_tiny

pytestmark = pytest.mark.slow

TEXTS = ["the cat sat", "a big red dog ran", "bird", "fish swam under the old log and", "blue mat on"]
SOFT = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9], [1.0, 0.0]], dtype=np.float32)


def tiny(kind: str, folder: Path) -> Surrogate:
    surrogate = load_tiny(kind, folder, whole=True)
    surrogate.model.config.decoder_start_token_id = 0  # as in shapes.py; the tiny T5 names none
    return surrogate


def slow_logits(kind: str, surrogate: Surrogate, model: nn.Module, prefix: Tensor, seed: int) -> Tensor:
    """(rows, 2) float64: text by text, token by token; the head is the first thing drawn after the seed."""
    torch.manual_seed(seed)
    head = nn.Linear(32, 2).double()
    read = 0 if kind == "bert" else -1
    ids = surrogate.tokenizer(TEXTS)["input_ids"]
    return torch.stack([head(SLOW[kind](model, each, prefix)[read]) for each in ids])


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_the_plain_tupate_of_one_batch_is_one_step_of_adamw_on_a_slow_model(kind: str, tmp_path: Path) -> None:
    surrogate = tiny(kind, tmp_path)
    ours = Tupate(TupateConfig(), surrogate, Pool(TextTable(TEXTS * 2), ["made up"] * 10), 0)
    surrogate, sites = ours.surrogate, ours._sites
    assert len(TEXTS) <= MICRO_BATCH
    torch.manual_seed(7)
    found = plain_tupate(surrogate, sites, TextTable(TEXTS), SOFT, epochs=1, max_tokens=24, dropout=0.0)

    start = initial_prefix(sites, 16, 0).double()
    prefix = start.clone().requires_grad_()
    model = build_model(kind).double().eval()
    p = slow_logits(kind, surrogate, model, prefix, seed=7).sigmoid()
    wanted = torch.from_numpy(SOFT).double()
    loss = -(wanted * p.log() + (1 - wanted) * (1 - p).log()).mean() / ACCUMULATED
    (gradient,) = torch.autograd.grad(loss, prefix)
    # The first step of AdamW: both averages are the gradient itself; its usual decay is 0.01.
    stepped = start - 1e-3 * (0.01 * start + gradient / (gradient.abs() + 1e-8))
    layers = stepped.unflatten(0, (2, -1))
    assert layers.shape[1] == (2 if kind == "t5" else 1)
    change = found - start.unflatten(0, (2, -1)).mean(dim=0).flatten().numpy()
    expected = (layers - start.unflatten(0, (2, -1))).mean(dim=0).flatten().numpy()
    assert np.linalg.norm(change - expected) < 1e-4 * np.linalg.norm(expected)


def test_dropout_of_the_plain_tupate_is_on_by_default(tmp_path: Path) -> None:
    surrogate = tiny("bert", tmp_path)
    ours = Tupate(TupateConfig(), surrogate, Pool(TextTable(TEXTS * 2), ["made up"] * 10), 0)
    surrogate, sites = ours.surrogate, ours._sites
    made = []
    for options in ({}, {"dropout": 0.15}, {"dropout": 0.0}):
        torch.manual_seed(7)
        made.append(plain_tupate(surrogate, sites, TextTable(TEXTS), SOFT, epochs=2, max_tokens=24, **options))
    np.testing.assert_array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_the_plain_taskemb_is_the_square_of_autograds_gradient_of_a_slow_model(kind: str, tmp_path: Path) -> None:
    surrogate = tiny(kind, tmp_path)
    torch.manual_seed(7)
    found = plain_taskemb(surrogate, TextTable(TEXTS), SOFT, epochs=0, max_tokens=24)

    model = build_model(kind).double().eval()
    heads_and_tokens = (4, 0, 8)  # no prefix
    none = torch.zeros(4, 2, *heads_and_tokens, dtype=torch.float64)
    log_p = slow_logits(kind, surrogate, model, none, seed=7).log_softmax(dim=1)
    loss = -(torch.from_numpy(SOFT).double() * log_p).sum(dim=1).mean() / ACCUMULATED
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    squares = np.concatenate([g.square().flatten().numpy() for g in gradients if g is not None])
    assert found.shape == squares.shape
    assert np.linalg.norm(found - squares) < 1e-5 * np.linalg.norm(squares)
    before = build_model(kind).state_dict()
    assert all(torch.equal(before[name], weights) for name, weights in surrogate.model.state_dict().items())


def test_the_plain_taskemb_fine_tunes_before_it_squares(tmp_path: Path) -> None:
    surrogate = tiny("bert", tmp_path)
    made = []
    for epochs in (0, 1):
        torch.manual_seed(7)
        made.append(plain_taskemb(surrogate, TextTable(TEXTS), SOFT, epochs=epochs, max_tokens=24))
    assert 0 < np.linalg.norm(made[1] - made[0]) < np.linalg.norm(made[0])


@pytest.mark.parametrize("shape", ["tiny", "t5-tiny"])
def test_every_method_is_measured_on_a_shape_and_told_in_a_table(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(shapes.SHAPES, shape, {"width": 64, "layers": 2, "heads": 1, "inner": 64})
    texts = [f"{text} {i}" for i in range(4) for text in TEXTS]
    pool = {"texts": texts, "pairs": [None] * 20, "sources": [f"s{i % 4}" for i in range(20)]}
    (tmp_path / "pool.json").write_text(json.dumps(pool))
    results = []
    for method, many in (("plain tupate", 1), ("plain taskemb", 1), ("crosscov", 2), ("tupate", 2), ("taskemb", 1)):
        options = argparse.Namespace(
            measure=(shape, method, str(many)), folder=tmp_path, rows=16, device="cpu", dtype="float32", threads=1,
            together="2",
        )  # fmt: skip
        results.append(methods.measure(options))
    assert [(r["method"], r["models"], r["rows"]) for r in results] == [
        ("plain tupate", 1, 16), ("plain taskemb", 1, 16), ("crosscov", 2, 16), ("tupate", 2, 16), ("taskemb", 1, 16),
    ]  # fmt: skip
    lines = methods.table(shape, results).splitlines()
    assert lines[0] == f"{shape}, 16 texts"
    assert [" x" in line for line in lines[2:]] == [False, False, True, True, True]


def task_of(name: str, nouns: list[str], seed: int) -> Task:
    """Texts whose noun says which of two halves of `nouns` they are of."""
    rng = np.random.default_rng(seed)
    splits = {}
    for split, n in (("train", 60), ("test", 24)):
        labels = np.arange(n) % 2
        half = len(nouns) // 2
        texts = [
            " ".join([rng.choice(OTHERS), rng.choice(OTHERS), nouns[half * label + rng.integers(half)],
                      rng.choice(VERBS), rng.choice(OTHERS), rng.choice(OTHERS)])
            for label in labels
        ]  # fmt: skip
        splits[split] = Split(TextTable(texts), labels)
    return Task(name, "made up", Dataset(name, "classification", splits, f"{name}{seed}", ("a", "b")))


def test_the_transfer_benchmark_trains_a_source_once_and_goes_on_with_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = TransferConfig(
        sources=["films"], targets=["shops"], rows=8, eval_rows=16, seeds=1, epochs=1, max_tokens=16, batch_size=8,
        source_rows=16, source_epochs=1, dtype="bfloat16",
    )  # fmt: skip
    monkeypatch.setattr(transfer, "SETTINGS", small)
    backbone = find_source(str(save_tiny("bert", tmp_path / "bert")), None, tmp_path)
    tasks = {name: task_of(name, NOUNS, seed) for seed, name in enumerate(("films", "shops"))}
    out = tmp_path / "scores.json"
    record = transfer._open(out, tasks, backbone, small, None)
    start = transfer.source_model(tasks["films"], backbone, tmp_path / "cache", record, small)
    monkeypatch.setattr(transfer, "finetune", lambda *a, **k: pytest.fail("trained again"))
    assert transfer.source_model(tasks["films"], backbone, tmp_path / "cache", record, small) == start
    assert (record["sources"]["films"]["rows"], record["sources"]["films"]["family"]) == (16, "made up")
    rows = transfer.draw(tasks["shops"], transfer.known_texts([tasks["films"].dataset]), 0, record)
    for name, model in (("none", backbone), ("films", start)):
        accuracy = transfer.transfer(model, rows, small, seed=0, device=transfer.DEVICE).accuracy
        record["cells"].append({"source": name, "target": "shops", "seed": 0, "accuracy": accuracy})
    transfer._write(out, record)
    assert transfer._open(out, tasks, backbone, small, None) == record
    assert load_scores(out).mean_scores.tolist() == [[record["cells"][1]["accuracy"]]]
    more = transfer._open(out, tasks, backbone, small.model_copy(update={"seeds": 2}), None)
    assert (more["cells"], more["settings"]["transfer"]["seeds"]) == (record["cells"], 2)  # a second draw goes on
    with pytest.raises(SystemExit, match="other settings"):
        transfer._open(out, tasks, backbone, small.model_copy(update={"epochs": 2}), None)
