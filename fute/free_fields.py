"""Mappings of a study whose fields fute does not know: arguments of functions, fields of requests. They are stored and
shown like every other setting, so they hold what JSON holds, and no key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator

_SECRET = re.compile(
    r"(^|_)((api|access|auth|private|secret|session|bearer|client)_?(key|token|secret)"
    r"|secrets?|password|passwd|credentials?|(proxy_)?authorization)(_|$)"
)


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(fields, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise ValueError(f"holds what JSON cannot hold, and settings are stored as JSON ({exc})") from exc
    for name, value in _entries(fields):
        if isinstance(value, str) and value and _SECRET.search(re.sub(r"[-.\s]", "_", name.lower())):
            raise ValueError(
                f"{name} looks like a key or password, which would be stored and shown; put it into an environment "
                "variable (of an endpoint: name it in api_key_env; a function reads it itself)"
            )
    return fields


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield str(name), inner
            yield from _entries(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _entries(inner)


FreeFields = Annotated[dict[str, Any], AfterValidator(_checked)]
