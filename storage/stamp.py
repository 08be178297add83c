"""What every record says about its making."""

from __future__ import annotations

import os
import subprocess
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
        git = ["git", "-C", str(folder)]
        try:
            commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        except OSError:  # no git here
            return _built_version()
        if commit.returncode == 0:
            changed = subprocess.run(
                [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False
            )
            return commit.stdout.strip() + ("+dirty" if changed.stdout.strip() else "")
    return _built_version()


def _built_version() -> str:
    """What an image without a checkout says of itself: the commit given to its build, else the package's version."""
    if commit := os.environ.get("FUTE_COMMIT", "").strip():
        return commit
    try:
        return version("fute")
    except PackageNotFoundError:
        return "unknown"
