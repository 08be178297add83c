"""Cells between separators: CSV, with commas, semicolons, tabs or bars. A cell has no type and is read as text."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from functools import cached_property

import pyarrow as pa
import pyarrow.csv as pa_csv

from fute.data.decoding import DAMAGED, encoding_of, encoding_remark, open_bytes
from fute.data.formats.base import FileFormat
from fute.did_you_mean import listed
from fute.errors import DataError

NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""Separators that are tried, and what they are called."""
_QUOTED = re.compile(rb'"(?:[^"]|"")*"')


class Csv(FileFormat):
    cells = True

    @cached_property
    def _encoding(self) -> str:
        return encoding_of(self.path, self.dialect.encoding)

    @cached_property
    def _text(self) -> bytes:
        """The whole file as UTF-8."""
        try:
            with open_bytes(self.path) as content:
                data = content.read()
            return data.decode(self._encoding).encode()
        except (*DAMAGED, UnicodeError) as exc:
            raise self.unreadable("csv", exc) from exc

    def columns(self, wanted: Sequence[str]) -> list[str]:
        return self._header(self._separator(wanted))

    def _separator(self, wanted: Sequence[str]) -> str:
        """That with which the first line names the wanted columns.

        Raises:
            DataError: several do, and name other columns.
        """
        if self.dialect.separator is not None:
            return self.dialect.separator
        headers = {separator: self._header(separator) for separator in NAMES}
        found = {s: len(set(wanted) & set(header)) for s, header in headers.items()}
        best = max(found.values())
        if best == 0:  # the longest header is the likeliest, to be shown with what is missing
            return max(headers, key=lambda s: len(headers[s]))
        fit = [s for s in headers if found[s] == best]
        if any(headers[s] != headers[fit[0]] for s in fit):
            raise DataError(
                f"{self.path.name} can be read with {' or with '.join(NAMES[s] for s in fit)} between its cells; set "
                f"`separator` of its source to one of {listed(map(repr, fit))}"
            )
        return fit[0]

    def _header(self, separator: str) -> list[str]:
        try:
            lines = io.TextIOWrapper(io.BytesIO(self._text), encoding="utf-8", newline="")
            header = next((row for row in csv.reader(lines, delimiter=separator) if row), None)
        except csv.Error as exc:
            raise self.unreadable("csv", exc) from exc
        if header is None:
            raise DataError(
                f"{self.path} cannot be read as csv: it is empty; write a line with the names of its columns"
            )
        return header

    def read(self, columns: Sequence[str]) -> pa.Table:
        separator = self._separator(columns)
        # One block: no value straddles two, however long it is.
        block = min(max(len(self._text) + 1, 1 << 20), (1 << 31) - 1)
        try:
            return pa_csv.read_csv(
                pa.BufferReader(self._text),
                read_options=pa_csv.ReadOptions(block_size=block),
                parse_options=pa_csv.ParseOptions(
                    delimiter=separator,
                    quote_char=False if self._bare_quotes(separator) else '"',
                    newlines_in_values=True,
                ),
                convert_options=pa_csv.ConvertOptions(
                    include_columns=list(columns), column_types=dict.fromkeys(columns, pa.string())
                ),
            )
        except pa.ArrowException as exc:
            raise self.unreadable("csv", exc) from exc

    def _bare_quotes(self, separator: str) -> bool:
        """Whether quotes are part of the texts, as in tables that know no quoting: every line has its cells, and there
        are cells that begin with a quote and do not end with it. Read as quoted, they swallow rows. Between others than
        tabs, where quoting is usual, only if quotes do not fit together either."""
        if b'"' not in self._text:
            return False
        found, cells = False, set()
        for line in filter(None, self._text.splitlines()):
            row = line.split(separator.encode())
            cells.add(len(row))
            if len(cells) > 1:
                return False
            found = found or any(cell.startswith(b'"') and not _QUOTED.fullmatch(cell) for cell in row)
        return found and (separator == "\t" or not self._well_quoted(separator))

    def _well_quoted(self, separator: str) -> bool:
        """Whether each quote that begins a cell is closed at the end of one."""
        lines = io.TextIOWrapper(io.BytesIO(self._text), encoding="utf-8", newline="")
        try:
            return all(True for _ in csv.reader(lines, delimiter=separator, strict=True))
        except csv.Error:
            return False

    def remarks(self, columns: Sequence[str]) -> list[str]:
        separator = self._separator(columns)
        guessed = self.dialect.separator is None and separator != "," and not isinstance(self, Tsv)
        told = [
            f"cells separated by {NAMES[separator]}" if guessed else None,
            "quotes are part of its texts" if self._bare_quotes(separator) else None,
            encoding_remark(self._encoding, self.dialect.encoding),
        ]
        return [remark for remark in told if remark]


class Tsv(Csv):
    """Between tabs, as the file's ending says."""

    def _separator(self, wanted: Sequence[str]) -> str:
        return self.dialect.separator or "\t"
