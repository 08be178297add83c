"""Names of flow runs, as lists of runs show them: the study and the flow."""

from __future__ import annotations

from pathlib import Path

from prefect.runtime import flow_run

from fute.errors import ConfigError
from fute.read_yaml import read_yaml


def run_name() -> str:
    """`my-zoo pipeline`; of a flow over a store alone, its folder's name."""
    given = flow_run.parameters
    file = given.get("study")
    if file is None:
        return f"{Path(str(given.get('store') or '')).name} {flow_run.flow_name}".strip()
    try:
        study = read_yaml(Path(file).expanduser(), "study file")
    except ConfigError:  # said by the flow itself
        study = None
    name = study.get("name") if isinstance(study, dict) else None
    return f"{name or Path(file).stem} {flow_run.flow_name}"
