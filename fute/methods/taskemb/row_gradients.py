"""Squared gradients of single rows, from one forward and one backward pass over many rows.

Hooks read what goes into each layer and the gradient of what comes out of it; from these follows each row's gradient of
the layer's own weights (contributions.py). The weights themselves are frozen meanwhile, so that no summed gradient is
computed or kept beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.mt5.modeling_mt5 import MT5LayerNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm
from transformers.pytorch_utils import Conv1D

from fute.methods.taskemb.contributions import Contribution, Lookups, Products, Sums

Totals = dict[str, Tensor]
"""Parameter name -> sum over rows of the squared gradient, in the parameter's shape."""


def add_row_squares(
    model: nn.Module, losses: Callable[[], Tensor], n_rows: int, totals: Totals, names: Set[str] | None = None
) -> set[str]:
    """Add each row's squared gradient of its own loss to totals, for parameters that the hooks understand.

    Which these are, coverage.py finds out by comparison with autograd: a layer that mixes rows, or that uses its
    weights in a way of its own, gives wrong numbers here without an error.

    Args:
        losses: runs the model on n_rows rows and gives the loss of each, (n_rows,).
        totals: added to in place.
        names: the parameters wanted; default: all.

    Returns:
        The parameters that got something.
    """
    one_pass = _Pass(model, n_rows, totals, names)
    frozen = [p for p in model.parameters() if p.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        with one_pass.hooked(model):
            losses().sum().backward()
        one_pass.finish()
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
    return one_pass.done


class _Pass:
    """One forward and backward pass: how often each parameter was used, and what has come back for it so far."""

    def __init__(self, model: nn.Module, n_rows: int, totals: Totals, names: Set[str] | None) -> None:
        self.n_rows = n_rows
        self.totals = totals
        self.wanted = names
        self.done: set[str] = set()
        self.parameters = {id(p): (name, p) for name, p in model.named_parameters()}  # a shared one once
        self.uses: Counter[str] = Counter()
        self.waiting: dict[str, list[Contribution]] = {}
        self.buckets: Tensor | None = None

    @contextmanager
    def hooked(self, model: nn.Module) -> Iterator[None]:
        handles = []
        try:
            biases = {id(m.relative_attention_bias) for m in model.modules() if _has_relative_bias(m)}
            for module in model.modules():
                if _has_relative_bias(module):
                    handles.append(module.register_forward_pre_hook(self._relative_bias, with_kwargs=True))
                if id(module) in biases:
                    handles.append(module.register_forward_hook(self._remember_buckets))
                elif type(module) in _READERS:
                    handles.append(module.register_forward_hook(self._layer))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def finish(self) -> None:
        """Add what still waits: a parameter that has a further use of which the loss knows nothing."""
        for name in list(self.waiting):
            self._add(name)

    def _layer(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        x = args[0]
        used = [self.parameters[id(p)][0] for p in module.parameters(recurse=False) if id(p) in self.parameters]
        if self.wanted is not None and self.wanted.isdisjoint(used):
            return None
        shared = x.shape[0] == 1 and self.n_rows > 1  # positions: read once for all rows
        if x.shape[0] != self.n_rows and not shared:
            return None
        replaced = None
        if shared:
            x = x.expand(self.n_rows, *x.shape[1:])
            output = replaced = output.expand(self.n_rows, *output.shape[1:]).contiguous()
        if not output.requires_grad:  # nothing before it is trained; the graph begins here
            output = replaced = output.detach().requires_grad_()
        reader = _READERS[type(module)]
        self.uses.update(used)
        output.register_hook(partial(self._arrived, module, reader, x.detach()))
        return replaced

    def _arrived(self, module: nn.Module, reader: Reader, x: Tensor, gradient: Tensor) -> None:
        for key, contribution in reader(module, x, gradient).items():
            parameter = getattr(module, key)
            if parameter is not None:
                self._collect(self.parameters[id(parameter)][0], contribution)

    def _collect(self, name: str, contribution: Contribution) -> None:
        if self.wanted is not None and name not in self.wanted:
            return
        self.waiting.setdefault(name, []).append(contribution)
        if len(self.waiting[name]) == self.uses[name]:
            self._add(name)

    def _add(self, name: str) -> None:
        first, *others = self.waiting.pop(name)
        for other in others:
            if type(other) is not type(first):
                return  # a table that is also a matrix (tied output layer): coverage.py sees that it is missing
            first = first.joined(other)  # type: ignore[arg-type]
        if name not in self.totals:
            parameter = next(p for n, p in self.parameters.values() if n == name)
            self.totals[name] = torch.zeros_like(parameter, requires_grad=False)
        first.add_squares(self.totals[name])
        self.done.add(name)

    def _relative_bias(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """T5 computes the bias of its first layer once for all rows and hands it on to the others. Give it one for each
        row instead: the same numbers, but a gradient of its own."""
        if kwargs.get("position_bias") is not None or kwargs.get("past_key_values") is not None:
            return None
        hidden = args[0] if args else kwargs["hidden_states"]
        bias = module.compute_bias(hidden.shape[1], hidden.shape[1], device=hidden.device).detach()
        bias = bias.repeat(self.n_rows, 1, 1, 1).requires_grad_()  # (rows, heads, queries, keys)
        table, buckets = module.relative_attention_bias.weight, self.buckets
        assert buckets is not None
        name = self.parameters[id(table)][0]

        def arrived(gradient: Tensor) -> None:
            by_pair = gradient.permute(0, 2, 3, 1).flatten(1, 2)  # (rows, queries * keys, heads)
            sums = by_pair.new_zeros(self.n_rows, *table.shape).index_add_(1, buckets.flatten(), by_pair)
            self._collect(name, Sums(sums))

        self.uses[name] += 1
        bias.register_hook(arrived)
        return args, {**kwargs, "position_bias": bias}

    def _remember_buckets(self, _: nn.Module, args: tuple[Any, ...], __: Tensor) -> None:
        self.buckets = args[0]  # (queries, keys)


def _has_relative_bias(module: Any) -> bool:
    return bool(getattr(module, "has_relative_attention_bias", False)) and hasattr(module, "compute_bias")


Reader = Callable[[Any, Tensor, Tensor], dict[str, Contribution]]
"""(module, what went in, gradient of what came out) -> name of each parameter of the module -> its contribution."""


def _linear(_: nn.Linear, x: Tensor, gradient: Tensor) -> dict[str, Contribution]:
    x, gradient = _by_token(x), _by_token(gradient)
    return {"weight": Products(gradient, x), "bias": Sums(gradient.sum(dim=1))}


def _conv1d(_: Conv1D, x: Tensor, gradient: Tensor) -> dict[str, Contribution]:
    """GPT-2's layers: a linear layer whose weight lies the other way round."""
    x, gradient = _by_token(x), _by_token(gradient)
    return {"weight": Products(x, gradient), "bias": Sums(gradient.sum(dim=1))}


def _embedding(module: nn.Embedding, ids: Tensor, gradient: Tensor) -> dict[str, Contribution]:
    return {"weight": Lookups(ids.flatten(1), _by_token(gradient), module.padding_idx)}


def _layer_norm(module: nn.LayerNorm, x: Tensor, gradient: Tensor) -> dict[str, Contribution]:
    normed = F.layer_norm(x.to(gradient.dtype), module.normalized_shape, None, None, module.eps)
    return {"weight": Sums(_by_token(gradient * normed).sum(dim=1)), "bias": Sums(_by_token(gradient).sum(dim=1))}


def _rms_norm(module: Any, x: Tensor, gradient: Tensor) -> dict[str, Contribution]:
    epsilon = module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps
    normed = F.rms_norm(x.to(gradient.dtype), (x.shape[-1],), None, epsilon)
    return {"weight": Sums(_by_token(gradient * normed).sum(dim=1))}


def _by_token(x: Tensor) -> Tensor:
    """(rows, ..., width) -> (rows, tokens, width)."""
    return x.unsqueeze(1) if x.ndim == 2 else x.flatten(1, -2)


_READERS: dict[type[nn.Module], Reader] = {
    nn.Linear: _linear,
    Conv1D: _conv1d,
    nn.Embedding: _embedding,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _rms_norm,
    T5LayerNorm: _rms_norm,
    MT5LayerNorm: _rms_norm,
}
