"""The fields of a study as text, from the one place where they are documented."""

from __future__ import annotations

from pydantic import BaseModel

from fute.did_you_mean import did_you_mean, listed
from fute.errors import ConfigError

Schema = dict[str, object]


def describe(model: type[BaseModel]) -> str:
    """Every class and field: name, type, default, meaning."""
    schema = model.model_json_schema()
    definitions: dict[str, dict] = schema.get("$defs", {})
    parts = [section(model.__name__, schema)]
    parts += [section(name, definition) for name, definition in definitions.items() if "properties" in definition]
    return "\n\n".join(parts)


def describe_section(model: type[BaseModel], wanted: str) -> str:
    """One part of it: a class, a field (with the classes that it is made of), or a kind (`files`, `tupate`).

    Raises:
        ConfigError: no such thing.
    """
    schema = model.model_json_schema()
    sections = {model.__name__: schema}
    sections |= {name: each for name, each in schema.get("$defs", {}).items() if "properties" in each}
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
        fields = [*schema["properties"], *found]
        raise ConfigError(
            f"a study has no section {wanted!r}{did_you_mean(wanted, fields) or '.'} There are: "
            f"{listed(schema['properties'], 30)}; `fute schema` prints all"
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


def section(name: str, schema: dict) -> str:
    lines = [f"{name}: {' '.join(str(schema.get('description', '')).split())}"]
    required = set(schema.get("required", []))
    for field, details in schema["properties"].items():
        if field in required:
            default = "required"
        elif "const" in details:
            default = ""
        else:
            value = details.get("default")
            default = "default: " + ("a list, empty" if value == [] else _short(value))
        described = " ".join(str(details.get("description", "")).split())
        lines.append(f"  {field}  ({', '.join(p for p in (type_name(details), default) if p)})")
        if described:
            lines.append(f"      {described}")
    return "\n".join(lines)


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
