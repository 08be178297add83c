"""Set before anything imports Prefect or transformers: no telemetry, no hub, and a Prefect home of the tests' own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # each has a server of its own, and none its parent's
    os.environ.pop("PREFECT_HOME", None)
os.environ.setdefault("PREFECT_HOME", tempfile.mkdtemp(prefix="fute-prefect-"))
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real public tasks, which exists where the project is developed."""
    folder = Path(os.environ.get("FUTE_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "data" / "MANIFEST.json").is_file():
        pytest.skip(f"the real tasks are not at {folder}; set FUTE_SHARED to the folder that holds data/MANIFEST.json")
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For models so small that several threads only wait for each other."""
    import torch  # not above: it takes seconds, and most tests need none of it

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
