"""YAML files that a person wrote: parsed safely, and strict where YAML's own loader is silent or goes beyond JSON.

What is read ends up in JSON: in fingerprints, requests and the store. So a file holds what JSON can hold, within bounds
that no file of a person comes near; everything else is refused with its line before it is built.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from fute.did_you_mean import did_you_mean
from fute.errors import ConfigError

MOST_BYTES = 8 * 2**20
MOST_VALUES = 200_000
"""With every alias written out."""
DEEPEST = 60
"""Mappings and lists within each other."""
LARGEST = 2**63 - 1

_TOO_DEEP = f"mappings and lists stand more than {DEEPEST} deep in each other"
_TOO_MANY = f"the file holds more than {MOST_VALUES:,} values, each alias written out"
_NUMBERS = yaml.constructor.SafeConstructor()
_TAG = "tag:yaml.org,2002:"
_KINDS = {"timestamp": "a date", "binary": "binary data", "set": "a set", "omap": "an ordered map", "pairs": "pairs"}
_IN_JSON = ("str", "int", "float", "bool", "null", "map", "seq", "merge")


def read_yaml(path: Path, what: str) -> Any:
    """What a file holds; None for an empty one.

    Args:
        what: the kind of file, for messages.

    Raises:
        ConfigError: no such file, no YAML, a key that stands twice, what JSON cannot hold, or more than is sensible.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode("utf-8-sig") if len(content) <= MOST_BYTES else ""
    except FileNotFoundError as exc:
        folder = path.parent
        near = did_you_mean(path.name, (p.name for p in folder.iterdir())) if folder.is_dir() else ""
        raise ConfigError(f"there is no {what} {path}{near}") from exc
    except (OSError, ValueError) as exc:
        raise ConfigError(f"the {what} {path} cannot be read: {exc}") from exc
    if len(content) > MOST_BYTES:
        raise ConfigError(f"the {what} {path} is larger than {MOST_BYTES >> 20} MiB; is it the right file?")
    return _parse(text, path)


def _parse(text: str, path: Path) -> Any:
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _Checks(path).check(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        # Not the whole message: it quotes the line, and a line may hold a key that should not be there.
        raise ConfigError(f"{path}{at}: this is no YAML: {exc.problem or exc.context}") from exc
    except yaml.reader.ReaderError as exc:
        found = exc.character if isinstance(exc.character, int) else ord(exc.character[:1] or "?")
        raise ConfigError(
            f"{path}: this is no YAML: character #x{found:04x} (at {exc.position}) is not allowed in it"
        ) from exc
    except yaml.YAMLError as exc:
        raise ConfigError(f"{path}: this is no YAML: {exc}") from exc
    except ConfigError:
        raise
    except (ValueError, TypeError, OverflowError, LookupError, AttributeError) as exc:
        raise ConfigError(f"{path}: a value is not what its tag says: {exc}") from exc


class _Loader(yaml.SafeLoader):
    """Stops where a document goes too deep or too far, before its parser has read the rest."""

    depth = values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        self.values += 1
        if self.depth > DEEPEST or self.values > MOST_VALUES:
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem=_TOO_DEEP if self.depth > DEEPEST else _TOO_MANY, problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Checks:
    """Walks a document before anything is built of it. An alias leads to a node that was seen: each is checked once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sizes: dict[int, int] = {}
        self._open: set[int] = set()

    def check(self, node: yaml.Node, depth: int = 1) -> int:
        """The values of a node, with every alias written out.

        Raises:
            ConfigError: a key that stands twice, what JSON cannot hold, or more than is sensible.
        """
        if id(node) in self._open:
            raise self._refused(node, "an alias stands within what it is an alias of, so that it has no end")
        if (known := self._sizes.get(id(node))) is not None:
            return known
        if depth > DEEPEST:
            raise self._refused(node, _TOO_DEEP)
        self._open.add(id(node))
        self._check_value(node)
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            self._check_keys(node)
            children = [child for pair in node.value for child in pair]
        size = 1
        for child in children:
            size += self.check(child, depth + 1)
            if size > MOST_VALUES:
                raise self._refused(child, _TOO_MANY)
        self._open.discard(id(node))
        self._sizes[id(node)] = size
        return size

    def _check_keys(self, node: yaml.MappingNode) -> None:
        """YAML's own loader keeps the last of two equal keys and says nothing."""
        first: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._refused(key, "a key is a list or a mapping; a key is a text")
            line = key.start_mark.line + 1
            if (before := first.get((key.tag, key.value))) is not None:
                raise self._refused(
                    key, f"{key.value!r} stands twice in one mapping (first in line {before}); take one out"
                )
            first[key.tag, key.value] = line

    def _check_value(self, node: yaml.Node) -> None:
        kind = str(node.tag).removeprefix(_TAG)
        if kind in _KINDS:
            shown = f" ({node.value[:40]})" if kind == "timestamp" else ""
            raise self._refused(node, f"this is {_KINDS[kind]}{shown} and not text; put it in quotes to make it text")
        if kind not in _IN_JSON or not isinstance(node, yaml.ScalarNode):
            return  # a tag of somebody's own is refused where the document is built
        value = node.value
        if kind == "str" and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
            raise self._refused(node, "a text holds a NUL character or half of a character; take it out")
        if kind == "float" and not math.isfinite(_NUMBERS.construct_yaml_float(node)):
            raise self._refused(node, f"{value[:40]} is no number that is stored; give a finite one, or null")
        # The length first: Python takes no text of thousands of digits for a number, and long for each that it takes.
        if kind == "int" and (len(value) > 80 or abs(_NUMBERS.construct_yaml_int(node)) > LARGEST):
            raise self._refused(
                node, f"a whole number of {len(value)} characters is too large; put it in quotes to make it text"
            )

    def _refused(self, node: yaml.Node, problem: str) -> ConfigError:
        return ConfigError(f"{self._path}, line {node.start_mark.line + 1}: {problem}")
