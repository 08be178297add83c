"""Prefixes and heads over one frozen surrogate: where they start, and what they say of some inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fute.methods.heads import Head, Pooling, TargetBatch, head_answers, target_batch
from fute.methods.supervision import Supervision
from fute.methods.targets import Targets
from fute.surrogate.prefix_attention import AttentionSite, prefixes
from fute.surrogate.reader import Reader
from fute.surrogate.states import token_states


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """n inputs that are read in batches.

    Attributes:
        supervision: the inputs, with the targets of the first model.
        reader: reads them; it may know more rows than these.
        at: (n,) which rows of the reader they are.
    """

    supervision: Supervision
    reader: Reader
    at: NDArray[np.intp]


def initial_prefix(sites: Sequence[AttentionSite], prefix_tokens: int, seed: int) -> Tensor:
    """A start: Xavier uniform, as by Zhou et al. 2022.

    Returns:
        (sites, 2, heads, prefix_tokens, head_dim) float32.
    """
    heads, head_dim = sites[0].heads, sites[0].head_dim
    generator = torch.Generator().manual_seed(seed)
    # One matrix (prefix_tokens, heads * head_dim) for the keys and one for the values of each layer.
    flat = torch.empty(len(sites), 2, prefix_tokens, heads * head_dim)
    for matrix in flat.flatten(0, 1):
        nn.init.xavier_uniform_(matrix, generator=generator)
    return flat.view(len(sites), 2, prefix_tokens, heads, head_dim).transpose(2, 3).contiguous()


class PrefixedModels:
    """K prefixes and K heads over one frozen surrogate, all shown the same inputs."""

    def __init__(
        self,
        sites: Sequence[AttentionSite],
        starts: Tensor,
        targets: Sequence[Targets],
        pooling: Pooling,
        reader: Reader,
    ) -> None:
        """
        Args:
            starts: (K, sites, 2, heads, prefix_tokens, head_dim), left unchanged.
            targets: K times what to say of the same inputs.
        """
        self.surrogate = reader.surrogate
        self.sites = sites
        self.pooling = pooling
        device = self.surrogate.device
        self.prefix = starts.to(device, copy=True).requires_grad_()
        self.heads = [Head.zeros(t.n_outputs, self.surrogate.width, device, starts.dtype) for t in targets]

    @property
    def parameters(self) -> list[Tensor]:
        return [self.prefix, *(p for head in self.heads for p in head.parameters)]

    def answers(
        self, rows: TrainingRows, batch: NDArray[np.intp], targets: Sequence[Targets], prefix: Tensor
    ) -> list[tuple[Tensor, TargetBatch]]:
        """What each head says of some rows, and what it should say.

        Args:
            prefix: (K, sites, 2, heads, prefix_tokens, head_dim), self.prefix or what dropout left of it.
        """
        family, copies = self.surrogate.family, len(prefix)
        reading = rows.reader.read(rows.at[batch])
        by_module = {site.module: (prefix[:, i, 0], prefix[:, i, 1]) for i, site in enumerate(self.sites)}
        with prefixes(by_module):
            states = token_states(self.surrogate, reading.batch, cross=reading.cross, copies=copies)
        found = []
        for head, target, own in zip(self.heads, targets, states.chunk(copies), strict=True):
            wanted = target_batch(target, rows.supervision.tokens, batch, reading.mask, family)
            found.append((head_answers(head, own, wanted, self.pooling, family), wanted))
        return found
