"""Heads and their losses, against formulas written out row by row."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fute.errors import MethodError
from fute.methods.heads import Head, TargetBatch, head_answers, pooled, row_losses, target_batch
from fute.methods.supervision import Supervisor
from fute.methods.targets import Targets, label_targets, output_targets
from fute.settings import TrainedMethodSettings
from fute.surrogate.load import Family
from fute.surrogate.tokens import pad_batch, tokenise
from fute.types import Outputs, Pool, TextTable

from .test_tupate import dataset_of, pool_of, probabilities
from .tiny_surrogates import load_tiny

SETTINGS = TrainedMethodSettings(max_rows=25, max_tokens=12, max_tokens_spans=20)

MASK = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]])
STATES = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))


def batch_of(values: list[list[float]], objective: str = "classes") -> TargetBatch:
    return TargetBatch(objective, torch.tensor(values), MASK, MASK.sum(dim=1) - 1)  # type: ignore[arg-type]


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(x) for x in row]
    return [p / sum(powers) for p in powers]


def test_a_head_starts_at_zero_and_is_linear() -> None:
    head = Head.zeros(3, 5, torch.device("cpu"))
    assert not head(STATES).any()
    head = Head(torch.arange(10.0).view(2, 5), torch.tensor([1.0, -1.0]))
    for row in range(3):
        expected = [float(head.weight[i] @ STATES[row, 0] + head.bias[i]) for i in range(2)]
        assert head(STATES)[row, 0].tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_pooling_reads_no_padding(family: Family) -> None:
    batch = batch_of([[1.0, 0.0]] * 3)
    lengths = [3, 1, 4]
    for row, length in enumerate(lengths):
        mean = STATES[row, :length].mean(dim=0)
        torch.testing.assert_close(pooled(STATES, batch, "mean", family)[row], mean)
        token = STATES[row, 0 if family == "bert" else length - 1]
        torch.testing.assert_close(pooled(STATES, batch, "token", family)[row], token)


def test_losses_equal_their_formulas() -> None:
    answers = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 3.0], [-1.0, 1.0, 1.0]])
    values = [[0.2, 0.3, 0.5], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    batch = batch_of(values)
    cross, binary = (row_losses(answers, batch, loss) for loss in ("cross_entropy", "binary_cross_entropy"))
    squared = row_losses(answers, batch_of(values, "numbers"), "cross_entropy")
    for row, (said, wanted) in enumerate(zip(answers.tolist(), values, strict=True)):
        probabilities_said = softmax(said)
        slow = -sum(w * math.log(p) for w, p in zip(wanted, probabilities_said, strict=True))
        assert float(cross[row]) == pytest.approx(slow, rel=1e-5)
        sigmoids = [1 / (1 + math.exp(-x)) for x in said]
        slow = -sum(w * math.log(s) + (1 - w) * math.log(1 - s) for w, s in zip(wanted, sigmoids, strict=True)) / 3
        assert float(binary[row]) == pytest.approx(slow, rel=1e-5)
        assert float(squared[row]) == pytest.approx(
            sum((x - w) ** 2 for x, w in zip(said, wanted, strict=True)) / 3, rel=1e-5
        )


def test_a_head_answers_in_float32_whatever_the_surrogates_precision() -> None:
    head = Head(torch.ones(2, 5), torch.zeros(2))
    answers = head_answers(head, STATES.to(torch.bfloat16), batch_of([[1.0, 0.0]] * 3), "mean", "bert")
    assert answers.dtype == torch.float32


def test_targets_of_some_rows_follow_the_order_of_the_rows(tmp_path: Path) -> None:
    surrogate = load_tiny("bert", tmp_path)
    tokens = tokenise(surrogate, TextTable(["the cat sat", "dog", "a big red bird"]))
    values = np.eye(3, dtype=np.float32)
    rows = np.array([2, 0])
    mask: Tensor = pad_batch(surrogate, tokens, rows)["attention_mask"]
    batch = target_batch(Targets("classes", values), tokens, rows, mask, "bert")
    assert batch.values.tolist() == values[rows].tolist()
    assert batch.last.tolist() == [5, 4]


def test_labels_become_one_hot_rows_and_numbers_are_standardised() -> None:
    dataset = dataset_of(n=20, label_names=("no", "yes", "never seen"))
    targets = label_targets(dataset, np.arange(20))
    assert targets.objective == "classes"
    assert targets.n_outputs == 3
    assert targets.values.argmax(axis=1).tolist() == dataset.train.targets.tolist()
    numbers = output_targets(Outputs("scores", np.array([[1, 5], [2, 5], [6, 5]], dtype=np.float32)), np.arange(3))
    assert numbers.n_outputs == 1  # the constant column says nothing
    assert numbers.values.mean() == pytest.approx(0, abs=1e-6)
    assert numbers.values.std() == pytest.approx(1, abs=1e-6)


def test_probabilities_with_rounding_errors_sum_to_one() -> None:
    values = np.array([[-1e-8, 1.0], [0.3, 0.7004]], dtype=np.float32)
    targets = output_targets(Outputs("probabilities", values), np.arange(2))
    assert (targets.values >= 0).all()
    np.testing.assert_allclose(targets.values.sum(axis=1), 1, atol=1e-6)


def test_supervision_says_what_was_left_out_and_where_its_rows_are(tmp_path: Path) -> None:
    pool = pool_of(40)
    surrogate = load_tiny("bert", tmp_path)
    supervisor = Supervisor(surrogate, pool, SETTINGS, 0)
    answered = np.arange(40) % 4 != 0
    outputs = Outputs("probabilities", probabilities(pool).values, answered=answered)
    supervision = supervisor.model(outputs)
    assert supervision.counts == {"rows_not_answered": 10}
    assert supervision.pool_rows is not None
    assert len(supervision) == 25
    assert answered[supervisor.pool_order[supervision.pool_rows]].all()
    for i, row in enumerate(supervision.pool_rows):
        assert list(supervision.tokens.ids[i]) == list(supervisor.pool_tokens().ids[row])
    part = supervision.take(np.array([3, 1]))
    assert part.pool_rows is not None
    assert part.pool_rows.tolist() == supervision.pool_rows[[3, 1]].tolist()


@pytest.mark.parametrize("n", [0, 1])
def test_pools_of_no_row_or_one_are_refused(tmp_path: Path, n: int) -> None:
    surrogate = load_tiny("bert", tmp_path)
    pool = Pool(TextTable(["the cat"] * n), ["x"] * n)
    supervisor = Supervisor(surrogate, pool, SETTINGS, 0)
    with pytest.raises(ValueError, match=f"only {n} of {n} inputs were answered"):
        supervisor.model(Outputs("probabilities", np.full((n, 2), 0.5, dtype=np.float32)))


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("task", ["classification", "regression", "span_qa"])
def test_datasets_of_no_row_or_one_are_refused(tmp_path: Path, n: int, task: str) -> None:
    surrogate = load_tiny("bert", tmp_path)
    supervisor = Supervisor(surrogate, pool_of(), SETTINGS, 0)
    whole = dataset_of(n=4, task=task)
    inputs = TextTable(whole.train.inputs.texts[:n], ["the cat"] * n)
    targets = np.array([[0, 3]] * n, dtype=np.int64).reshape(n, 2) if task == "span_qa" else whole.train.targets[:n]
    small = dataset_of(task=task, splits={"train": type(whole.train)(inputs, targets)})
    with pytest.raises(MethodError, match=f"{n} rows"):
        supervisor.dataset(small)
