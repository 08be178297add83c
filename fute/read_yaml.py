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

_TAG = "tag:yaml.org,2002:"
_KINDS = {"timestamp": "a date", "binary": "binary data", "set": "a set", "omap": "an ordered map", "pairs": "pairs"}


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
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except _RefusedError as exc:
        raise ConfigError(f"{path}, line {exc.line}: {exc}") from exc
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
    except (ValueError, TypeError, OverflowError, LookupError, AttributeError) as exc:
        raise ConfigError(f"{path}: a value is not what its tag says: {exc}") from exc


class _RefusedError(Exception):
    def __init__(self, mark: Any, problem: str) -> None:
        super().__init__(problem)
        self.line = mark.line + 1


class _Loader(yaml.SafeLoader):
    """Checks each node where it is composed, before its parser has read the rest and before anything is built of it."""

    depth = values = 0

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.sizes: dict[str, int] = {}
        """Values of what an anchor names."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        is_alias = isinstance(event, yaml.AliasEvent)
        if is_alias and event.anchor in self.anchors and event.anchor not in self.sizes:
            raise _RefusedError(
                event.start_mark, "an alias stands within what it is an alias of, so that it has no end"
            )
        before = self.values
        self.depth += 1
        self.values += self.sizes.get(event.anchor, 1) if is_alias else 1
        if self.depth > DEEPEST:
            problem = f"mappings and lists stand more than {DEEPEST} deep in each other"
            raise _RefusedError(event.start_mark, problem)
        if self.values > MOST_VALUES:
            problem = f"the file holds more than {MOST_VALUES:,} values, each alias written out"
            raise _RefusedError(event.start_mark, problem)
        node = super().compose_node(parent, index)
        if not is_alias:
            self._check(node)
            if event.anchor is not None:
                self.sizes[event.anchor] = self.values - before
        self.depth -= 1
        return node

    def _check(self, node: Any) -> None:
        kind = str(node.tag).removeprefix(_TAG)
        if kind in _KINDS:
            shown = f" ({node.value[:40]})" if kind == "timestamp" else ""
            raise _RefusedError(node.start_mark, f"this is {_KINDS[kind]}{shown} and not text; put it in quotes")
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
        if not isinstance(node, yaml.ScalarNode):
            return
        value = node.value
        if kind == "str" and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
            raise _RefusedError(node.start_mark, "a text holds a NUL character or half of a character; take it out")
        if kind == "float" and not math.isfinite(self.construct_yaml_float(node)):
            problem = f"{value[:40]} is no number that is stored; give a finite one, or null"
            raise _RefusedError(node.start_mark, problem)
        # The length first: Python takes no text of thousands of digits for a number, and long for each that it takes.
        if kind == "int" and (len(value) > 80 or abs(self.construct_yaml_int(node)) > LARGEST):
            problem = f"a whole number of {len(value)} characters is too large; put it in quotes to make it text"
            raise _RefusedError(node.start_mark, problem)

    def _check_keys(self, node: yaml.MappingNode) -> None:
        """YAML's own loader keeps the last of two equal keys and says nothing."""
        first: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _RefusedError(key.start_mark, "a key is a list or a mapping; a key is a text")
            if (before := first.get((key.tag, key.value))) is not None:
                problem = f"{key.value!r} stands twice in one mapping (first in line {before}); take one out"
                raise _RefusedError(key.start_mark, problem)
            first[key.tag, key.value] = key.start_mark.line + 1
