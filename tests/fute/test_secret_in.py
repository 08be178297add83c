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
        {"dsn": "postgresql://fute:hunter2@db.internal/tickets"},
        {"dsn": "postgresql://fute:hun/ter2@db.internal/tickets"},
        {"dsn": "host=db.internal user=fute password=hunter2"},
        {"url": "https://api.example/rows?limit=5&api_key=hunter"},
        {"url": "https://api.example/rows?key=hunter"},
        {"url": "https://blob.example/rows?sv=1&sig=hunter"},
        {"url": "https://api.example/rows?pass%77ord=hunter"},
        {"pwd": "p"},
        {"db_pw": "p"},
        {"db_token": "p"},
        {"x-vault-token": "p"},
        {"anything": "hf_abcdefghijklmnopqrst"},
        {"anything": "ghp_abcdefghijklmnopqrst"},
        {"anything": "xoxb-abcdefghij"},
        {"anything": "AKIAABCDEFGHIJKLMNOP"},
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
        {"bos_token": "<s>", "pad_token": "[PAD]", "think_end_token": "</think>", "max_tokens_field": "max_tokens"},
        {"tokens": "many", "prompt_tokens": "few", "token_ids": "a", "path": "data/hf_models", "tokenizer": "word"},
        {"url": "http://localhost:8000/users/@me?limit=5&format=csv", "file": "s3://bucket/it:is@home"},
        {"query": "SELECT body FROM tickets WHERE key='open' AND token='x'", "host": "https://sk-hosting.example/v1"},
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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("service", "https://u:hunter2@x"),
        ("service", "https://x/v1?api-key=hunter2"),
        ("base_url", "https://gw/sk-hunter2abcdefgh/v1"),
        ("base_url", "https://gw/hf_hunter2abcdefghijkl/v1"),
    ],
)
def test_an_address_with_a_key_in_it_is_refused_without_showing_it(field: str, value: str) -> None:
    endpoint = {"id": "e", "base_url": "http://127.0.0.1/v1", "model": "m", field: value}
    study = {"name": "s", "pool": {"sources": [{"data": {"files": "*.csv"}}]}, "endpoints": [endpoint]}
    with pytest.raises(ConfigError, match=rf"endpoints\[0\].{field}: holds a key or a password") as told:
        study_from_mapping(study, Path())
    assert "hunter2" not in str(told.value)


def test_names_of_hosts_and_accounts_that_look_random_are_no_keys() -> None:
    for url in (
        "https://xk2j3h4k5l6m7n8p.us-east-1.aws.endpoints.huggingface.cloud/v1",
        "https://api.cloudflare.com/client/v4/accounts/0123456789abcdef0123456789abcdef/ai/v1",
    ):
        assert EndpointConfig(id="e", base_url=url, service=url, model="m").base_url == url
