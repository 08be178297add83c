"""The fields of a study as text, from the one place where they are documented."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import BaseModel

from fute.did_you_mean import did_you_mean, listed
from fute.errors import ConfigError

Schema = dict[str, object]


def describe(model: type[BaseModel]) -> str:
    """Every class and field: name, type, default, meaning."""
    return "\n\n".join(section(name, schema) for name, schema in _sections(model).items())


def describe_section(model: type[BaseModel], wanted: str) -> str:
    """One part of it: a class, a field (with the classes that it is made of), or a kind (`files`, `tupate`).

    Raises:
        ConfigError: no such thing.
    """
    sections = _sections(model)
    found: dict[str, dict[str, str]] = {}
    for name, each in sections.items():
        found.setdefault(name.lower(), {})[name] = section(name, each)
        for field, details in each["properties"].items():
            if "const" in details:
                found.setdefault(str(details["const"]).lower(), {})[name] = section(name, each)
                continue
            told = found.setdefault(field.lower(), {})
            told[f"{name}.{field}"] = section(name, {**each, "properties": {field: details}})
            told |= {part: section(part, sections[part]) for part in _parts(details) if part in sections}
    if wanted.lower() not in found:
        fields = sections[model.__name__]["properties"]
        raise ConfigError(
            f"a study has no section {wanted!r}{did_you_mean(wanted, [*fields, *found]) or '.'} There are: "
            f"{listed(fields, 30)}; `fute schema` prints all"
        )
    return "\n\n".join(found[wanted.lower()].values())


def _parts(details: object) -> list[str]:
    """The classes that a field's type names."""
    if isinstance(details, list):
        return [part for each in details for part in _parts(each)]
    if not isinstance(details, dict):
        return []
    named = [str(details["$ref"]).rpartition("/")[2]] if "$ref" in details else []
    return named + [part for each in details.values() for part in _parts(each)]


def describe_markdown(model: type[BaseModel]) -> str:
    """All of it as a page: a table for each class, in which types lead to their class."""
    sections = _sections(model)
    classes = re.compile(rf"\b({'|'.join(sections)})\b")
    parts = ["# Study file\n\nEvery field of the YAML file that describes a run, as `fute schema` prints them."]
    for name, schema in sections.items():
        rows = ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]
        for field in _fields(schema):
            kind = classes.sub(lambda name: f"[{name[0]}](#{name[0].lower()})", field.kind)
            cells = (f"`{field.name}`", kind, field.default.removeprefix("default: "), field.meaning)
            rows.append("| " + " | ".join(_literal(cell) for cell in cells) + " |")
        parts.append(f"## {name}\n\n{_literal(_described(schema))}\n\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _sections(model: type[BaseModel]) -> dict[str, dict]:
    """The schemas of all classes that have fields, by name; the study's first."""
    schema = model.model_json_schema()
    parts = {name: each for name, each in schema.get("$defs", {}).items() if "properties" in each}
    return {model.__name__: schema, **parts}


class Field(NamedTuple):
    name: str
    kind: str
    default: str
    meaning: str


def _fields(schema: dict) -> Iterator[Field]:
    required = set(schema.get("required", []))
    for name, details in schema["properties"].items():
        if name in required:
            default = "required"
        elif "const" in details:
            default = ""
        else:
            value = details.get("default")
            default = "default: " + ("a list, empty" if value == [] else _short(value))
        yield Field(name, type_name(details), default, _described(details))


def section(name: str, schema: dict) -> str:
    lines = [f"{name}: {_described(schema)}"]
    for field in _fields(schema):
        lines.append(f"  {field.name}  ({', '.join(part for part in (field.kind, field.default) if part)})")
        if field.meaning:
            lines.append(f"      {field.meaning}")
    return "\n".join(lines)


def _described(schema: dict) -> str:
    return " ".join(str(schema.get("description", "")).split())


def _literal(text: str) -> str:
    """Text in a table of Markdown, where a bar would end the cell."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def type_name(details: dict) -> str:
    """A type as a reader would say it: 'integer >= 1', 'one of: a, b', 'list of DatasetConfig'."""
    if "$ref" in details:
        return str(details["$ref"]).rpartition("/")[2]
    if "const" in details:
        return f"always {details['const']!r}"
    if "enum" in details:
        return "one of: " + ", ".join(map(str, details["enum"]))
    for union in ("anyOf", "oneOf"):
        if union in details:
            return " or ".join(type_name(option) for option in details[union])
    kind = str(details.get("type", "any"))
    if kind == "array":
        return f"list of {type_name(details.get('items', {}))}"
    if kind == "object" and isinstance(details.get("additionalProperties"), dict):
        return f"mapping to {type_name(details['additionalProperties'])}"
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [f"{sign} {details[key]}" for key, sign in bounds.items() if key in details]
    return " ".join([kind, *limits])


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else "see below"
