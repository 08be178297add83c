"""Settings of the outputs method."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from fute.settings import MethodSettings


class OutputsConfig(MethodSettings):
    """No surrogate and no training: how alike two models answer the same rows, whatever the rows are."""

    needs_surrogate: ClassVar[bool] = False
    takes_datasets: ClassVar[bool] = False

    method: Literal["outputs"] = "outputs"
    """Says which method this is."""
    dim: int = Field(default=131_072, ge=1024, le=2**22)
    """Numbers of a vector at most. Pools with more pairs of rows are sketched: a similarity is then off by about
    1 / sqrt(dim), 0.003."""
    ridge: float = Field(default=1e-3, gt=0, le=1)
    """Added to each variance before whitening, as a share of the largest one."""
