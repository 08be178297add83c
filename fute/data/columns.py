"""What is said of columns that are not there, or there twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fute.did_you_mean import did_you_mean, listed


def describe_missing(where: str, there: Sequence[str], wanted: Iterable[str]) -> str | None:
    """One line; None when every wanted column is there once."""
    missing = [name for name in dict.fromkeys(wanted) if name not in there]
    if twice := [name for name in dict.fromkeys(wanted) if list(there).count(name) > 1]:
        return f"{where}: there is more than one column {twice[0]!r}; rename those that are not meant"
    if not missing:
        return None
    named = "; ".join(f"no column {name!r}{did_you_mean(name, there).rstrip('?')}" for name in missing)
    return f"{where}: {named}. Columns there: {listed(there, 30)}"
