"""Prompts from YAML files: those of a study, and the sets that ship with fute.

    task: sentiment
    prompts:
      - {id: mood, template: "Good or bad? {{text}}", verbalizer: {positive: [good], negative: [bad]}}

The task is that of all prompts of the file that name none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from fute.config import PromptConfig
from fute.did_you_mean import did_you_mean
from fute.errors import ConfigError
from fute.read_yaml import read_yaml
from fute.settings import Settings
from fute.study_errors import describe_errors

SETS = Path(__file__).with_name("prompt_sets")


class PromptFile(Settings):
    """A file of prompts."""

    task: str | None = None
    """The task of all prompts that name none; reports only."""
    prompts: list[PromptConfig] = Field(min_length=1)
    """The prompts."""


def prompts_of_file(path: Path) -> list[PromptConfig]:
    """The prompts of a file, in its order.

    Raises:
        ConfigError: no such file, no YAML, or fields that are wrong, one line each.
    """
    try:
        file = PromptFile.model_validate(read_yaml(path, "prompt file"))
    except ValidationError as exc:
        problems = "\n".join(f"  - {problem}" for problem in describe_errors(exc, PromptFile))
        raise ConfigError(f"the prompt file {path} is not valid:\n{problems}") from exc
    return [p if p.task is not None else p.model_copy(update={"task": file.task}) for p in file.prompts]


def shipped_sets() -> list[str]:
    """The names of the sets that ship with fute."""
    return sorted(path.stem for path in SETS.glob("*.yaml"))


def shipped_set(name: str) -> list[PromptConfig]:
    """The prompts of a set that ships with fute.

    Raises:
        ConfigError: there is no such set.
    """
    if name not in shipped_sets():
        raise ConfigError(
            f"no prompt set {name!r}{did_you_mean(name, shipped_sets()) or '.'} With fute come "
            f"{', '.join(shipped_sets())}; your own prompts go into prompt_files"
        )
    return prompts_of_file(SETS / f"{name}.yaml")


def with_shipped_sets(entries: Any) -> Any:
    """A study's `prompts` with each entry {set: name} replaced by the prompts of that set."""
    if not isinstance(entries, list):
        return entries  # for pydantic to refuse
    written: list[Any] = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or "set" not in entry:
            written.append(entry)
            continue
        if len(entry) > 1 or not isinstance(entry["set"], str):
            raise ConfigError(f"prompts[{number}]: write a set as {{set: {shipped_sets()[0]}}}, with no other field")
        written += [prompt.model_dump() for prompt in shipped_set(entry["set"])]
    return written
