"""Study files: YAML to a checked `Study`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fute.check_study import check_study
from fute.config import Study
from fute.did_you_mean import did_you_mean
from fute.errors import ConfigError
from fute.study_errors import describe_errors

__all__ = ["check_study", "load_study", "study_from_mapping"]

_SET_ON_LOADING = "base_dir"


def load_study(path: str | Path) -> Study:
    """Read a study file. Whether what it names exists is for `check_study` to say.

    Raises:
        ConfigError: no such file, no YAML, a key that stands twice, or fields that are wrong, one line each.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as exc:
        folder = path.parent
        near = did_you_mean(path.name, (p.name for p in folder.iterdir())) if folder.is_dir() else ""
        raise ConfigError(f"there is no study file {path}{near}") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the study file {path} cannot be read: {exc}") from exc
    mapping = _parse(text, path)
    if not isinstance(mapping, Mapping):
        what = "is empty" if mapping is None else f"holds {type(mapping).__name__}"
        raise ConfigError(f"the study file {path} {what}; write a mapping of fields, with name and pool at least")
    return study_from_mapping(mapping, path.resolve().parent, source=str(path))


def study_from_mapping(mapping: Mapping[str, Any], base_dir: Path, *, source: str = "the study") -> Study:
    """A study from fields in memory; relative paths start at `base_dir`.

    Raises:
        ConfigError: fields that are wrong, one line each.
    """
    fields = dict(mapping)
    refused = (
        [f"{_SET_ON_LOADING}: set by fute when a study is loaded; take it out"] if _SET_ON_LOADING in fields else []
    )
    fields.pop(_SET_ON_LOADING, None)
    try:
        study = Study.model_validate({**fields, _SET_ON_LOADING: base_dir})
    except ValidationError as exc:
        refused += describe_errors(exc, Study)
        raise ConfigError(_message(source, refused)) from exc
    if refused:
        raise ConfigError(_message(source, refused))
    return study


def _message(source: str, problems: list[str]) -> str:
    return f"{source} is not valid:\n" + "\n".join(f"  - {problem}" for problem in problems)


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
                before = first.setdefault((key.tag, key.value), line)
                if before != line:
                    raise ConfigError(
                        f"{path}, line {line}: {key.value!r} stands twice in one mapping (first in line {before}); "
                        "take one out"
                    )
            _refuse_repeated_keys(value, path, visited)
