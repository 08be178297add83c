"""Settings of the tupate method."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from fute.settings import TrainedMethodSettings

PAPER: dict[str, Any] = {
    "learning_rate_spans": 5e-3,
    "learning_rate_model": 1e-3,
    "epochs_dataset": 50,  # the paper names no bound; early stopping ends sooner
    "patience": 4,
    "epochs_llm": 3,
    "batch_size_model": 128,
    "max_rows": 100_000,  # about 1,000 inputs from each of about 100 sources: all of the pool
    "max_tokens": 128,
    "max_tokens_spans": 384,
    "max_tokens_llm": 496,  # 512 less the prefix
    "dropout": 0.15,
    "start": "own",
    "embedding": "raw",
    "loss": "binary_cross_entropy",
    "pooling": "token",
}
"""Where Wang et al. 2024 (arXiv 2402.14522) and their released code differ from the defaults below."""


class TupateConfig(TrainedMethodSettings):
    """A trained prefix of keys and values in every attention layer of the frozen surrogate (T5: of its decoder)."""

    method: Literal["tupate"] = "tupate"
    """Says which method this is."""
    takes_groups: ClassVar[bool] = True
    paper: ClassVar[dict[str, Any]] = PAPER
    preset: Literal["default", "paper"] = "default"
    """Fills the fields that are not given. default: what retrieves best here; paper: the paper's settings, with its
    own random start for each embedding, raw prefixes, binary cross-entropy and early stopping."""
    prefix_tokens: int = Field(default=16, ge=1, le=512)
    """Virtual tokens put before each attention layer's own keys and values."""
    learning_rate_dataset: float = Field(default=1e-2, gt=0)
    """Peak learning rate of AdamW on labelled rows (DTE)."""
    learning_rate_spans: float = Field(default=1e-2, gt=0)
    """The same where the labels are answer spans."""
    learning_rate_model: float = Field(default=1e-2, gt=0)
    """The same on a model's outputs (MTE)."""
    epochs_dataset: int = Field(default=2, ge=1)
    """Passes over a dataset's labelled rows (DTE), at most. More passes fit the labels better, but did not retrieve
    better."""
    patience: int | None = Field(default=None, ge=1)
    """DTE: stop after so many passes without a lower loss on held-out rows (the validation split, or a tenth of the
    training rows), and keep the best prefix. null: all passes, on all rows."""
    epochs_model: int = Field(default=1, ge=1)
    """Passes over the pool (MTE). Three retrieved a task's models no better than one."""
    epochs_llm: int | None = Field(default=None, ge=1)
    """Passes over the pool for a prompted LLM's outputs; null: epochs_model."""
    batch_size_dataset: int = Field(default=32, ge=1)
    """Rows of one optimiser step (DTE)."""
    batch_size_model: int = Field(default=32, ge=1)
    """Rows of one optimiser step (MTE)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the prefix during training."""
    warmup: float = Field(default=0.05, ge=0, le=1)
    """Share of the steps over which the learning rate rises linearly, before it falls linearly to zero. With patience
    the steps of all epochs_dataset passes count: where training stops is not known before."""
    start: Literal["shared", "own"] = "shared"
    """shared: all embeddings of a space start from one random prefix; own: each from a random prefix of its own, drawn
    by the subject's fingerprint. With own and embedding raw, a dataset whose classes are numbered otherwise, or whose
    rows are shuffled, gets an unrelated vector."""
    embedding: Literal["delta", "raw"] = "delta"
    """delta: trained minus initial prefix; raw: the trained prefix itself."""
    kernel: Literal["auto", "sdpa", "eager"] = "auto"
    """How attention is computed: fused, or written out. auto: what is faster on the device and in its precision.
    Changes no vector beyond float rounding."""
    checkpointing: bool = False
    """Compute each layer again in the backward pass instead of keeping its activations: less memory, more time.
    Changes no vector beyond float rounding."""
    models_at_once: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Models whose prefixes are trained in one pass over the same rows. auto: one on a CPU; on a GPU 32, and half as
    many whenever they do not fit. Changes no vector beyond float rounding."""
    keep_gib: float = Field(default=2.0, ge=0)
    """T5: memory in GiB for what the encoder makes of the pool, which is then computed once for all models; what the
    pool leaves of it serves a dataset's rows. Changes no vector beyond float rounding."""

    def identity(self, *, exclude: set[str] | None = None) -> dict[str, object]:
        """What can change a vector, with the preset's fields as it filled them."""
        no_vector = {"preset", "kernel", "checkpointing", "models_at_once", "keep_gib"}
        return super().identity(exclude=no_vector | (exclude or set()))

    def group_size(self, device_type: str) -> int:
        if isinstance(self.models_at_once, int):
            return self.models_at_once
        # On a CPU one pass over K models takes as long as K passes (measured with MiniLM at K = 2 and 4), and other
        # groups, as after a killed run, might change the last bits.
        return 1 if device_type == "cpu" else AUTO_GROUP


AUTO_GROUP = 32
