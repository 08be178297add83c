"""What pydantic found wrong with a study, one plain line a problem.

The study's JSON schema leads from an error's location to the field: names, choices and descriptions all come from
there, so that nothing here has to know a field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from fute.address import is_url
from fute.did_you_mean import did_you_mean, listed
from fute.secret_in import address_with_secret

Schema = Mapping[str, Any]
_SECRET = re.compile(r"(^|_)(api_?key|key|token|secret|password)(_|$)", re.IGNORECASE)
_ADDRESS = re.compile(r"(^|_)ur[il]$")
_SHOWN = 60


@dataclass(frozen=True)
class _Place:
    """Where an error is: the path as a person writes it, the schema there, and the union that was tried on the way."""

    path: str
    schema: Schema
    parent: Schema
    name: str
    union: str | None


def describe_errors(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line for each problem: field, what is wrong, the value, and what would be right."""
    schema = model.model_json_schema()
    places = [(_locate(schema, details["loc"]), details) for details in error.errors(include_url=False)]
    lines: dict[str, None] = {}
    for place, details in places:
        if place.union is None:
            lines[_line(place, details)] = None
            continue
        # A value that may be of several types has an error for each. One that lies deeper fits a type in outline.
        same = [(p, d) for p, d in places if p.union == place.union]
        deepest = max(len(p.path) for p, _ in same)
        inner = [(p, d) for p, d in same if len(p.path) == deepest]
        if deepest > len(place.union):
            lines |= dict.fromkeys(_line(p, d) for p, d in inner)
        else:
            expected = " or ".join(dict.fromkeys(_expected(d).removeprefix("should be ") for _, d in inner))
            lines[_wrong_value(inner[0][0], inner[0][1], f"should be {expected}")] = None
    return list(lines)


def _locate(root: Schema, loc: tuple[int | str, ...]) -> _Place:
    schema, parent, path, name, union = _resolved(root, root), root, "", "", None
    for item in loc:
        schema = _resolved(schema, root)
        if "discriminator" in schema:
            schema = {"$ref": schema["discriminator"]["mapping"].get(item, "")}
            continue
        choices = [s for s in schema.get("anyOf", ()) if s.get("type") != "null"]
        if len(choices) > 1:  # pydantic names the type it tried: 'str', 'list[str]'
            union = path
            kinds = {"str": "string", "list": "array", "dict": "object", "int": "integer", "float": "number"}
            kind = kinds.get(str(item).split("[")[0], "")
            schema = next((s for s in choices if _resolved(s, root).get("type") == kind), {})
            continue
        if choices:
            schema = _resolved(choices[0], root)
        if item == "[key]":
            path = path.rpartition(".")[0]  # the key itself is the value that is wrong
            continue
        parent, name = schema, str(item)
        if isinstance(item, int) and schema.get("type") != "object":
            path += f"[{item}]"
            schema = schema.get("items", {})
        else:
            path += f".{item}" if path else str(item)
            extra = schema.get("additionalProperties")
            schema = schema.get("properties", {}).get(item, extra if isinstance(extra, Mapping) else {})
    return _Place(path or "the study", _resolved(schema, root), parent, name, union)


def _resolved(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**root.get("$defs", {}).get(schema["$ref"].rpartition("/")[2], {}), **beside}
    return schema


def _line(place: _Place, details: Mapping[str, Any]) -> str:
    kind, context, value = details["type"], details.get("ctx", {}), details["input"]
    if kind == "extra_forbidden":
        known = place.parent.get("properties", {})
        hint = did_you_mean(place.name, known)
        return (
            f"{place.path}: unknown field{hint or f'; there are: {listed(known, 30)}'} (value: {_shown(place, value)})"
        )
    if kind == "missing":
        return f"{place.path}: missing; this field is required{_description(place)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        field = str(context["discriminator"]).strip("'")
        choices = list(place.schema.get("discriminator", {}).get("mapping", {}))
        if kind == "union_tag_not_found" and not isinstance(value, Mapping):
            return f"{place.path}: should be a mapping with a field {field!r} (got {_shown(place, value)})"
        if kind == "union_tag_not_found":
            return f"{place.path}.{field}: missing; say which kind it is: {listed(choices)}"
        tag = context["tag"]
        return (
            f"{place.path}.{field}: there is no kind {tag!r}; there are: {listed(choices)}{did_you_mean(tag, choices)}"
        )
    if details["loc"][-1] == "[key]":
        return (
            f"{place.path}: a name in this mapping {_expected(details)} (got {_shown(place, value)}){_quotes(details)}"
        )
    return _wrong_value(place, details, _expected(details))


def _wrong_value(place: _Place, details: Mapping[str, Any], expected: str) -> str:
    value, hint = details["input"], _quotes(details)
    if details["type"] == "literal_error" and isinstance(value, str):
        hint = did_you_mean(value, place.schema.get("enum", ()))
    return f"{place.path}: {expected} (got {_shown(place, value)}){hint}{_description(place)}"


def _expected(details: Mapping[str, Any]) -> str:
    if details["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return "should be a mapping of fields"
    message = str(details["msg"]).removeprefix("Value error, ")
    return message.replace("Input should be", "should be").replace("String should", "should")


def _quotes(details: Mapping[str, Any]) -> str:
    """YAML reads yes, no, on, 12 and 2024-01-01 as something else than text."""
    scalar = details["input"] is not None and not isinstance(details["input"], str | list | dict)
    return "; put it in quotes to make it text" if details["type"] == "string_type" and scalar else ""


def _description(place: _Place) -> str:
    text = " ".join(str(place.schema.get("description", "")).split())
    return f" [{text.rstrip('.')}]" if text and place.name else ""


def _shown(place: _Place, value: Any) -> str:
    # A key in a wrong place must not come back out of a log.
    if _SECRET.search(place.name) or (isinstance(value, str) and address_with_secret(value)):
        return "not shown"
    if isinstance(value, str) and (is_url(value) or "://" in value or _ADDRESS.search(place.name)):
        if "@" in value or "%" in value or "::" in value:
            return "not shown"
        address, *query = re.split(r"[?#]", value, maxsplit=1)
        return f"{_cut(address)} and a query, which is not shown" if query else _cut(address)
    if isinstance(value, Mapping):
        return f"a mapping of {listed(map(str, value), 6)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return _cut(value)


def _cut(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of thousands of digits
        text = f"a {type(value).__name__} too long to show"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
