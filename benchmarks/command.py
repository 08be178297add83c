"""The command that makes a result, written beside it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

PLACES = ("--out", "--cache")
"""Options that say where something lies on one machine."""


def as_run(file: str) -> str:
    """The command of this process without its places."""
    arguments = iter(sys.argv[1:])
    kept = []
    for argument in arguments:
        if argument in PLACES:
            next(arguments, None)
        elif not argument.startswith(tuple(f"{place}=" for place in PLACES)):
            kept.append(argument)
    return shlex.join(["python", f"benchmarks/{Path(file).name}", *kept])
