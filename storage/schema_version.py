"""Which layout a store has, so that a fute that does not know it says so instead of seeing half of it.

    1   every embedding, run and drift check is a file of its own; such a store has no schema/version.json
    2   small files may be folded into larger ones (storage/folding.py)

Going from 1 to 2 rewrites nothing: a store becomes 2 when this fute first records a run in it or folds files. Columns
that came later need no version: files without them are read as null. The names of columns do not change.
"""

from __future__ import annotations

import json
from pathlib import Path

from fute.errors import StoreError
from storage.files import Scratch, write_file
from storage.stamp import code_version

CURRENT = 2
PLACE = Path("schema") / "version.json"
FOLDERS = (
    "schema", "datasets", "pools", "features", "models", "prompts", "responses", "outputs", "spaces", "embeddings",
    "members", "neighbors", "evaluations", "drift", "runs", "locks",
)  # fmt: skip
"""Of which every store has one, however old it is and however far its first run came."""


def is_store(root: Path) -> bool:
    """Whether a folder is a store, or may become one: it is empty, or holds one of a store's folders."""
    return root.is_dir() and (any((root / name).is_dir() for name in FOLDERS) or not any(root.iterdir()))


def stored_version(root: Path) -> int:
    """The version of the store in a folder; 1 where it says none.

    Raises:
        StoreError: what it says is no version.
    """
    path = root / PLACE
    try:
        return int(json.loads(path.read_text())["schema_version"])
    except FileNotFoundError:
        return 1
    except (ValueError, KeyError, TypeError) as exc:
        raise StoreError(f'{path} does not say a version; it should read {{"schema_version": {CURRENT}}}') from exc


def require_readable(root: Path) -> None:
    """Raises StoreError: a later fute made this store, and this one would misread it."""
    found = stored_version(root)
    if found > CURRENT:
        raise StoreError(
            f"the store {root} has schema version {found}, and this fute reads up to {CURRENT}; "
            "install the fute that wrote it, or a later one (pip install --upgrade fute)"
        )


def mark_current(root: Path) -> None:
    """Write the version of this fute into the store, if it says none or an earlier one."""
    if stored_version(root) >= CURRENT:
        return

    def write(temporary: Path) -> None:
        temporary.write_text(json.dumps({"schema_version": CURRENT, "written_by": code_version()}) + "\n")

    write_file(Scratch(root), root / PLACE, write)
