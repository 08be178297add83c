"""Where the services of `fute up` listen, and what they have in common."""

from __future__ import annotations

from dataclasses import dataclass

from fute.errors import FuteError

POOL = "fute"
"""Prefect's work pool of all runs."""


class ServiceError(FuteError, RuntimeError):
    """A service did not start, or ended by itself."""


@dataclass(frozen=True)
class Ports:
    prefect: int = 4200
    mlflow: int = 5000
    pages: int = 4201

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.prefect}/api"

    @property
    def pages_url(self) -> str:
        return f"http://127.0.0.1:{self.pages}"
