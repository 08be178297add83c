"""As a script: run a module of Python that ends when the process that started it has, however that one ended.

    python -P tethered.py uvicorn --port 8123 ...       with a pipe as its stdin, which the parent never writes to

The system closes the parent's end of the pipe even after kill -9, on Linux and macOS alike.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

PATIENCE_S = 5.0


def end_with_parent() -> None:
    os.read(0, 1)  # returns when the pipe is closed
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE_S)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
