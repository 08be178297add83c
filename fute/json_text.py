"""JSON that any reader takes: no NaN, which JSON does not have, and no half of a surrogate pair."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(value: Any, *, indent: int | None = None, sort_keys: bool = False, ascii: bool = False) -> str:
    """A value as JSON. Numbers that are not finite become null; what JSON does not know becomes its text.

    Args:
        ascii: write all else as escapes, for a terminal that obeys more than ASCII's control characters.
    """
    text = json.dumps(
        _finite(value), indent=indent, sort_keys=sort_keys, ensure_ascii=ascii, allow_nan=False, default=str
    )
    try:
        text.encode()
    except UnicodeEncodeError:
        text = "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in text)
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        return _finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
