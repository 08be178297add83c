"""What one use of a parameter adds to its gradient, kept apart by row.

A layer's weight gradient is a sum over rows and tokens. Kept as its factors it can be squared row by row without ever
holding one gradient of the whole model for each row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

GRADIENT_NUMBERS = {"cpu": 1 << 16, "cuda": 1 << 26}
"""Numbers of row gradients that are made at once, if one row's are not more. A CPU squares one large gradient while it
is still in its cache: together with the product hardly slower than the summed gradient alone. A GPU wants many."""


@dataclass(frozen=True, eq=False)
class Products:
    """A matrix: the gradient of a row is left' right, a sum of outer products over its tokens.

    Attributes:
        left: (rows, tokens, a).
        right: (rows, tokens, b), for a parameter (a, b).
    """

    left: Tensor
    right: Tensor

    def joined(self, other: Products) -> Products:
        """Of two uses of one parameter: the tokens of one after those of the other."""
        return Products(torch.cat([self.left, other.left], dim=1), torch.cat([self.right, other.right], dim=1))

    def add_squares(self, total: Tensor) -> None:
        """Add each row's squared gradient to total, (a, b)."""
        # As autograd would: the product in the precision that the layer computed in, its square in the total's.
        precision = min(self.left.dtype, self.right.dtype, key=lambda dtype: dtype.itemsize)
        left, right = self.left.to(precision), self.right.to(precision)
        rows_at_once = GRADIENT_NUMBERS.get(total.device.type, 1 << 20) // total.numel()
        if rows_at_once < 2:
            gradient = torch.empty_like(total)
            for x, y in zip(left, right, strict=True):
                gradient.copy_(torch.mm(x.T, y))
                total.addcmul_(gradient, gradient)
            return
        for start in range(0, len(left), rows_at_once):
            rows = slice(start, start + rows_at_once)
            gradients = torch.bmm(left[rows].transpose(1, 2), right[rows]).to(total.dtype)  # (rows, a, b)
            total.add_(gradients.square_().sum(dim=0))


@dataclass(frozen=True, eq=False)
class Sums:
    """A small parameter: the gradient of each row itself, (rows, *parameter)."""

    gradients: Tensor

    def joined(self, other: Sums) -> Sums:
        return Sums(self.gradients + other.gradients)

    def add_squares(self, total: Tensor) -> None:
        total.add_(self.gradients.to(total.dtype).square().sum(dim=0))


@dataclass(frozen=True, eq=False)
class Lookups:
    """A table of which each row reads a few lines.

    Attributes:
        ids: (rows, tokens), which lines.
        gradients: (rows, tokens, width), of what was read.
        unused: a line that is never trained (padding_idx), or None.
    """

    ids: Tensor
    gradients: Tensor
    unused: int | None = None

    def joined(self, other: Lookups) -> Lookups:
        return Lookups(
            torch.cat([self.ids, other.ids], dim=1),
            torch.cat([self.gradients, other.gradients], dim=1),
            self.unused,
        )

    def add_squares(self, total: Tensor) -> None:
        """Add each row's squared gradient to total, (lines, width). A line that a row reads twice is summed first."""
        n_lines = len(total)
        rows = torch.arange(len(self.ids), device=self.ids.device).unsqueeze(1)
        ids, gradients = (self.ids + rows * n_lines).flatten(), self.gradients.flatten(0, 1).to(total.dtype)
        if self.unused is not None:
            used = self.ids.flatten() != self.unused
            ids, gradients = ids[used], gradients[used]
        lines, place = ids.unique(return_inverse=True)  # each (row, line) once
        sums = gradients.new_zeros(len(lines), gradients.shape[1]).index_add_(0, place, gradients)
        total.index_add_(0, lines % n_lines, sums.square_())


Contribution = Products | Sums | Lookups
