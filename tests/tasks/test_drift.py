"""The check of one model, called as a plain function: a panel that is not the baseline's is said to be another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from fute.config import DriftConfig, EndpointConfig, PromptConfig, PromptModel, SurrogateConfig
from fute.errors import DataError
from fute.types import Pool, TextTable
from tasks.drift import check_drift
from tasks.run import Run
from tasks.study import StudyParts
from tests.llm_server import LlmServer, by_first_word

PROMPT = PromptConfig(id="p", template="{{text}}", verbalizer={"good": ["good"], "bad": ["bad"]})
MODEL = PromptModel(kind="prompt", id="p/api", prompt="p", endpoint="api")


def test_another_panel_is_no_silent_new_baseline(tmp_path: Path) -> None:
    run = Run(study="s", store=str(tmp_path), base_dir=str(tmp_path), seed=0)
    texts = [f"{'good' if number % 2 else 'bad'} text {number}" for number in range(40)]
    pool = Pool(TextTable(texts), ["source"] * 40)
    run.open_store().put_pool(pool, run.stamp)
    with LlmServer(by_first_word) as server:
        endpoint = EndpointConfig(id="api", base_url=server.base_url, service="test", model="m")
        parts = StudyParts(surrogate=SurrogateConfig(), endpoints={"api": endpoint}, prompts={"p": PROMPT})
        first = check_drift.fn(run, MODEL, parts, pool.id, DriftConfig(panel_rows=40))
        assert first.new_baseline
        assert server.n_requests == 80
        with pytest.raises(DataError, match=r"p/api was not checked: its baseline is of another panel.*--renew"):
            check_drift.fn(run, MODEL, parts, pool.id, DriftConfig(panel_rows=20))
        assert server.n_requests == 80
        renewed = check_drift.fn(run, MODEL, parts, pool.id, DriftConfig(panel_rows=20), renew=True)
        assert renewed.new_baseline
        assert server.n_requests == 80 + 2 * 20
