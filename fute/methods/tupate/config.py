"""Settings of the tupate method."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fute.settings import Settings


class TupateConfig(Settings):
    """A trained prefix of keys and values in every attention layer of the frozen surrogate."""

    method: Literal["tupate"] = "tupate"
    """Says which method this is."""
    prefix_tokens: int = Field(default=16, ge=1, le=512)
    """Virtual tokens put before each attention layer's own keys and values."""
    learning_rate: float = Field(default=1e-2, gt=0)
    """Peak learning rate of AdamW."""
    epochs_dataset: int = Field(default=2, ge=1)
    """Passes over a dataset's labelled rows (DTE). More passes fit the labels better, but did not retrieve better."""
    epochs_model: int = Field(default=1, ge=1)
    """Passes over the pool (MTE). Three retrieved a task's models no better than one."""
    batch_size: int = Field(default=32, ge=1)
    """Rows of one optimiser step."""
    max_rows: int = Field(default=1000, ge=2)
    """Rows used at most, a seeded sample. Far fewer (256) retrieved much worse."""
    max_tokens: int = Field(default=64, ge=4)
    """Longer inputs are cut to this, or to the surrogate's own max_tokens where that is less."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the prefix during training."""
    warmup: float = Field(default=0.05, ge=0, le=1)
    """Share of the steps over which the learning rate rises linearly, before it falls linearly to zero."""
    embedding: Literal["delta", "raw"] = "delta"
    """delta: trained minus initial prefix (one shared start); raw: the trained prefix itself."""
