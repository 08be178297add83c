"""Token ids for sequence classifiers: each input encoded once, padded batch by batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fute import stopping
from fute.types import Floats, TextTable

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Encoded:
    """n encoded inputs, in the order of the table.

    Attributes:
        fields: for each input the model's arguments (input_ids, attention_mask, ...), not padded.
        lengths: (n,) int64, tokens of each input.
        n_truncated: inputs that were cut.
    """

    fields: list[dict[str, list[int]]]
    lengths: NDArray[np.int64]
    n_truncated: int


def encode(tokenizer: Any, table: TextTable, max_tokens: int) -> Encoded:
    """Encode a table; a pair as a pair, a single text alone; longer inputs are cut and counted.

    The tokenizer's own limit, at most its model's, counts as well. Not for two threads at once: a fast tokenizer keeps
    its truncation inside.
    """
    limit = min(max_tokens, tokenizer.model_max_length)
    pairs = table.pairs or [None] * len(table)
    fields: list[dict[str, list[int]]] = [{}] * len(table)
    n_truncated = 0
    for paired in (False, True):
        rows = [i for i, pair in enumerate(pairs) if (pair is not None) == paired]
        if not rows:
            continue
        texts = [table.texts[i] for i in rows]
        seconds = [pairs[i] for i in rows] if paired else None
        cut = tokenizer(texts, seconds, truncation=True, max_length=limit)
        for line, row in enumerate(rows):
            fields[row] = {name: list(values[line]) for name, values in cut.items()}
        if tokenizer.is_fast:
            n_truncated += sum(bool(encoding.overflowing) for encoding in cut.encodings)
        else:
            whole = tokenizer(texts, seconds)["input_ids"]
            n_truncated += sum(len(ids) > limit for ids in whole)
    lengths = np.array([len(row["input_ids"]) for row in fields], dtype=np.int64)
    return Encoded(fields, lengths, n_truncated)


def pad(tokenizer: Any, encoded: Encoded, rows: NDArray[np.integer], device: torch.device) -> dict[str, Tensor]:
    """The model's arguments for some rows, padded to the longest of them: tensors (rows, longest)."""
    stopping.check()  # here, where every batch that a model is trained on or asked about passes
    batch = tokenizer.pad([encoded.fields[row] for row in rows], return_tensors="pt")
    return {name: tensor.to(device) for name, tensor in batch.items()}


def logits_of(model: Any, tokenizer: Any, encoded: Encoded, batch_size: int, device: torch.device) -> Floats:
    """What a classifier says of all inputs, (n, classes) float32."""
    import torch

    logits = np.zeros((len(encoded.lengths), model.config.num_labels), np.float32)
    # Longest first: a batch that does not fit into memory shows at once.
    order = np.argsort(-encoded.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        with torch.inference_mode():
            logits[rows] = model(**pad(tokenizer, encoded, rows, device)).logits.float().cpu().numpy()
    return logits
