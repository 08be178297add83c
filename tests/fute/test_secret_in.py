"""Keys and passwords among settings: found by name or by what they look like, and never shown."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from fute.config import EndpointConfig
from fute.errors import ConfigError
from fute.load_study import study_from_mapping
from fute.secret_in import secret_in

CANARY = "sk-canary-0123456789abcdef"


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": "x"},
        {"apiKey": "abc"},
        {"openai-api-key": "abc"},
        {"extra_headers": {"Authorization": "abcdefgh"}},
        {"headers": [{"x-api-key": "k"}]},
        {"password": "p"},
        {"client_secret": "a"},
        {"proxy": {"auth": "a:b"}},
        {"token": "xyz"},
        {"user": CANARY},
        {"anything": "Bearer abcdefghi"},
        {"anything": "AIzaSyA12B34567c890abcdefg"},
        {"anything": "0123456789abcdef0123456789abcdef"},
        {"deep": [[{"er": ("hf_abCd3fgh1j0k23456789",)}]]},
    ],
    ids=str,
)
def test_what_looks_like_a_key_is_found(settings: dict[str, Any]) -> None:
    assert secret_in(settings) is not None


@pytest.mark.parametrize(
    "settings",
    [
        {"reasoning_effort": "low", "stop_token_ids": [1, 2], "eos_token": "</s>", "prompt_cache_key": "study-one"},
        {"draft_model": "meta-llama/Llama-3.2-1B-Instruct", "other": "gpt-4o-mini-2024-07-18"},
        {"guided_regex": "[A-Za-z0-9]{20}", "stop": ["\n\n", "###"]},
        {"adapter_id": "abcdef0123456789abcdef", "revision": "53aa51172d142c89d9012cce15ae4d6cc0ca6895"},
        {"key": "label", "api_key": None, "max_tokens": 5, "seed": 12345678901234567890},
        {"lora": "checkpoint20240101", "backend": "outlines0123456789"},
        {"chat_template": "{{ a }} and 0123456789abcdef0a"},
    ],
    ids=str,
)
def test_what_servers_take_as_parameters_is_none(settings: dict[str, Any]) -> None:
    assert secret_in(settings) is None


def test_settings_that_hold_themselves_or_one_thing_in_many_places_are_walked_once() -> None:
    itself: dict[str, Any] = {}
    itself["again"] = itself
    doubled: list[Any] = ["x" * 900 + "1" * 90]
    for _ in range(100):
        doubled = [doubled, doubled]
    started = time.perf_counter()
    secret_in({"itself": itself, "doubled": doubled})
    assert time.perf_counter() - started < 1


def test_an_endpoint_with_a_key_among_its_parameters_is_refused_without_showing_it() -> None:
    fields = {"id": "e", "base_url": "http://127.0.0.1/v1", "model": "m", "parameters": {"extra": {"api_key": CANARY}}}
    study = {"name": "s", "pool": {"sources": [{"data": {"files": "*.csv"}}]}, "endpoints": [fields]}
    with pytest.raises(
        ConfigError, match=r"endpoints\[0\].parameters: extra.api_key looks like a key.*api_key_env"
    ) as told:
        study_from_mapping(study, Path())
    assert "canary" not in str(told.value)
    with pytest.raises(ValueError, match="extra.api_key") as raised:
        EndpointConfig.model_validate(fields)
    assert "canary" not in str(raised.value)
