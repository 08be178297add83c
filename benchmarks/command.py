"""A result with the command that makes it."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

PLACES = ("--out", "--cache", "--encoder")
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


def write_record(record: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {path}")
