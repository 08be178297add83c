"""Settings of the taskemb method."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from fute.settings import TrainedMethodSettings

Estimator = Literal["per_example", "batch", "mean"]

PAPER: dict[str, Any] = {
    "head_learning_rate": None,  # one optimiser for all
    "head_deviation": 0.02,
    "epochs_model": 3,
    "warmup": 0.0,
    "dropout": True,
    "max_rows": 100_000,
    "max_tokens": 128,
    "max_tokens_spans": 384,
    "max_tokens_llm": 496,  # as for tupate: 512 less a prefix
    "estimator": "mean",
    "scale": "raw",
    "balance": False,
    "loss": "binary_cross_entropy",
    "pooling": "token",
}
"""Where Vu et al. 2020 (arXiv 2005.00770) and Wang et al. 2024 (arXiv 2402.14522), with its released code, differ from
the defaults below."""


class TaskembConfig(TrainedMethodSettings):
    """Diagonal Fisher information of the whole surrogate after fine-tuning it on the task."""

    method: Literal["taskemb"] = "taskemb"
    """Says which method this is."""
    paper: ClassVar[dict[str, Any]] = PAPER
    preset: Literal["default", "paper"] = "default"
    """Fills the fields that are not given. default: what retrieves best here; paper: the papers' settings, with the
    released code's square of the mean gradient, dropout and binary cross-entropy."""
    learning_rate: float = Field(default=2e-5, gt=0)
    """Peak learning rate of AdamW for the surrogate's weights."""
    learning_rate_spans: float = Field(default=3e-5, gt=0)
    """The same where answer spans are learned."""
    head_learning_rate: float | None = Field(default=1e-3, gt=0)
    """Peak learning rate of the head, which is new and starts at zero: with the surrogate's own rate (null) it would
    hardly leave its start on a few hundred rows."""
    head_deviation: float = Field(default=0.0, ge=0)
    """Standard deviation of the head's random first weights; 0: all zero, so that the order of the classes cannot
    matter (with 0.02, swapping two classes left a cosine of 0.84 to 0.91 on tiny surrogates)."""
    epochs_dataset: int = Field(default=3, ge=1)
    """Passes over a dataset's labelled rows (DTE)."""
    epochs_model: int = Field(default=3, ge=1)
    """Passes over the pool (MTE)."""
    batch_size: int = Field(default=32, ge=1)
    """Rows of one optimiser step."""
    warmup: float = Field(default=0.05, ge=0, le=1)
    """Share of the steps over which the learning rates rise linearly, before they fall linearly to zero."""
    dropout: bool = False
    """Fine-tune with the surrogate's own dropout rates (seeded). One such training at a time in a process."""
    estimator: Estimator = "per_example"
    """per_example: the mean over rows of the squared gradient, which the Fisher information is; batch: the square of
    each batch's gradient (TaskEmb's own code); mean: the square of the mean gradient (FUTE's released code)."""
    fisher_rows: int | None = Field(default=None, ge=1)
    """Rows that the information is measured on, a seeded sample of those trained on; null: all of them."""
    fisher_batch_size: int = Field(default=32, ge=1)
    """Rows of one pass while it is measured; matters to nothing but memory and time (estimator batch takes
    batch_size)."""
    scale: Literal["raw", "sqrt"] = "sqrt"
    """raw: the information itself, three quarters of whose length can lie in one token-type vector; sqrt: its root,
    the root mean square gradient, which told tasks apart more clearly and is projected with less error."""
    balance: bool = False
    """Bring each tensor of parameters to unit length first, so that none outweighs the others."""
    dim: int = Field(default=4096, ge=64, le=32768, multiple_of=4)  # the projection's NONZEROS
    """Numbers of the vector, a multiple of 4: a sparse random projection of the information of all parameters. Cosines
    were off by 0.004 at 4,096 and by 0.011 at 1,024 (root mean square, MiniLM)."""

    def identity(self, *, exclude: set[str] | None = None) -> dict[str, object]:
        """What can change a vector, with the preset's fields as it filled them."""
        return super().identity(exclude={"preset", "fisher_batch_size"} | (exclude or set()))
