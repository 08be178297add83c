"""YAML files that a person wrote: parsed safely, and strict where YAML's own loader is silent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fute.did_you_mean import did_you_mean
from fute.errors import ConfigError


def read_yaml(path: Path, what: str) -> Any:
    """What a file holds; None for an empty one.

    Args:
        what: the kind of file, for messages.

    Raises:
        ConfigError: no such file, no YAML, or a key that stands twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as exc:
        folder = path.parent
        near = did_you_mean(path.name, (p.name for p in folder.iterdir())) if folder.is_dir() else ""
        raise ConfigError(f"there is no {what} {path}{near}") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the {what} {path} cannot be read: {exc}") from exc
    return _parse(text, path)


def _parse(text: str, path: Path) -> Any:
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _refuse_repeated_keys(node, path, set())
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        # Not the whole message: it quotes the line, and a line may hold a key that should not be there.
        raise ConfigError(f"{path}{at}: this is no YAML: {exc.problem or exc.context}") from exc
    except yaml.YAMLError as exc:
        raise ConfigError(f"{path}: this is no YAML: {exc}") from exc


def _refuse_repeated_keys(node: yaml.Node, path: Path, visited: set[int]) -> None:
    """YAML's own loader keeps the last of two equal keys and says nothing."""
    if id(node) in visited:
        return
    visited.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_repeated_keys(child, path, visited)
    elif isinstance(node, yaml.MappingNode):
        first: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if (before := first.get((key.tag, key.value))) is not None:
                    raise ConfigError(
                        f"{path}, line {line}: {key.value!r} stands twice in one mapping (first in line {before}); "
                        "take one out"
                    )
                first[key.tag, key.value] = line
            _refuse_repeated_keys(value, path, visited)
