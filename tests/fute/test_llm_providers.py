"""The registry of providers: a new one is a file and a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fute.config import EndpointConfig, PromptConfig
from fute.errors import ConfigError
from fute.llm.providers import PROVIDERS, Provider
from fute.load_study import study_from_mapping
from fute.models.prompted import PromptedModel
from fute.types import TextTable

NEW = """
from fute.llm.types import Answer

def connect(endpoint, api_key):
    class Says:
        def complete(self, request):
            return Answer("good" if "fine" in request.messages[-1].content else "bad")
    return Says()
"""


def test_a_new_provider_is_a_file_and_a_line(tmp_path, monkeypatch):
    (tmp_path / "says_good.py").write_text(NEW)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(PROVIDERS, "says_good", Provider("says_good"))
    prompt = PromptConfig(id="p", template="{{text}}", verbalizer={"n": ["bad"], "p": ["good"]})
    endpoint = EndpointConfig(id="e", api="says_good", base_url="http://nowhere", model="m")
    outputs = PromptedModel("m", prompt, endpoint).outputs(TextTable(["fine", "so so"]))
    np.testing.assert_array_equal(outputs.values, [[0, 1], [1, 0]])


@pytest.mark.parametrize("api", sorted(PROVIDERS))
def test_every_provider_has_its_file(api):
    assert (Path(__file__).parents[2] / (PROVIDERS[api].module.replace(".", "/") + ".py")).is_file()


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ({"api": "openai"}, r"no api 'openai'.*There are: openai_chat, openai_completions, anthropic, local"),
        ({"api": "openai_chat"}, "api: openai_chat needs base_url"),
        ({"api": "local", "base_url": "http://127.0.0.1/v1"}, "runs in this process; take base_url out"),
        ({"api": "local", "local": {"quantization": "3bit"}}, r"(?s)quantization.*8bit"),
    ],
)
def test_an_endpoint_that_cannot_be_reached_is_refused_when_the_study_is_read(tmp_path, endpoint, message):
    fields = {"name": "s", "pool": {"sources": [{"data": {"files": "*.csv"}}]}}
    with pytest.raises(ConfigError, match=message):
        study_from_mapping({**fields, "endpoints": [{"id": "e", "model": "m", **endpoint}]}, tmp_path)
