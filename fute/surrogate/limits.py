"""What a model and its tokenizer can do together, asked from the two and not from the file that describes them."""

from __future__ import annotations

from typing import Any


def longest_input(model: Any) -> int | None:
    """Tokens that a model reads at most; None where its positions have no end (T5's are relative)."""
    tables = [
        (module.num_embeddings, module.padding_idx)
        for name, module in model.named_modules()
        if hasattr(module, "num_embeddings") and "position" in name and "relative" not in name
    ]
    told = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if told is None:
        return min((rows for rows, _ in tables), default=None)
    # RoBERTa and its kin number positions from behind the padding's, whose row the table names.
    taken = [told - padding - 1 for rows, padding in tables if rows == told and padding is not None]
    return int(min((limit for limit in taken if limit > 0), default=told))


def fit_tokenizer(tokenizer: Any, model: Any) -> Any:
    """Make a tokenizer fit for batches of its model.

    It pads on the right, with a token that the model embeds and knows as padding: heads such as GPT-2's take the last
    token that is no padding, so their answers would otherwise depend on what else is in the batch. And it cuts at what
    the model reads, which many tokenizers' files do not tell.

    Raises:
        ValueError: it has neither a pad nor an end token that the model embeds.
    """
    embedded = int(model.get_input_embeddings().weight.shape[0])
    if not _embeds(tokenizer.pad_token_id, embedded):
        if not _embeds(tokenizer.eos_token_id, embedded):
            raise ValueError("its tokenizer has neither a pad nor an end token that the model knows; give it one")
        tokenizer.pad_token = tokenizer.eos_token  # any token will do, for padding is masked
    model.config.pad_token_id = tokenizer.pad_token_id
    tokenizer.padding_side = "right"
    if (limit := longest_input(model)) is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, limit)
    return tokenizer


def _embeds(token: int | None, embedded: int) -> bool:
    return token is not None and 0 <= token < embedded
