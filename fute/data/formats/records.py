"""Rows as JSON objects: one a line, or a list of them in one file. Values keep the types that they have there."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa

from fute.data.decoding import DAMAGED, encoding_of, encoding_remark, open_bytes
from fute.data.formats.base import FileFormat
from fute.errors import DataError


class Jsonl(FileFormat):
    def columns(self, wanted: Sequence[str]) -> list[str]:
        """There is no header: lines are read until every wanted column was seen."""
        there: dict[str, None] = {}
        missing = set(wanted)
        for row in self.rows():
            there.update(dict.fromkeys(row))
            missing -= row.keys()
            if not missing:
                break
        return list(there)

    def read(self, columns: Sequence[str]) -> pa.Table:
        # Not through Arrow's reader, which makes timestamps of texts that look like some.
        values: dict[str, list[Any]] = {name: [] for name in columns}
        for row in self.rows():
            for name in columns:
                values[name].append(row.get(name))
        arrays = {}
        for name, column in values.items():
            try:
                arrays[name] = pa.array(column)
            except (pa.ArrowException, UnicodeError, OverflowError) as exc:
                raise DataError(
                    f"{self.path.name}: column {name!r} cannot be read: {exc}; give values of one kind, and numbers of "
                    "more than 64 bits as text"
                ) from exc
        return pa.table(arrays)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The objects, line by line.

        Raises:
            DataError: unreadable, or a line that is no object.
        """
        number = 0
        try:
            with self._open() as lines:
                for number, line in enumerate(lines, start=1):
                    if not line.strip():
                        continue
                    row = _decode(line)
                    if not isinstance(row, dict):
                        raise DataError(
                            f"{self.path.name} cannot be read as jsonl: line {number} is no object; write one row a "
                            'line, as {"text": ..., "label": ...}'
                        )
                    yield row
        except (*DAMAGED, UnicodeError) as exc:
            raise self.unreadable("jsonl", exc) from exc
        except (ValueError, RecursionError) as exc:
            if isinstance(exc, DataError):
                raise
            raise DataError(f"{self.path.name} cannot be read as jsonl: line {number}: {exc}") from exc

    def remarks(self, columns: Sequence[str]) -> list[str]:
        remark = encoding_remark(self._encoding, self.dialect.encoding)
        return [remark] if remark else []

    @cached_property
    def _encoding(self) -> str:
        return encoding_of(self.path, self.dialect.encoding)

    def _open(self) -> io.TextIOWrapper:
        return io.TextIOWrapper(open_bytes(self.path), encoding=self._encoding)


class Json(Jsonl):
    """A list of objects. Files with an object a line are often called .json, too."""

    def rows(self) -> Iterator[dict[str, Any]]:
        if self._lines:
            yield from super().rows()
            return
        try:
            with self._open() as text:
                rows = _decode(text.read())
        except (*DAMAGED, UnicodeError) as exc:
            raise self.unreadable("json", exc) from exc
        except (ValueError, RecursionError) as exc:
            raise DataError(f"{self.path.name} cannot be read as json: {exc}") from exc
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(
                f"{self.path.name} cannot be read as json: it is no list of objects; write it as "
                '[{"text": ..., "label": ...}, ...]'
            )
        yield from rows

    def remarks(self, columns: Sequence[str]) -> list[str]:
        return [*super().remarks(columns), *(["one object a line, as in JSONL"] if self._lines else [])]

    @cached_property
    def _lines(self) -> bool:
        """Whether the first line is an object by itself."""
        try:
            with self._open() as lines:
                first = next((line for line in lines if line.strip()), "")
        except (*DAMAGED, UnicodeError) as exc:
            raise self.unreadable("json", exc) from exc
        try:
            return isinstance(_decode(first), dict)
        except (ValueError, RecursionError):
            return False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError(f"a name stands twice in one object ({', '.join(name for name, _ in pairs)})")
    return row


_decode = json.JSONDecoder(object_pairs_hook=_object).decode
