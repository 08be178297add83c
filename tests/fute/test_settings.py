"""Every numeric setting has bounds, and no setting holds what cannot be stored."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

import fute.llm.prompt_files  # noqa: F401 (the settings of a prompt file count, too)
from fute.config import EndpointConfig, PythonModel, Study
from fute.errors import ConfigError
from fute.load_study import study_from_mapping
from fute.settings import Settings

WITH_NEGATIVES = {("SurrogateConfig", "layer")}
"""-1 is the last layer; what a model has is known when it is loaded."""
BASE = {"name": "s", "pool": {"sources": [{"data": {"files": "p.csv"}}]}}


def settings(base: type[BaseModel] = Settings) -> Iterator[type[BaseModel]]:
    for found in base.__subclasses__():
        if found.__module__.startswith("fute."):
            yield found
            yield from settings(found)


def numeric_fields() -> list[tuple[type[BaseModel], str]]:
    return [
        (model, name)
        for model in settings()
        for name, field in model.model_json_schema()["properties"].items()
        if {"integer", "number"} & {part.get("type") for part in (field, *field.get("anyOf", ()))}
    ]


def errors_at(model: type[BaseModel], name: str, value: Any) -> bool:
    try:
        model.model_validate({name: value})
    except ValidationError as exc:
        return any(name in error["loc"] or name in error["msg"] for error in exc.errors() if error["type"] != "missing")
    return False


def test_no_numeric_setting_takes_what_is_no_number_or_lies_below_zero() -> None:
    fields = numeric_fields()
    assert len(fields) > 80
    for model, name in fields:
        for value in (float("nan"), float("inf"), -float("inf"), "nan", "inf", -1, -0.5, -(2**70)):
            if (model.__name__, name) in WITH_NEGATIVES and isinstance(value, int):
                continue
            assert errors_at(model, name, value), (model.__name__, name, value)


def test_a_number_that_is_none_is_told_with_its_field(tmp_path: Path) -> None:
    for fields, says in (
        ({"endpoints": [{"id": "e", "model": "m", "base_url": "http://h/v1", "timeout_s": float("inf")}]},
         "endpoints[0].timeout_s: should be a finite number (got inf)"),
        ({"endpoints": [{"id": "e", "model": "m", "base_url": "http://h/v1", "timeout_s": 1e300}]},
         "endpoints[0].timeout_s: should be less than or equal to 86400"),
        ({"budget": {"max_usd": float("nan")}}, "budget.max_usd: should be a finite number (got nan)"),
        ({"workers": 10**5000}, "workers: "),
        ({"store": "a\0b"}, "store: no NUL character in it"),
    ):  # fmt: skip
        with pytest.raises(ConfigError) as told:
            study_from_mapping({**BASE, **fields}, tmp_path)
        assert says in str(told.value)


def recursive() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["again"] = found
    return found


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], datetime.date(2024, 1, 1), b"x", {1, 2}, recursive()],
                         ids=["nan", "inf", "date", "bytes", "set", "recursive"])  # fmt: skip
def test_free_fields_hold_what_json_holds(value: Any) -> None:
    for model, field, rest in (
        (EndpointConfig, "parameters", {"id": "e", "model": "m", "base_url": "http://h/v1"}),
        (PythonModel, "kwargs", {"id": "m", "kind": "python", "entry_point": "a:b"}),
    ):
        with pytest.raises(ValidationError, match="holds what JSON cannot hold"):
            model.model_validate({**rest, field: {"x": value}})


@pytest.mark.parametrize("fields", [
    {"api_key": "very-secret"}, {"apiKey": "very-secret"}, {"X-Api-Key": "very-secret"},
    {"extra_headers": {"Authorization": "Bearer very-secret"}},
    {"extra_body": {"x": [{"access_token": "very-secret"}]}},
    {"client_secret": "very-secret"}, {"db": {"password": "very-secret"}},
])  # fmt: skip
def test_a_key_among_free_fields_is_refused_and_not_shown(tmp_path: Path, fields: dict[str, Any]) -> None:
    endpoint = {"id": "e", "model": "m", "base_url": "http://h/v1", "parameters": fields}
    model = {"kind": "python", "id": "m", "entry_point": "a:b", "kwargs": fields}
    for study in ({"endpoints": [endpoint]}, {"models": [model]}):
        with pytest.raises(ConfigError, match="looks like a key or a password") as told:
            study_from_mapping({**BASE, **study}, tmp_path)
        assert "very-secret" not in str(told.value)


def test_fields_that_only_sound_like_keys_are_taken(tmp_path: Path) -> None:
    fields = {"stop_token_ids": [1], "eos_token": "</s>", "key": "label", "token_limit": 5, "return_tokens": True,
              "max_tokens_per_key": 3, "api_key": "", "secret_sharing": None}  # fmt: skip
    study = study_from_mapping(
        {**BASE, "models": [{"kind": "python", "id": "m", "entry_point": "a:b", "kwargs": fields}]}, tmp_path
    )
    assert isinstance(study, Study)
    assert TypeAdapter(dict).validate_python(study.models[0].kwargs) == fields  # type: ignore[union-attr]
