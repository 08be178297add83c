from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fute.config import SurrogateConfig
from fute.errors import MethodError
from fute.methods.taskemb.config import Estimator
from fute.methods.taskemb.coverage import Coverage, find_coverage
from fute.methods.taskemb.fisher import fisher_information
from fute.surrogate.load import Surrogate, load_surrogate
from fute.surrogate.states import token_states
from fute.surrogate.tokens import pad_batch, tokenise
from fute.types import TextTable

from .tiny_surrogates import save_tiny

TEXTS = [
    "the cat sat",
    "a big red dog ran",
    "bird",
    "fish swam under the old log and the cat",
    "blue mat on",
    "the the a",
]
ROWS = np.arange(len(TEXTS))
WANTED = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9], [1.0, 0.0], [0.5, 0.5]])


class Task:
    """A tiny surrogate in float64 with a fixed head and soft labels."""

    def __init__(self, kind: str, folder: Path) -> None:
        save_tiny(kind, folder / kind)
        config = SurrogateConfig(model=kind, max_tokens=24, device="cpu")
        self.surrogate: Surrogate = load_surrogate(config, folder, whole=True)
        self.model: Any = self.surrogate.model.double()
        self.tokens = tokenise(self.surrogate, TextTable(TEXTS))
        self.head = torch.randn(2, 32, generator=torch.Generator().manual_seed(3)).double()

    def losses_of(self, rows: NDArray[np.intp]) -> Tensor:
        batch = pad_batch(self.surrogate, self.tokens, rows)
        mask = batch["attention_mask"].double().unsqueeze(-1)
        states = token_states(self.surrogate, batch)
        means = (states * mask).sum(dim=1) / mask.sum(dim=1)
        return -(torch.from_numpy(WANTED[rows]) * (means @ self.head.T).log_softmax(dim=1)).sum(dim=1)

    def gradients(self, row: int) -> dict[str, Tensor]:
        """One text alone, without padding, by autograd."""
        self.model.requires_grad_(True)
        ids = torch.tensor([list(self.tokens.ids[row])])
        inputs = {"input_ids": ids}
        if self.surrogate.family == "t5":
            inputs["decoder_input_ids"] = torch.cat([torch.zeros(1, 1, dtype=torch.long), ids[:, :-1]], dim=1)
        states = self.model(**inputs).last_hidden_state[0]
        answers = (self.head @ states.mean(dim=0)).log_softmax(dim=0)
        loss = -sum(float(w) * a for w, a in zip(WANTED[row], answers, strict=True))
        named = dict(self.model.named_parameters())
        gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        self.model.requires_grad_(False)
        return {name: g for name, g in zip(named, gradients, strict=True) if g is not None}


def in_batches(size: int, rows: NDArray[np.intp] = ROWS) -> list[NDArray[np.intp]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def assert_same(measured: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert set(measured) == set(expected)
    largest = max(float(torch.linalg.vector_norm(v)) for v in expected.values())
    for name, value in expected.items():
        off = float(torch.linalg.vector_norm(measured[name] - value))
        # Keys' biases have no gradient but rounding.
        assert off <= tolerance * float(torch.linalg.vector_norm(value)) + 1e-20 * largest, name


KINDS = ["bert", "gpt2", "t5", "roberta", "distilbert", "modernbert", "mpnet"]


@pytest.mark.parametrize("kind", KINDS)
def test_per_example_information_equals_one_row_at_a_time_in_float64(kind: str, tmp_path: Path) -> None:
    task = Task(kind, tmp_path)
    coverage = find_coverage(task.model, task.losses_of, ROWS[:4])
    rows = [task.gradients(row) for row in range(len(TEXTS))]
    expected = {name: sum(r[name] ** 2 for r in rows) / len(rows) for name in rows[0]}
    measured = fisher_information(task.model, coverage, task.losses_of, in_batches(4), "per_example")
    assert_same(measured, expected, 1e-5)
    # Nothing is silently left to the slow path, either: only MPNet's relative positions need it.
    assert coverage.one_by_one == (("encoder.relative_attention_bias.weight",) if kind == "mpnet" else ())
    assert set(coverage.unused) <= {"pooler.dense.weight", "pooler.dense.bias"}


def test_t5s_shared_table_is_counted_once_and_its_relative_positions_row_by_row(tmp_path: Path) -> None:
    task = Task("t5", tmp_path)
    used = find_coverage(task.model, task.losses_of, ROWS[:4]).hooked
    assert [name for name in used if "shared" in name or "embed_tokens" in name] == ["shared.weight"]
    assert sum("relative_attention_bias" in name for name in used) == 2  # the encoder's and the decoder's


@pytest.mark.parametrize("estimator", ["batch", "mean"])
def test_other_estimators_equal_their_definition(estimator: Estimator, tmp_path: Path) -> None:
    task = Task("bert", tmp_path)
    coverage = find_coverage(task.model, task.losses_of, ROWS[:4])
    rows = [task.gradients(row) for row in range(len(TEXTS))]
    batches = in_batches(4) if estimator == "batch" else [ROWS]
    expected = {
        name: sum((sum(rows[i][name] for i in batch) / len(batch)) ** 2 for batch in batches) / len(batches)
        for name in rows[0]
    }
    measured = fisher_information(task.model, coverage, task.losses_of, in_batches(4), estimator)
    assert_same(measured, expected, 1e-5)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
def test_batches_padding_and_order_of_rows_do_not_matter(kind: str, tmp_path: Path) -> None:
    task = Task(kind, tmp_path)
    coverage = find_coverage(task.model, task.losses_of, ROWS[:4])
    shuffled = np.array([3, 0, 5, 1, 4, 2])

    def measure(batches: Sequence[NDArray[np.intp]]) -> dict[str, Tensor]:
        return fisher_information(task.model, coverage, task.losses_of, batches, "per_example")

    first = measure([ROWS])
    assert_same(measure(in_batches(1)), first, 1e-10)
    assert_same(measure(in_batches(4, shuffled)), first, 1e-10)


def test_measuring_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    task = Task("t5", tmp_path)
    before = copy.deepcopy(task.model.state_dict())
    coverage = find_coverage(task.model, task.losses_of, ROWS[:4])
    fisher_information(task.model, coverage, task.losses_of, in_batches(4), "per_example")
    assert all(torch.equal(before[name], value) for name, value in task.model.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in task.model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in task.model.modules())


IDS = torch.tensor([[1, 2, 2, 3, 0], [4, 0, 1, 2, 1], [3, 3, 1, 0, 0]])


class TwiceUsed(nn.Module):
    """One layer called twice, one weight in two layers, and a table with a line that is never trained."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4, padding_idx=0)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.norm = nn.RMSNorm(4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.norm(self.second(self.first(self.first(self.table(ids)).tanh()).tanh()))


class TiedOutput(TwiceUsed):
    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids) @ self.table.weight.T


class MixedRows(TwiceUsed):
    """A layer that sees rows and tokens as one axis, and a weight that is used without a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.flat = nn.Linear(4, 4)

    def forward(self, ids: Tensor) -> Tensor:
        states = super().forward(ids) * self.scale
        return self.flat(states.flatten(0, 1)).view_as(states)


@pytest.mark.parametrize(
    ("build", "slow"),
    [(TwiceUsed, ()), (TiedOutput, ("table.weight",)), (MixedRows, ("scale", "flat.weight", "flat.bias"))],
)
def test_what_hooks_cannot_tell_apart_is_found_out_and_still_right(
    build: Callable[[], nn.Module], slow: tuple[str, ...]
) -> None:
    torch.manual_seed(0)
    model = build().double()

    def losses_of(rows: NDArray[np.intp]) -> Tensor:
        return model(IDS[torch.from_numpy(rows)]).square().flatten(1).cumsum(dim=1).sin().sum(dim=1)

    coverage = find_coverage(model, losses_of, np.arange(3))
    assert set(coverage.one_by_one) == set(slow)
    expected: dict[str, Tensor] = {}
    for row in range(3):
        loss = losses_of(np.array([row])).sum()
        for name, g in zip(coverage.used, torch.autograd.grad(
            loss, [dict(model.named_parameters())[n] for n in coverage.used]), strict=True):  # fmt: skip
            expected[name] = expected.get(name, torch.zeros_like(g)) + g**2 / 3
    assert_same(fisher_information(model, coverage, losses_of, [np.arange(3)], "per_example"), expected, 1e-10)


def test_a_parameter_that_gets_no_gradient_is_an_error_not_a_zero(tmp_path: Path) -> None:
    task = Task("bert", tmp_path)
    found = find_coverage(task.model, task.losses_of, ROWS[:4])
    believed = Coverage((*found.hooked, *found.unused), (), ())
    with pytest.raises(MethodError, match=r"2 parameters got no gradient, pooler\.dense\.weight for one"):
        fisher_information(task.model, believed, task.losses_of, [ROWS], "per_example")


def test_information_of_nothing_is_an_error(tmp_path: Path) -> None:
    task = Task("bert", tmp_path)
    coverage = find_coverage(task.model, task.losses_of, ROWS[:4])
    task.head.zero_()
    with pytest.raises(MethodError, match="zero: training left the head as it was"):
        fisher_information(task.model, coverage, task.losses_of, [ROWS], "per_example")
    task.head.fill_(float("nan"))
    with pytest.raises(MethodError, match="NaN or infinity; lower the learning rate"):
        fisher_information(task.model, coverage, task.losses_of, [ROWS], "per_example")
    with pytest.raises(MethodError, match="gradients are not numbers"):
        find_coverage(task.model, task.losses_of, ROWS[:4])
