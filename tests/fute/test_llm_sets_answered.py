"""The shipped sets, asked for real: every prompt over HTTP against the small network that follows prompts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq
import pytest

from fute.config import EndpointConfig
from fute.llm.cache import MemoryLedger
from fute.llm.prompt_files import shipped_set
from fute.models.prompted import PromptedModel
from fute.types import TextTable
from tests.llm_server import LlmServer, PromptNetwork, shared_folder

ROWS = 6


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    folder = shared_folder()
    if not (folder / "answerer").is_dir() or not (folder / "data").is_dir():
        pytest.skip(f"no answerer or no data at {folder}; set FUTE_SHARED to the folder that holds them")
    with LlmServer(PromptNetwork(folder / "answerer")) as server:
        yield server


def balanced_rows(task: str, *columns: str) -> tuple[list[list[str]], np.ndarray]:
    """As many rows of every label, the first of each in the file."""
    table = pq.read_table(shared_folder() / "data" / "tasks" / task / "test.parquet")
    labels = table["label"].to_numpy()
    n_labels = int(labels.max()) + 1
    rows = np.concatenate([np.flatnonzero(labels == label)[: ROWS // n_labels] for label in range(n_labels)])
    return [[table[column][int(row)].as_py() for row in rows] for column in columns], labels[rows]


def endpoint(server: LlmServer) -> EndpointConfig:
    return EndpointConfig(id="e", base_url=server.base_url, model="answerer", max_concurrency=4)


def test_every_sentiment_prompt_is_answered_by_log_probabilities_and_most_of_them_rightly(server):
    (texts,), labels = balanced_rows("sst2", "text")
    before, ledger, right = server.n_requests, MemoryLedger(), {}
    prompts = shipped_set("sentiment")
    for prompt in prompts:
        outputs = PromptedModel(prompt.id, prompt, endpoint(server), ledger=ledger).outputs(TextTable(texts))
        outputs.validate(ROWS)
        assert outputs.details["calls"] == ROWS * (1 + prompt.cot), prompt.id
        assert outputs.answered is not None
        assert outputs.answered.all(), prompt.id
        assert outputs.details["from_logprobs"] == ROWS, prompt.id
        right[prompt.id] = float((outputs.values.argmax(axis=1) == labels).mean())
    assert server.n_requests - before == ROWS * 16
    # It says nothing about any prompt: six rows cannot. But labels that were swapped would show.
    assert np.median(list(right.values())) > 0.5
    assert len(set(right.values())) > 2


def test_a_prompt_for_pairs_reads_the_networks_own_probabilities(server):
    (premises, hypotheses), _ = balanced_rows("cb", "text_a", "text_b")
    prompt = next(p for p in shipped_set("nli") if p.id == "nli-follows")
    outputs = PromptedModel("m", prompt, endpoint(server)).outputs(TextTable(premises, hypotheses)).validate(ROWS)
    for row, (premise, hypothesis) in enumerate(zip(premises, hypotheses, strict=True)):
        asked = prompt.template.replace("{{premise}}", premise).replace("{{hypothesis}}", hypothesis)
        assert server._answer is not None
        said = dict(server._answer(asked, None))
        expected = np.array([said["yes"], said["maybe"], said["no"]])
        np.testing.assert_allclose(outputs.values[row], expected / expected.sum(), atol=1e-4)
