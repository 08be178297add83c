"""Prefect's temporary server, given time to start and tied to the process that started it.

As Prefect starts it, it outlives a killed run for ever (230 MB each), and Ctrl-C in a terminal ends it at once, before
the run that still reports to it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import prefect
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import get_current_settings

PATIENCE_S = 180
_PREFECTS_START = SubprocessASGIServer.start
TETHERED = Path(__file__).with_name("tethered.py")


def tie_to_this_process() -> None:
    """From now on a temporary server ends with the process that starts it, and hears no Ctrl-C of its terminal."""
    SubprocessASGIServer._run_uvicorn_command = _start  # type: ignore[method-assign]
    SubprocessASGIServer.start = _start_in_time  # type: ignore[method-assign]


def _start_in_time(self: SubprocessASGIServer, timeout: int | None = None) -> None:
    """Wait as long as the user says, else longer than Prefect's 20 s: the first start on a machine took 27 s."""
    said = "startup_timeout_seconds" in get_current_settings().server.ephemeral.model_fields_set
    _PREFECTS_START(self, timeout if timeout is not None or said else PATIENCE_S)


def _start(self: SubprocessASGIServer) -> subprocess.Popen[Any]:
    """The command and settings of Prefect 3.8 (prefect/server/api/server.py), behind our tether."""
    serving = f"--host 127.0.0.1 --port {self.port} --log-level error --lifespan on".split()
    application = [
        "--app-dir",
        str(prefect.__module_path__.parent),
        "--factory",
        "prefect.server.api.server:create_app",
    ]
    return subprocess.Popen(
        [sys.executable, "-P", str(TETHERED), "uvicorn", *application, *serving],
        env={
            **os.environ,
            "PREFECT_UI_ENABLED": "0",
            "PREFECT__SERVER_EPHEMERAL": "1",
            "PREFECT__SERVER_FINAL": "1",
            **get_current_settings().to_environment_variables(exclude_unset=True),
        },
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
