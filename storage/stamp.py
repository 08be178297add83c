"""What every record says about its making."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pyarrow as pa


@dataclass(frozen=True)
class Stamp:
    """The MLflow run, the Prefect flow run, the code's commit and the time (UTC)."""

    run_id: str | None = None
    flow_run_id: str | None = None

    def columns(self, rows: int) -> dict[str, pa.Array]:
        """The stamp's columns for a table of so many rows."""
        return {
            "run_id": pa.array([self.run_id] * rows, pa.string()),
            "flow_run_id": pa.array([self.flow_run_id] * rows, pa.string()),
            "git_commit": pa.array([code_version()] * rows, pa.string()),
            "created_at": pa.array([datetime.now(UTC)] * rows, pa.timestamp("us", tz="UTC")),
        }


@cache
def code_version() -> str:
    """The commit of the checkout (with +dirty when files differ from it); without one FUTE_COMMIT, else the version."""
    folder = Path(__file__).resolve().parent.parent
    if (folder / ".git").exists():
        with suppress(OSError, subprocess.CalledProcessError):  # no git here, or no commit yet
            changed = _git(folder, "status", "--porcelain", "-uno")
            return _git(folder, "rev-parse", "HEAD") + ("+dirty" if changed else "")
    if commit := os.environ.get("FUTE_COMMIT", "").strip():  # an image without a checkout
        return commit
    try:
        return version("fute")
    except PackageNotFoundError:
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    # Without its optional lock: a run killed meanwhile would leave one, and nobody could commit.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()
