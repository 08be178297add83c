"""Set before anything imports Prefect or torch: no telemetry, no hub, a Prefect home of the tests' own, one thread."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # each has a server of its own, and none its parent's
    os.environ.pop("PREFECT_HOME", None)
os.environ.setdefault("PREFECT_HOME", tempfile.mkdtemp(prefix="fute-prefect-"))
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Of models so small, threads only wait for each other: two of them take three times the processor time of one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real public tasks, which exists where the project is developed."""
    folder = Path(os.environ.get("FUTE_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "data" / "MANIFEST.json").is_file():
        pytest.skip(f"the real tasks are not at {folder}; set FUTE_SHARED to the folder that holds data/MANIFEST.json")
    return folder
