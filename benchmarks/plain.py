"""The released procedure as plainly as it can be written, to be compared with.

One model at a time; batches in the given order, each padded to its longest text and tokenised when it is needed; T5's
encoder run again for every batch; float32; micro-batches of 8, 16 of them accumulated for one step. The prefixes go in
by the same attention function as fute's, for that is not what is compared.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fute.methods.tupate.prefixed import initial_prefix
from fute.surrogate.load import Surrogate
from fute.surrogate.prefix_attention import AttentionSite, prefixes
from fute.types import Floats, TextTable

MICRO_BATCH, ACCUMULATED = 8, 16


def plain_tupate(
    surrogate: Surrogate,
    sites: list[AttentionSite],
    table: TextTable,
    targets: Floats,
    *,
    epochs: int,
    max_tokens: int,
    dropout: float = 0.15,
) -> Floats:
    """A prefix trained on a model's probabilities, (numbers of the vector,)."""
    prefix = initial_prefix(sites, 16, 0).to(surrogate.device).requires_grad_()
    head = nn.Linear(surrogate.width, targets.shape[1]).to(surrogate.device)
    optimizer = torch.optim.AdamW([prefix, *head.parameters()], lr=1e-3)
    for _ in range(epochs):
        for number, start in enumerate(range(0, len(table), MICRO_BATCH)):
            batch, wanted = _micro_batch(surrogate, table, targets, start, max_tokens)
            dropped = F.dropout(prefix, dropout)
            with prefixes({site.module: (dropped[i, 0], dropped[i, 1]) for i, site in enumerate(sites)}):
                loss = F.binary_cross_entropy_with_logits(head(_one_state(surrogate, surrogate.model, batch)), wanted)
            (loss / ACCUMULATED).backward()
            if (number + 1) % ACCUMULATED == 0 or start + MICRO_BATCH >= len(table):
                optimizer.step()
                optimizer.zero_grad()
    sites_per_layer = 2 if surrogate.family == "t5" else 1  # self- and cross-attention in turn
    return prefix.detach().unflatten(0, (-1, sites_per_layer)).mean(dim=0).flatten().cpu().numpy()


def plain_taskemb(surrogate: Surrogate, table: TextTable, targets: Floats, *, epochs: int, max_tokens: int) -> Floats:
    """Fine-tuning, then the square of the mean gradient of all parameters, (parameters,)."""
    model = copy.deepcopy(surrogate.model).requires_grad_(True)
    head = nn.Linear(surrogate.width, targets.shape[1]).to(surrogate.device)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=2e-5)
    for epoch in range(epochs + 1):
        for number, start in enumerate(range(0, len(table), MICRO_BATCH)):
            batch, wanted = _micro_batch(surrogate, table, targets, start, max_tokens)
            log_p = head(_one_state(surrogate, model, batch)).log_softmax(dim=1)
            (-(wanted * log_p).sum(dim=1).mean() / ACCUMULATED).backward()
            last = epoch == epochs  # the pass over all data whose gradient is squared
            if not last and ((number + 1) % ACCUMULATED == 0 or start + MICRO_BATCH >= len(table)):
                optimizer.step()
                optimizer.zero_grad()
    return torch.cat([p.grad.square().flatten() for p in model.parameters() if p.grad is not None]).cpu().numpy()


def _micro_batch(
    surrogate: Surrogate, table: TextTable, targets: Floats, start: int, max_tokens: int
) -> tuple[dict[str, Tensor], Tensor]:
    rows = np.arange(start, min(start + MICRO_BATCH, len(table)))
    texts = table.take(rows).joined()
    batch = surrogate.tokenizer(texts, padding=True, truncation=True, max_length=max_tokens, return_tensors="pt")
    batch = {name: values.to(surrogate.device) for name, values in batch.items()}
    return batch, torch.from_numpy(targets[rows]).to(surrogate.device)


def _one_state(surrogate: Surrogate, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """(rows, width): BERT's first token, T5's last decoder token."""
    if surrogate.family != "t5":
        return model(**batch).last_hidden_state[:, 0]
    ids, mask = batch["input_ids"], batch["attention_mask"]
    states = model(input_ids=ids, attention_mask=mask, decoder_input_ids=model._shift_right(ids), use_cache=False)
    return states.last_hidden_state[torch.arange(len(ids)), mask.sum(dim=1) - 1]
