"""Settings of the crosscov method."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fute.settings import MethodSettings


class CrosscovConfig(MethodSettings):
    """Closed form, no training: the cross-covariance of surrogate features and outputs."""

    method: Literal["crosscov"] = "crosscov"
    """Says which method this is."""
    components: int = Field(default=384, ge=2, le=4096)
    """Leading principal components of the pool's features that are kept."""
    ridge: float = Field(default=1e-3, gt=0, le=1)
    """Added to each eigenvalue before whitening, as a share of the largest one."""
    bootstrap: int = Field(default=100, ge=0, le=10_000)
    """Resamples of the rows for the confidence interval of a similarity; 0: none. Changes no vector."""

    @property
    def resamples(self) -> int:
        return self.bootstrap
