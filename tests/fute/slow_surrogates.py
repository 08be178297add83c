"""GPT-2 and T5 on one text, written out head by head and token by token, with prefixes. For checks in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .tiny_surrogates import slow_bert

HEADS, HEAD_DIM = 4, 8


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score: Callable[[int, int, int, Tensor], Tensor | None],
    prefix: Any = None,
) -> Tensor:
    """(queries, width), (keys, width), (keys, width) -> (queries, width).

    Args:
        score: (head, query, key, dot product) -> score; None where the query may not look.
        prefix: (2, heads, prefix, head_dim); a dot product with its keys has position None.
    """
    rows = []
    for i in range(len(query)):
        heads = []
        for h in range(HEADS):
            part = slice(HEAD_DIM * h, HEAD_DIM * (h + 1))
            scores, values = [], []
            if prefix is not None:
                for k, v in zip(prefix[0, h], prefix[1, h], strict=True):
                    scores.append(score(h, i, -1, query[i, part] @ k))
                    values.append(v)
            for j in range(len(key)):
                scored = score(h, i, j, query[i, part] @ key[j, part])
                if scored is not None:
                    scores.append(scored)
                    values.append(value[j, part])
            weights = torch.stack(scores).softmax(0)
            heads.append(sum(w * v for w, v in zip(weights, values, strict=True)))
        rows.append(torch.cat(heads))
    return torch.stack(rows)


def slow_gpt2(model: Any, ids: list[int], prefix: Tensor) -> Tensor:
    """Prefix (layers, 2, heads, prefix, head_dim); tokens have the positions 0, 1, 2 ..."""

    def score(head: int, i: int, j: int, dot: Tensor) -> Tensor | None:
        return dot / math.sqrt(HEAD_DIM) if j <= i else None

    x = torch.stack([model.wte.weight[token] + model.wpe.weight[i] for i, token in enumerate(ids)])
    for number, block in enumerate(model.h):
        query, key, value = (block.ln_1(x) @ block.attn.c_attn.weight + block.attn.c_attn.bias).split(32, dim=1)
        seen = attend(query, key, value, score, prefix[number])
        x = x + seen @ block.attn.c_proj.weight + block.attn.c_proj.bias
        inner = block.ln_2(x) @ block.mlp.c_fc.weight + block.mlp.c_fc.bias
        inner = 0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        x = x + inner @ block.mlp.c_proj.weight + block.mlp.c_proj.bias
    return model.ln_f(x)


def slow_t5(model: Any, ids: list[int], prefix: Tensor) -> Tensor:
    """Prefix (2 x layers, 2, heads, prefix, head_dim): of the decoder, self-attention and cross-attention in turn."""
    encoder_bias = model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    decoder_bias = model.decoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight

    def either_way(head: int, i: int, j: int, dot: Tensor) -> Tensor:
        return dot + encoder_bias[(16 if j > i else 0) + _bucket(abs(j - i), 16), head]

    def backwards(head: int, i: int, j: int, dot: Tensor) -> Tensor | None:
        if j < 0:
            return dot  # the prefix has no position
        return dot + decoder_bias[_bucket(i - j, 32), head] if j <= i else None

    def anywhere(head: int, i: int, j: int, dot: Tensor) -> Tensor:
        return dot

    x = torch.stack([model.shared.weight[token] for token in ids])
    for block in model.encoder.block:
        x = x + _t5_attention(block.layer[0].SelfAttention, _rms(block.layer[0].layer_norm, x), None, either_way, None)
        x = x + _t5_inner(block.layer[1], x)
    encoded = _rms(model.encoder.final_layer_norm, x)
    x = torch.stack([model.shared.weight[token] for token in [model.config.pad_token_id, *ids[:-1]]])
    for number, block in enumerate(model.decoder.block):
        own, cross = prefix[2 * number], prefix[2 * number + 1]
        x = x + _t5_attention(block.layer[0].SelfAttention, _rms(block.layer[0].layer_norm, x), None, backwards, own)
        normed = _rms(block.layer[1].layer_norm, x)
        x = x + _t5_attention(block.layer[1].EncDecAttention, normed, encoded, anywhere, cross)
        x = x + _t5_inner(block.layer[2], x)
    return _rms(model.decoder.final_layer_norm, x)


def _t5_attention(layer: Any, x: Tensor, other: Tensor | None, score: Any, prefix: Tensor | None) -> Tensor:
    other = x if other is None else other
    seen = attend(x @ layer.q.weight.T, other @ layer.k.weight.T, other @ layer.v.weight.T, score, prefix)
    return seen @ layer.o.weight.T


def _t5_inner(layer: Any, x: Tensor) -> Tensor:
    inner = _rms(layer.layer_norm, x) @ layer.DenseReluDense.wi.weight.T
    return nn.functional.relu(inner) @ layer.DenseReluDense.wo.weight.T


def _rms(norm: Any, x: Tensor) -> Tensor:
    return torch.stack([row / torch.sqrt((row**2).mean() + norm.variance_epsilon) * norm.weight for row in x])


def _bucket(distance: int, n_buckets: int) -> int:
    """Near distances one by one, far ones in logarithmic steps up to 128."""
    near = n_buckets // 2
    if distance < near:
        return distance
    return min(n_buckets - 1, near + int(math.log(distance / near) / math.log(128 / near) * (n_buckets - near)))


SLOW: dict[str, Callable[[Any, list[int], Tensor], Tensor]] = {"bert": slow_bert, "gpt2": slow_gpt2, "t5": slow_t5}
