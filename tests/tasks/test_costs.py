"""What asking is said to cost before it is done: a prompt that makes the model think first costs no more than that."""

from __future__ import annotations

from pathlib import Path

from fute.config import EndpointConfig, PromptConfig
from fute.llm.cache import MemoryLedger
from fute.llm.types import CHARACTERS_A_TOKEN
from fute.models.prompted import PromptedModel
from fute.types import TextTable
from storage.store import Store
from tasks.costs import CostEstimate

ENDPOINT = EndpointConfig(
    id="e", base_url="http://127.0.0.1:9/v1", model="m", usd_per_million_tokens_in=1.0, usd_per_million_tokens_out=10.0
)
VERBALIZER = {"good": ["good"], "bad": ["bad"]}
TEXTS = [f"text number {number}" for number in range(10)]


def test_the_reasoning_is_paid_for_twice_as_an_answer_and_as_a_part_of_the_next_question(tmp_path: Path) -> None:
    prompt = PromptConfig(id="p", template="Think about it.\n{{text}}", verbalizer=VERBALIZER, cot=True)
    model = PromptedModel("m", prompt, ENDPOINT, max_reasoning_tokens=400, max_answer_tokens=8, ledger=MemoryLedger())
    cost = CostEstimate(Store(tmp_path)).of(model, ENDPOINT, TextTable(TEXTS), MemoryLedger())
    said = sum(len(model.request(text).messages[0].content) for text in TEXTS) / CHARACTERS_A_TOKEN
    assert cost.calls == 20
    tokens_in, tokens_out = 2 * said + 10 * 400, 10 * (400 + 8)
    assert cost.tokens >= tokens_in + tokens_out
    assert cost.usd is not None
    assert cost.usd >= (tokens_in + 10 * tokens_out) / 1e6
    # Each kind has a rate of its own: the second answers are short, and are not reckoned as long as the first.
    assert cost.tokens < tokens_in + tokens_out + 20 * 100
    assert "longest reasoning that is allowed (400 tokens, a bound)" in cost.basis
