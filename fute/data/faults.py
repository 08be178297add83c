"""Rows that cannot be used, and why: collected first, then refused together or left out together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

FaultKind = Literal["null", "empty", "label", "duplicate"]
_SHOWN = 5


@dataclass(frozen=True)
class Fault:
    """Rows of one split with the same thing wrong.

    Attributes:
        kind: what the report counts it as.
        what: in words, to follow "12 rows".
        rows: (n,) bool, the rows concerned.
    """

    kind: FaultKind
    what: str
    rows: NDArray[np.bool_]

    def describe(self, split: str) -> str:
        numbers = np.flatnonzero(self.rows)
        shown = ", ".join(map(str, numbers[:_SHOWN])) + (", ..." if len(numbers) > _SHOWN else "")
        noun = "row" if len(numbers) == 1 else "rows"
        return f"{split}: {len(numbers)} {noun} {self.what} ({noun} {shown})"


@dataclass(frozen=True)
class Targets:
    """Targets of one split; rows named by a fault hold anything."""

    values: NDArray[Any]
    faults: list[Fault]


def text_faults(column: pa.ChunkedArray, name: str) -> list[Fault]:
    """Missing and blank texts of a column of strings."""
    null = mask(pc.is_null(column))
    blank = mask(pc.equal(pc.utf8_trim_whitespace(column), ""))
    return found(
        Fault("null", f"with no text in column {name!r}", null),
        Fault("empty", f"with empty text in column {name!r}", blank),
    )


def found(*faults: Fault) -> list[Fault]:
    """Those that concern any row."""
    return [fault for fault in faults if fault.rows.any()]


def mask(column: Any) -> NDArray[np.bool_]:
    """An Arrow column of booleans as NumPy; null counts as False."""
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), dtype=bool)


def concerned(faults: Sequence[Fault], num_rows: int) -> NDArray[np.bool_]:
    """(num_rows,) rows with any fault."""
    rows = np.zeros(num_rows, dtype=bool)
    for fault in faults:
        rows |= fault.rows
    return rows


def counts(faults: Sequence[Fault], num_rows: int) -> dict[str, int]:
    """Rows by kind of fault; a row with several counts once, under the first."""
    seen = np.zeros(num_rows, dtype=bool)
    by_kind: dict[str, int] = {}
    for fault in faults:
        new = fault.rows & ~seen
        seen |= new
        if new.any():
            by_kind[fault.kind] = by_kind.get(fault.kind, 0) + int(new.sum())
    return by_kind
