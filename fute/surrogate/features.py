"""Features of texts: mean-pooled hidden states of the surrogate."""

from __future__ import annotations

import logging

import numpy as np
import torch

from fute.errors import SurrogateError
from fute.surrogate.load import Surrogate
from fute.surrogate.tokens import mean_over_mask, pad_batch, tokenise
from fute.types import Floats, TextTable

logger = logging.getLogger(__name__)


def compute_features(surrogate: Surrogate, table: TextTable) -> Floats:
    """Mean over the attention mask of the hidden states of the surrogate's chosen layer or layers.

    Inputs are read in batches sorted by length, so that little is padded, and put back into order. The values do not
    depend on batch size, padding or order beyond float rounding.

    Returns:
        (n, width) float32, one row for each input, in order; several layers stand side by side, each scaled to
        unit length so that all weigh alike.

    Raises:
        SurrogateError: an input has no token, or the surrogate gave NaN or infinity.
    """
    tokens = tokenise(surrogate, table)
    layers = chosen_layers(surrogate)
    n_layers = surrogate.model.config.num_hidden_layers
    features = np.empty((len(table), surrogate.width * len(layers)), dtype=np.float32)
    # Longest first: a batch that does not fit into memory shows at once.
    order = np.argsort(-tokens.lengths, kind="stable")
    for start in range(0, len(order), surrogate.config.batch_size):
        rows = order[start : start + surrogate.config.batch_size]
        batch = pad_batch(surrogate, tokens, rows)
        with torch.inference_mode(), surrogate.autocast():
            if layers == [n_layers]:
                states = [surrogate.model(**batch).last_hidden_state]  # (rows, length, width)
            else:
                hidden = surrogate.model(**batch, output_hidden_states=True).hidden_states
                states = [hidden[layer] for layer in layers]
            pooled = [mean_over_mask(s, batch["attention_mask"]) for s in states]
            if len(pooled) > 1:
                pooled = [torch.nn.functional.normalize(p, dim=1) for p in pooled]
            features[rows] = torch.cat(pooled, dim=1).cpu().numpy()
    if not np.isfinite(features).all():
        raise SurrogateError(f"{surrogate.config.model} gave NaN or infinity as a feature; try dtype float32")
    n_truncated = int(tokens.truncated.sum())
    if n_truncated:
        logger.info("%d of %d inputs were cut to %d tokens", n_truncated, len(table), surrogate.max_tokens)
    return features


def chosen_layers(surrogate: Surrogate) -> list[int]:
    """Numbers of the hidden states that are averaged: 0 the embeddings, 1 the first layer's."""
    n_layers = int(surrogate.model.config.num_hidden_layers)
    layer = surrogate.config.layer
    if layer == "upper_half":
        return list(range((n_layers + 1) // 2, n_layers + 1))
    return [layer % (n_layers + 1)]
