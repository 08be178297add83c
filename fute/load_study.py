"""Study files: YAML to a checked `Study`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fute.check_study import check_study
from fute.config import Study
from fute.errors import ConfigError
from fute.llm.prompt_files import prompts_of_file, with_shipped_sets
from fute.read_yaml import read_yaml
from fute.study_errors import describe_errors

__all__ = ["check_study", "load_study", "study_from_mapping"]

_SET_ON_LOADING = "base_dir"


def load_study(path: str | Path) -> Study:
    """Read a study file. Whether what it names exists is for `check_study` to say.

    Raises:
        ConfigError: no such file, no YAML, a key that stands twice, or fields that are wrong, one line each.
    """
    path = Path(path).expanduser()
    mapping = read_yaml(path, "study file")
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
    if "prompts" in fields:
        fields["prompts"] = with_shipped_sets(fields["prompts"])
    try:
        study = Study.model_validate({**fields, _SET_ON_LOADING: base_dir})
    except ValidationError as exc:
        refused += describe_errors(exc, Study)
        raise ConfigError(_message(source, refused)) from exc
    if refused:
        raise ConfigError(_message(source, refused))
    if study.prompt_files:
        read = [prompt for file in study.prompt_files for prompt in prompts_of_file(study.path(file))]
        study = study.model_copy(update={"prompts": [*study.prompts, *read], "prompt_files": []})
    return study


def _message(source: str, problems: list[str]) -> str:
    return f"{source} is not valid:\n" + "\n".join(f"  - {problem}" for problem in problems)
