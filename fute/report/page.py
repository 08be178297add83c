"""The map as one HTML page: style, script and data inside, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from fute.report.types import MapData, Neighbor, SubjectPoint

NEAREST_SHOWN = 10  # of each kind, for each subject; the store holds the rest
# In this order they are one script; each file holds one part of the page.
SCRIPTS = (
    "data.js",
    "elements.js",
    "labels.js",
    "details.js",
    "mapview.js",
    "mapinput.js",
    "map.js",
    "heatmap.js",
    "tables.js",
    "page.js",
)


def render_map(data: MapData) -> str:
    """The page as text, to be written as UTF-8.

    Text from outside reaches the page in two ways only: escaped in the title, and as JSON that cannot end its script
    element and that the script shows as text, never as markup. Should anything slip through, the page's own policy
    lets no other script run and opens no connection.
    """
    resources = files("fute.report")
    style = resources.joinpath("page.css").read_text(encoding="utf-8")
    parts = [resources.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS]
    script = '(() => {\n"use strict";\n' + "\n".join(parts) + "\n})();"
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    page = Template(resources.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        policy=policy,
        title=html.escape(data.title),
        style=style,
        data=_script_json(_payload(data)),
        script=script,
    )
    # A lone surrogate in an id cannot be written as UTF-8; in the JSON it is escaped, in the title it becomes "?".
    return page.encode("utf-8", "replace").decode("utf-8")


def _digest(source: str) -> str:
    """A source expression of the Content Security Policy that allows exactly this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def _script_json(value: Any) -> str:
    """JSON that is safe inside a script element: no character that HTML or a script could take for its own."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    # U+2028 and U+2029, as everything beyond ASCII, are escaped by ensure_ascii.
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _payload(data: MapData) -> dict[str, Any]:
    return {
        "title": data.title,
        "subtitle": data.subtitle,
        "createdAt": _utc(data.created_at),
        "subjects": [_subject(subject) for subject in data.subjects],
        "similarities": _packed(data),
        "order": [int(row) for row in data.order],
        "interval": data.interval,
        "notes": list(data.notes),
        "failures": [failure._asdict() for failure in data.failures],
        "store": data.store,
        "commands": [command._asdict() for command in data.commands],
    }


def _utc(moment: datetime) -> str:
    return (moment if moment.tzinfo is None else moment.astimezone(UTC)).strftime("%Y-%m-%d %H:%M UTC")


def _subject(subject: SubjectPoint) -> dict[str, Any]:
    return {
        "id": subject.id,
        "kind": subject.kind,
        "type": subject.type,
        "family": subject.family,
        "task": subject.task,
        "score": _rounded(subject.score),
        "scoreName": subject.score_name,
        "x": _rounded(subject.x),
        "y": _rounded(subject.y),
        "nearest": [
            [near.id, near.kind, _rounded(near.score), _rounded(near.ci_low), _rounded(near.ci_high)]
            for near in _first_of_each_kind(subject.nearest)
        ],
    }


def _first_of_each_kind(neighbors: Sequence[Neighbor]) -> list[Neighbor]:
    counts: Counter[str] = Counter()
    kept = []
    for neighbor in neighbors:
        counts[neighbor.kind] += 1
        if counts[neighbor.kind] <= NEAREST_SHOWN:
            kept.append(neighbor)
    return kept


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(float(number), 5)


def _packed(data: MapData) -> str:
    """Similarities as base64 of 16-bit integers (32,767 for 1): a tenth of their size as JSON, exact to 0.00002."""
    whole = np.rint(np.clip(data.similarities, -1, 1) * 32767).astype("<i2")
    return base64.b64encode(whole.tobytes()).decode()
