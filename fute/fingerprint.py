"""One notion of identity: the store key, the file name and the resume test alike.

A fingerprint is the SHA-256 of sorted, compact JSON of everything that can change a result. It is cut to
20 hexadecimal digits (80 bits) for names: at a million entries the chance of one collision is below 1e-12.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DIGITS = 20


def fingerprint(**parts: Any) -> str:
    """Fingerprint of keyword parts; each must be JSON (numbers, strings, lists, mappings, None).

    Raises:
        TypeError: a part is not JSON. Nothing is turned into a string behind the caller's back, for the
            string form of an object may hold its address and so differ between runs.
        ValueError: a part holds NaN or infinity.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def fingerprint_texts(columns: Iterable[Iterable[str | None]]) -> str:
    """Fingerprint of columns of text, in order. A missing text differs from an empty one."""
    digest = hashlib.sha256()
    for column in columns:
        for text in column:
            if text is None:
                digest.update(b"-;")
            else:
                encoded = text.encode()
                # The length first, so that no two sequences of texts give the same bytes.
                digest.update(b"%d:" % len(encoded))
                digest.update(encoded)
        digest.update(b"|")
    return digest.hexdigest()[:DIGITS]


def fingerprint_bytes(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()[:DIGITS]


def digest_file(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
