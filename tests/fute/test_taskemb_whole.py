"""taskemb from targets to vector, against explicit loops in float64: one text at a time, without padding or hooks."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fute.fingerprint import fingerprint
from fute.methods.heads import Head
from fute.methods.supervision import Supervision
from fute.methods.taskemb.embed import Taskemb, by_content
from fute.spans import pack_spans
from fute.types import Outputs, Pool

from .test_taskemb import dataset_of, folder, load, pool_of, probabilities, questions, taskemb

__all__ = ["folder"]  # the fixture

pytestmark = pytest.mark.slow


def slow_loss(kind: str, model: Any, head: Head, supervision: Supervision, row: int, settings: dict[str, Any]) -> Any:
    tokens, targets = supervision.tokens, supervision.targets
    ids = torch.tensor([list(tokens.ids[row])])
    inputs = {"input_ids": ids}
    if tokens.type_ids is not None:
        inputs["token_type_ids"] = torch.tensor([list(tokens.type_ids[row])])
    if kind == "t5":
        inputs["decoder_input_ids"] = torch.cat([torch.zeros(1, 1, dtype=torch.long), ids[:, :-1]], dim=1)
    states = model(**inputs).last_hidden_state[0]  # (tokens, width)
    weight, bias = head.weight.detach().double(), head.bias.detach().double()
    wanted = targets.values[row].astype(float)
    if targets.objective == "spans":
        assert targets.positions is not None
        assert tokens.context_offsets is not None
        null = len(states) - 1 if kind == "gpt2" else 0
        allowed = [at for at in range(len(states)) if tokens.context_offsets[row][at][0] >= 0 or at == null]
        loss = 0
        for share, ends in zip(wanted, targets.positions[row], strict=True):
            for side, at in enumerate(ends):
                logits = torch.stack([weight[side] @ states[i] + bias[side] for i in allowed])
                loss = loss - share * logits.log_softmax(dim=0)[allowed.index(int(at))] / 2 if share else loss
        return loss
    if settings.get("pooling") == "token":
        read = states[0] if kind == "bert" else states[-1]
    else:
        read = sum(states) / len(states)
    answers = weight @ read + bias
    if targets.objective == "numbers":
        return sum((answer - w) ** 2 for answer, w in zip(answers, wanted, strict=True)) / len(wanted)
    if settings.get("loss") == "binary_cross_entropy":
        said = answers.sigmoid()
        terms = [w * p.log() + (1 - w) * (1 - p).log() for w, p in zip(wanted, said, strict=True)]
        return -sum(terms) / len(wanted)
    return -sum(w * p.log() for w, p in zip(wanted, answers.softmax(dim=0), strict=True))


def fisher_rows(method: Taskemb, supervision: Supervision) -> list[int]:
    """A seeded sample, in order."""
    n = len(supervision)
    if method.config.fisher_rows is None:
        return list(range(n))
    drawn = np.random.default_rng(int(fingerprint(seed=0, use="fisher rows")[:15], 16)).permutation(n)
    return sorted(drawn[: method.config.fisher_rows].tolist())


def slow_vector(
    kind: str, method: Taskemb, head: Head, supervision: Supervision, settings: dict[str, Any]
) -> np.ndarray:
    model = copy.deepcopy(method._tuned.model).double().eval().requires_grad_(True)
    named = dict(model.named_parameters())
    rows = fisher_rows(method, supervision)
    estimator = settings.get("estimator", "per_example")
    size = {"per_example": 1, "batch": method.config.batch_size, "mean": len(rows)}[estimator]
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    squares: dict[str, Tensor] = {}
    for batch in batches:
        loss = sum(slow_loss(kind, model, head, supervision, row, settings) for row in batch) / len(batch)
        found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        for name, gradient in zip(named, found, strict=True):
            if gradient is not None:
                squares[name] = squares.get(name, torch.zeros_like(gradient)) + gradient**2 / len(batches)
    vector = np.zeros(method.config.dim)
    for name, square in squares.items():
        values = (square if settings.get("scale") == "raw" else square.sqrt()).flatten().numpy()
        if settings.get("balance"):
            values = values / max(np.sqrt(sum(v * v for v in values)), 1e-300)
        places, signs = method._projection.entries(name, np.arange(len(values), dtype=np.uint64))
        for place, sign in zip(places, signs, strict=True):  # four places of each number, half of it in each
            np.add.at(vector, place, sign * values / 2)
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
@pytest.mark.parametrize(
    ("what", "settings"),
    [
        ("classes", {}),
        ("classes", {"loss": "binary_cross_entropy", "pooling": "token", "scale": "raw", "estimator": "mean"}),
        ("classes", {"estimator": "batch", "fisher_rows": 10}),
        ("classes", {"fisher_rows": 5}),
        ("numbers", {}),
        ("spans", {}),
    ],
)
def test_the_vector_equals_one_row_at_a_time_in_float64(
    folder: Path, kind: str, what: str, settings: dict[str, Any]
) -> None:
    outputs, pool = probabilities(pool_of(12)), pool_of(12)
    if what == "numbers":
        lengths = np.array([len(text) for text in pool.inputs.texts], dtype=np.float32)
        outputs = Outputs("scores", np.stack([lengths, lengths**2], axis=1))
    if what == "spans":
        table, spans = questions(18)
        pool = Pool(table, ["made up"] * 18)
        none = np.full((18, 1), -1)  # two rows say first of all that there is no answer
        sure = np.array([[0.3, 0.7]] * 2 + [[0.8, 0.2]] * 16)
        outputs = Outputs("spans", pack_spans(np.hstack([spans[:, :1], none]), np.hstack([spans[:, 1:], none]), sure))
    method = taskemb(load(folder, kind), pool, **settings)
    vector = method.model(outputs).vector
    supervision = by_content(method._supervisor.model(outputs))
    head, _ = method._fine_tune(supervision, method.config.epochs_model)  # with one seed the same again
    off = np.linalg.norm(vector - slow_vector(kind, method, head, supervision, settings))
    assert off < 1e-5


def test_balanced_tensors_equal_one_row_at_a_time_in_float64(folder: Path) -> None:
    # Without the keys' biases, whose gradient is rounding only and would be brought to length one as well.
    method = taskemb(load(folder, "t5"), pool_of(12), balance=True)
    supervision = by_content(method._supervisor.dataset(dataset_of(n=12)))
    vector = method.dataset(dataset_of(n=12)).vector
    head, _ = method._fine_tune(supervision, method.config.epochs_dataset)
    off = np.linalg.norm(vector - slow_vector("t5", method, head, supervision, {"balance": True}))
    assert off < 1e-5
