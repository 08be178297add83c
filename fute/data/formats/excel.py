"""Excel's .xlsx: the one sheet whose first row names the columns. Cells are read as text, as those of CSV files are:
a label that somebody typed as 7 and a text that somebody typed as 2024 are what stands there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa

from fute.data.formats.base import FileFormat
from fute.did_you_mean import listed
from fute.errors import DataError

Rows = list[list[str | None]]


class Excel(FileFormat):
    cells = True

    @cached_property
    def _sheets(self) -> dict[str, Rows]:
        """Rows of each sheet that has any, the header first."""
        try:
            import openpyxl  # an optional extra
        except ImportError as exc:
            raise DataError(
                f"{self.path.name}: reading .xlsx needs openpyxl (pip install 'fute[xlsx]'); or save the sheet as CSV"
            ) from exc
        try:
            book = openpyxl.load_workbook(self.path, read_only=True, data_only=True)
            try:
                sheets = {sheet.title: [[_written(c, self.path.name) for c in row] for row in sheet] for sheet in book}
            finally:
                book.close()
        except DataError:
            raise
        except Exception as exc:  # openpyxl raises what its parts do: of zip files, of XML, of its own
            raise self.unreadable("xlsx", exc) from exc
        filled = {name: [row for row in rows if any(row)] for name, rows in sheets.items()}
        return {name: rows for name, rows in filled.items() if rows}

    def columns(self, wanted: Sequence[str]) -> list[str]:
        return self._table(wanted)[0]

    def read(self, columns: Sequence[str]) -> pa.Table:
        header, rows = self._table(columns)
        place = {name: header.index(name) for name in columns}
        cells = {name: [row[i] if i < len(row) else None for row in rows] for name, i in place.items()}
        return pa.table({name: pa.array(column, pa.string()) for name, column in cells.items()})

    def _table(self, wanted: Sequence[str]) -> tuple[list[str], Rows]:
        """Header and rows of the sheet that has the wanted columns.

        Raises:
            DataError: there is no row, or several sheets have them.
        """
        if not self._sheets:
            raise DataError(f"{self.path.name} has no rows; write a first row with the names of its columns")
        headers = {name: [cell or "" for cell in rows[0]] for name, rows in self._sheets.items()}
        found = {name: len(set(wanted) & set(header)) for name, header in headers.items()}
        fit = [name for name in headers if found[name] == max(found.values())]
        if len(fit) > 1:
            raise DataError(
                f"{self.path.name}: rows may stand in any of the sheets {listed(map(repr, fit))}; keep one of them, or "
                "save it as CSV"
            )
        return headers[fit[0]], self._sheets[fit[0]][1:]

    def remarks(self, columns: Sequence[str]) -> list[str]:
        if len(self._sheets) < 2:
            return []
        header, _ = self._table(columns)
        read = next(name for name, rows in self._sheets.items() if [cell or "" for cell in rows[0]] == header)
        return [f"rows of sheet {read!r}, of {len(self._sheets)}"]


def _written(cell: Any, file: str) -> str | None:
    """What stands in a cell; None where nothing does."""
    if cell.data_type == "e":
        raise DataError(f"{file}: cell {cell.coordinate} holds {cell.value}; mend the formula, or clear the cell")
    value = cell.value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return None if value is None else str(value)
