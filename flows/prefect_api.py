"""Whether flow runs go to a Prefect server of the user's; Prefect is imported only where something may name one."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def reports_to_a_server() -> bool:
    """Whether there is one; else a flow starts a temporary server in this process."""
    if "prefect" not in sys.modules and not _may_name_one():
        return False
    from prefect.settings import PREFECT_API_URL

    return bool(PREFECT_API_URL.value())


def _may_name_one() -> bool:
    """Whether there is anything of what Prefect takes its API's address from: environment, profiles, settings files."""
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml").expanduser()
    return (
        bool({"PREFECT_API_URL", "PREFECT_PROFILE"} & os.environ.keys())
        or profiles.exists()
        or Path("prefect.toml").exists()
        or _holds(Path("pyproject.toml"), "[tool.prefect")
        or _holds(Path(".env"), "PREFECT_")
    )


def _holds(file: Path, text: str) -> bool:
    return file.is_file() and text in file.read_text(encoding="utf-8", errors="replace")
