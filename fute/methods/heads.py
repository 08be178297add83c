"""The head, one linear layer that reads a surrogate's states: classes, numbers or an answer's span; and its loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fute.methods.targets import Objective, Targets, null_positions
from fute.surrogate.load import Family
from fute.surrogate.tokens import Tokens, mean_over_mask

Pooling = Literal["mean", "token"]
Loss = Literal["cross_entropy", "binary_cross_entropy"]


@dataclass(frozen=True, eq=False)
class Head:
    """A linear layer from hidden states to answers.

    Attributes:
        weight: (outputs, width) float32 (float64 over weights of float64).
        bias: (outputs,), of the same type.
    """

    weight: Tensor
    bias: Tensor

    @classmethod
    def zeros(cls, n_outputs: int, width: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Head:
        """A head to train. It starts at zero, so that the order of the classes cannot matter."""
        return cls(
            torch.zeros(n_outputs, width, device=device, dtype=dtype, requires_grad=True),
            torch.zeros(n_outputs, device=device, dtype=dtype, requires_grad=True),
        )

    @property
    def parameters(self) -> list[Tensor]:
        return [self.weight, self.bias]

    def __call__(self, states: Tensor) -> Tensor:
        """(..., width) -> (..., outputs), in the head's precision whatever the surrogate's."""
        return F.linear(states.to(self.weight.dtype), self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class TargetBatch:
    """The targets of some rows on the device, and what the head needs to know of their tokens.

    Attributes:
        values: (rows, c), or (rows, k) for spans, as in Targets.
        mask: (rows, length), 1 for tokens and 0 for padding.
        last: (rows,) position of the last token.
        positions: spans: (rows, k, 2).
        allowed: spans: (rows, length) bool, the tokens of the context and the null token.
    """

    objective: Objective
    values: Tensor
    mask: Tensor
    last: Tensor
    positions: Tensor | None = None
    allowed: Tensor | None = None


def target_batch(
    targets: Targets, tokens: Tokens, rows: NDArray[np.integer], mask: Tensor, family: Family
) -> TargetBatch:
    """Targets of some rows, for states padded to the length of `mask` (rows, length)."""
    positions = allowed = None
    if targets.positions is not None:
        assert tokens.context_offsets is not None
        inside = np.zeros(tuple(mask.shape), dtype=bool)
        for line, row in enumerate(rows):
            inside[line, : tokens.lengths[row]] = tokens.context_offsets[row][:, 0] >= 0
        inside[np.arange(len(rows)), null_positions(tokens, family)[rows]] = True
        allowed = torch.from_numpy(inside).to(mask.device)
        positions = torch.from_numpy(targets.positions[rows]).to(mask.device)
    return TargetBatch(
        objective=targets.objective,
        values=torch.from_numpy(targets.values[rows]).to(mask.device),
        mask=mask,
        last=torch.from_numpy(tokens.lengths[rows] - 1).to(mask.device),
        positions=positions,
        allowed=allowed,
    )


def pooled(states: Tensor, batch: TargetBatch, pooling: Pooling, family: Family) -> Tensor:
    """One vector for each input: states (rows, length, width) -> (rows, width).

    mean: over the tokens. token: BERT's first token; elsewhere the last, the only one that has seen all others.
    """
    if pooling == "mean":
        return mean_over_mask(states, batch.mask)
    at = torch.zeros_like(batch.last) if family == "bert" else batch.last
    return states[torch.arange(len(at), device=at.device), at]


def head_answers(head: Head, states: Tensor, batch: TargetBatch, pooling: Pooling, family: Family) -> Tensor:
    """What the head says: (rows, c); for spans (rows, length, 2), minus infinity where no answer can be."""
    if batch.objective != "spans":
        return head(pooled(states, batch, pooling, family))
    assert batch.allowed is not None
    return head(states).masked_fill(~batch.allowed.unsqueeze(-1), float("-inf"))


def row_losses(answers: Tensor, batch: TargetBatch, loss: Loss) -> Tensor:
    """The loss of each row, (rows,) float32.

    Classes: cross-entropy with the probabilities, or the mean over classes of the binary cross-entropy with them (the
    paper's). Numbers: squared error, mean over columns. Spans: cross-entropy of where the answer starts and of where it
    ends, halved, each over the context's tokens and the null token.
    """
    if batch.objective == "numbers":
        return (answers - batch.values).square().mean(dim=-1)
    if batch.objective == "classes":
        if loss == "binary_cross_entropy":
            return F.binary_cross_entropy_with_logits(answers, batch.values, reduction="none").mean(dim=-1)
        return -(batch.values * answers.log_softmax(dim=-1)).sum(dim=-1)
    assert batch.positions is not None
    at_candidates = answers.log_softmax(dim=1).gather(1, batch.positions)  # (rows, k, 2)
    weights = batch.values.unsqueeze(-1)  # (rows, k, 1)
    # A candidate of weight 0 may point at a token where no answer can be: 0 * -inf is not a number.
    return -torch.where(weights > 0, weights * at_candidates, 0.0).sum(dim=(1, 2)) / 2
