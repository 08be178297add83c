"""Mappings of a study whose fields fute does not know: arguments of functions, fields of requests. They are stored and
shown like every other setting, so they hold what JSON holds, and no key."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator

from fute.secret_in import secret_in


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(fields, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise ValueError(f"holds what JSON cannot hold, and settings are stored as JSON ({exc})") from exc
    if (where := secret_in(fields)) is not None:
        raise ValueError(
            f"{where} looks like a key or a password, and what stands in a study is stored and shown; take it out, and "
            "let an environment variable hold it (api_key_env of an endpoint names one)"
        )
    return fields


FreeFields = Annotated[dict[str, Any], AfterValidator(_checked)]
"""Values of someone else's choice, handed on as they are."""
