"""The atlas as one HTML page: style, script and data inside, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from fute.report.types import Atlas, DriftCheck, Neighbor, Projection, SpaceMap, Subject, Version
from fute.types import Kind

# In this order they are one script; each file holds one part of the page.
SCRIPTS = (
    "data.js",
    "elements.js",
    "labels.js",
    "details.js",
    "mapview.js",
    "mapinput.js",
    "map.js",
    "tree.js",
    "heatmap.js",
    "tables.js",
    "chart.js",
    "drift.js",
    "subject.js",
    "page.js",
)


def render_atlas(data: Atlas) -> str:
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


def _payload(data: Atlas) -> dict[str, Any]:
    rows = {(subject.kind, subject.id): row for row, subject in enumerate(data.subjects)}
    return {
        "title": data.title,
        "createdAt": _utc(data.created_at),
        "subjects": [_subject(subject) for subject in data.subjects],
        "spaces": [_space(space, rows) for space in data.spaces],
        "interval": data.interval,
        "notes": list(data.notes),
        "failures": [failure._asdict() for failure in data.failures],
        "store": data.store,
        "commands": [command._asdict() for command in data.commands],
    }


def _utc(moment: datetime, form: str = "%Y-%m-%d %H:%M UTC") -> str:
    return (moment if moment.tzinfo is None else moment.astimezone(UTC)).strftime(form)


def _dated(told: Version | DriftCheck) -> dict[str, Any]:
    return told._asdict() | {"made": _utc(told.made, "%Y-%m-%d %H:%M:%S UTC")}


def _subject(subject: Subject) -> dict[str, Any]:
    return {
        "id": subject.id,
        "kind": subject.kind,
        "type": subject.type,
        "family": subject.family,
        "task": subject.task,
        "score": _rounded(subject.score),
        "scoreName": subject.score_name,
        "majority": _rounded(subject.majority),
        "facts": [list(fact) for fact in subject.facts],
        "prompt": None if subject.prompt is None else subject.prompt._asdict(),
        "cost": None if subject.cost is None else subject.cost._asdict(),
        "history": [_dated(version) for version in subject.history],
        "drift": [_dated(check) for check in subject.drift],
    }


def _space(space: SpaceMap, rows: Mapping[tuple[Kind, str], int]) -> dict[str, Any]:
    return {
        "id": space.id,
        "name": space.name,
        "about": space.about,
        "notes": list(space.notes),
        "legend": space.legend,
        "members": [int(member) for member in space.members],
        "similarities": _packed(space),
        "maps": [_map(projection) for projection in space.projections],
        "order": list(space.tree.order),
        "merges": [[a, b, _rounded(height)] for a, b, height in space.tree.merges],
        "nearest": [[_neighbor(near, rows) for near in one] for one in space.nearest],
    }


def _map(projection: Projection) -> dict[str, Any]:
    spread = max(float(np.abs(projection.places).max(initial=0.0)), 1e-12)
    return {
        "name": projection.name,
        # Whole numbers, 10,000 for the furthest: finer than a screen, and half as long.
        "places": np.rint(projection.places / spread * 10_000).astype(int).ravel().tolist(),
        "kept": [[k, _rounded(share)] for k, share in projection.kept.items()],
        "trust": _rounded(projection.trust),
        "variance": _rounded(projection.variance),
    }


def _neighbor(near: Neighbor, rows: Mapping[tuple[Kind, str], int]) -> list[Any]:
    """[row of the subject, score, low, high, verdict, accuracy]; [id, kind] in place of the row of one not on the
    page."""
    accuracy = None if near.accuracy is None else near.accuracy._asdict()
    whose = rows.get((near.kind, near.id), [near.id, near.kind])
    return [whose, _rounded(near.score), _rounded(near.ci_low), _rounded(near.ci_high), near.verdict, accuracy]


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(float(number), 4)


def _packed(space: SpaceMap) -> str:
    """The lower triangle with its diagonal, row by row, as base64 of 16-bit integers (32,767 for 1).

    A twentieth of the size of the matrix as JSON, exact to 0.00002.
    """
    n = len(space.members)
    whole = np.rint(np.clip(space.similarities, -1, 1) * 32767).astype("<i2")
    return base64.b64encode(whole[np.tril_indices(n)].tobytes()).decode()
