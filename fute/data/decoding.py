"""Text files that are not UTF-8, or compressed: told by their bytes where these leave no doubt, else refused."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from fute.errors import DataError

OPENERS: dict[str, Callable[[Path, Any], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""Ending of a compressed file -> what opens it."""

DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What reading a file raises that is not what its ending says."""

UTF8, WESTERN = "utf-8-sig", "cp1252"  # Latin-1 is Windows-1252 but for control characters that no text has
_MARKS = {
    codecs.BOM_UTF8: UTF8,
    codecs.BOM_UTF32_LE: "utf-32",  # begins like that of UTF-16, so it is looked for first
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_CHUNK = 1 << 20
_RUN = re.compile(rb"[\x80-\xff]{2,}")
_RUNS_OF_WESTERN_WORDS = re.compile(rb"[\xe4\xf6\xfc]\xdf|\xe4\xe4|\xf6\xf6")  # größer, Füße; Finnish has ää and öö


def open_bytes(path: Path) -> BinaryIO:
    """The file's content, unpacked where its ending says that it is compressed."""
    return OPENERS.get(path.suffix.lower(), io.open)(path, "rb")


def encoding_of(path: Path, declared: str | None) -> str:
    """Codec of a text file, for `bytes.decode`: as declared, or UTF-8, by a byte order mark, UTF-16 without one, or
    Windows-1252.

    Raises:
        DataError: it may be one of several.
    """
    if declared is not None:
        return UTF8 if codecs.lookup(declared).name == "utf-8" else declared  # with or without a mark
    with open_bytes(path) as content:
        head = content.read(4096)
        for mark, codec in _MARKS.items():
            if head.startswith(mark):
                return codec
        if b"\0" in head:
            return _utf16(head, path)
        decode = codecs.getincrementaldecoder("utf-8")().decode
        try:
            decode(head)
            for chunk in iter(partial(content.read, _CHUNK), b""):
                decode(chunk)
            decode(b"", True)
            return UTF8
        except UnicodeDecodeError:
            content.seek(0)
            if _western(content.read()):
                return WESTERN
    raise DataError(
        f"{path} is not UTF-8, and its bytes do not look like Latin-1 either; set `encoding` of its source (cp1251, "
        "shift_jis, gb18030 ...), or save it as UTF-8"
    )


def encoding_remark(codec: str, declared: str | None) -> str | None:
    """What to say of a codec that was guessed."""
    if declared is not None or codec == UTF8:
        return None
    return f"read as {'Latin-1 (Windows-1252), since it is not UTF-8' if codec == WESTERN else codec.upper()}"


def _utf16(head: bytes, path: Path) -> str:
    """Every second byte of text in a Western script is NUL, the other one never."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if min(even, odd) == 0 and max(even, odd) > len(head) / 8:
        return "utf-16-le" if odd else "utf-16-be"
    raise DataError(f"{path} holds NUL bytes, so it is no text file; set `format` or `encoding` of its source")


def _western(data: bytes) -> bool:
    """Accented letters of Western languages stand alone between others; those of other scripts, and of UTF-8 with a
    damaged byte somewhere, stand side by side."""
    try:
        data.decode(WESTERN)
    except UnicodeDecodeError:
        return False
    high = len(data) - len(data.translate(None, bytes(range(0x80, 0x100))))
    in_runs = sum(map(len, _RUN.findall(_RUNS_OF_WESTERN_WORDS.sub(b"", data))))
    return in_runs <= high / 2
