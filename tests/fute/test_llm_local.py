"""Language models in this process, against plain one-row forward passes."""

from __future__ import annotations

import importlib.util
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from fute.config import EndpointConfig, PromptConfig
from fute.errors import ConfigError, ModelError
from fute.llm import local_model
from fute.llm.endpoint import located, request_fields
from fute.llm.local import connect, source_of
from fute.llm.local_model import LocalModel, shared_model
from fute.llm.local_weights import Weights
from fute.llm.local_words import word_tree
from fute.llm.perplexity import echo_request, perplexity
from fute.llm.types import SCORED, ChatRequest, Message
from fute.models.prompted import PromptedModel
from fute.types import TextTable
from tests.fute.tiny_surrogates import save_tiny
from tests.fute.tiny_writers import KINDS, save_writer

PROMPT = PromptConfig(
    id="p", template="the {{text}} sat on", verbalizer={"animal": ["cat", "big dog"], "place": ["lake"]}
)
TEXTS = [
    "cat",
    "small red bird",
    "old dog and new fish",
    "tree",
    "big log under a mat",
    "fish",
    "blue lake over the mat",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("writers")
    for kind in KINDS:
        save_writer(kind, folder / kind)
    return folder


def endpoint(folders: Path, kind: str, **local: object) -> EndpointConfig:
    return located(
        EndpointConfig.model_validate(
            {"id": "e", "api": "local", "model": kind, "local": {"device": "cpu", "batch_size": 4, **local}}
        ),
        folders,
    )


def load_weights(endpoint: EndpointConfig) -> Weights:
    return shared_model(source_of(endpoint), endpoint.local).weights


def request(text: str, **fields: object) -> ChatRequest:
    return ChatRequest("local", "", "m", (Message("user", text),), **fields)  # type: ignore[arg-type]


def next_token_logprobs(weights: Weights, text: str, beginning: list[int]) -> torch.Tensor:
    """Slow: one row, no padding, all positions."""
    ids = weights.tokenizer(text)["input_ids"]
    with torch.inference_mode():
        if weights.seq2seq:
            decoder = torch.tensor([[0, *beginning]])
            logits = weights.model(input_ids=torch.tensor([ids]), decoder_input_ids=decoder).logits
        else:
            logits = weights.model(torch.tensor([ids + beginning])).logits
    return logits[0, -1].log_softmax(-1)


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_scored_as_the_product_of_their_tokens_whatever_else_is_asked(folders, kind):
    weights = load_weights(endpoint(folders, kind))
    ids = weights.tokenizer.convert_tokens_to_ids
    table = TextTable(TEXTS)
    outputs = PromptedModel("m", PROMPT, endpoint(folders, kind)).outputs(table).validate(len(TEXTS))
    expected = []
    for text in TEXTS:
        prompt = f"the {text} sat on"
        first = next_token_logprobs(weights, prompt, []).exp()
        after_big = next_token_logprobs(weights, prompt, [ids("big")]).exp()
        animal = first[ids("cat")] + first[ids("big")] * after_big[ids("dog")]
        place = first[ids("lake")]
        expected.append([float(animal / (animal + place)), float(place / (animal + place))])
    np.testing.assert_allclose(outputs.values, expected, rtol=1e-4)
    assert outputs.details["from_logprobs"] == len(TEXTS)
    assert float(np.ptp(outputs.values[:, 0])) > 0.01


def test_a_word_that_begins_another_one_gives_up_what_the_longer_one_takes(folders):
    weights = load_weights(endpoint(folders, "gpt2"))
    model = LocalModel(weights, 4)
    ids = weights.tokenizer.convert_tokens_to_ids
    answer = model.complete(request("the cat", candidates=("big", "big dog", "big dog ran", "on")))
    assert answer.finish_reason == SCORED
    assert answer.logprobs is not None
    found = dict(answer.logprobs[0].top)
    first = next_token_logprobs(weights, "the cat", []).exp()[ids("big")]
    dog = next_token_logprobs(weights, "the cat", [ids("big")]).exp()[ids("dog")]
    ran = next_token_logprobs(weights, "the cat", [ids("big"), ids("dog")]).exp()[ids("ran")]
    assert np.exp(found["big"]) == pytest.approx(float(first * (1 - dog)), rel=1e-4)
    assert np.exp(found["big dog"]) == pytest.approx(float(first * dog * (1 - ran)), rel=1e-4)
    assert np.exp(found["big dog ran"]) == pytest.approx(float(first * dog * ran), rel=1e-4)


def test_a_word_is_looked_for_in_several_spellings_and_each_spelling_counts_once():
    class Letters:
        unk_token_id = None

        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": [ord(letter) for letter in text]}

    tree = word_tree(["no", "No", "yes"], Letters(), "m")
    assert {"".join(map(chr, ids)) for ids in tree.spellings[0]} == {"no", " no", "No", " No", "NO", " NO"}
    assert tree.spellings[1] == ()  # all of its spellings are those of the first word
    assert next(iter(tree.wanted)) == ()
    values = tree.word_logprobs(defaultdict(lambda: -1.0))
    assert values[0] == pytest.approx(np.log(3 * np.exp(-2) + 3 * np.exp(-3)))
    assert values[1] == -100.0


def test_a_word_that_the_tokenizer_does_not_know_is_refused(folders):
    prompt = PROMPT.model_copy(update={"verbalizer": {"a": ["cat"], "b": ["zebra"]}})
    with pytest.raises(ConfigError, match="does not know the answer word 'zebra'"):
        PromptedModel("m", prompt, endpoint(folders, "gpt2")).outputs(TextTable(TEXTS))


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_text_does_not_depend_on_the_batch_and_equals_step_by_step(folders, kind):
    weights = load_weights(endpoint(folders, kind))
    model = LocalModel(weights, 3)
    with ThreadPoolExecutor(len(TEXTS)) as pool:
        together = list(pool.map(lambda text: model.complete(request(text, max_tokens=5)), TEXTS))
    for text, answer in zip(TEXTS, together, strict=True):
        written: list[int] = []
        while len(written) < 5:
            token = int(next_token_logprobs(weights, text, written).argmax())
            if token == 3:
                break
            written.append(token)
        assert answer.text == weights.tokenizer.decode(written, skip_special_tokens=True)
        assert answer.tokens_out == len(written)
        assert answer.finish_reason == ("length" if len(written) == 5 else "stop")
    assert len({answer.text for answer in together}) > 1


def test_a_draw_depends_on_the_sample_and_on_nothing_else(folders):
    model = LocalModel(load_weights(endpoint(folders, "gpt2")), 4)
    draws = [model.complete(request("the cat", temperature=1.0, sample=i)).text for i in range(6)]
    assert len(set(draws)) > 1
    assert [model.complete(request("the cat", temperature=1.0, sample=i)).text for i in range(6)] == draws


def test_requests_that_wait_are_answered_together_and_failures_stay_their_own(folders, monkeypatch):
    model = LocalModel(load_weights(endpoint(folders, "gpt2")), 4)
    sizes, begun, go_on = [], threading.Event(), threading.Event()
    score_words = local_model.score_words

    def watched(weights, prompts, trees, batch_size):
        sizes.append(len(prompts))
        begun.set()
        go_on.wait(30)
        return score_words(weights, prompts, trees, batch_size)

    monkeypatch.setattr(local_model, "score_words", watched)
    good = [request(text, candidates=("cat", "dog")) for text in TEXTS]
    with ThreadPoolExecutor(len(TEXTS) + 1) as pool:
        first = pool.submit(model.complete, good[0])
        assert begun.wait(30)
        rest = [pool.submit(model.complete, r) for r in good[1:]]
        bad = pool.submit(model.complete, request("the", candidates=("zebra",)))
        for _ in range(3000):
            if len(model._waiting) == len(TEXTS):  # all but the first
                break
            threading.Event().wait(0.01)
        go_on.set()
        assert all(future.result().finish_reason == SCORED for future in [first, *rest])
        assert isinstance(bad.exception(), ConfigError)
    assert sizes == [1, len(TEXTS) - 1]


def test_the_prompts_own_perplexity_is_that_of_its_tokens(folders):
    weights = load_weights(endpoint(folders, "gpt2"))
    answer = LocalModel(weights, 4).complete(echo_request(request("the cat sat on")))
    ids = weights.tokenizer("the cat sat on")["input_ids"]
    logprobs = [float(next_token_logprobs(weights, "the", ids[1:i])[ids[i]]) for i in range(1, 4)]
    assert perplexity(answer) == pytest.approx(np.exp(-np.mean(logprobs)), rel=1e-4)
    values = PromptedModel("m", PROMPT, endpoint(folders, "gpt2")).perplexities(TextTable(TEXTS))
    assert np.isfinite(values).all()


def test_a_seq2seq_model_has_no_perplexity_of_its_prompt(folders):
    with pytest.raises(ModelError, match="reads its prompt in an encoder"):
        PromptedModel("m", PROMPT, endpoint(folders, "t5")).perplexities(TextTable(TEXTS))


def test_reasoning_is_written_before_the_answer_is_scored(folders):
    prompt = PROMPT.model_copy(update={"cot": True, "follow_up": "so the"})
    model = PromptedModel("m", prompt, endpoint(folders, "gpt2"), max_reasoning_tokens=4)
    outputs = model.outputs(TextTable(["cat", "tree"]))
    assert outputs.details["calls"] == 4
    assert outputs.details["tokens_out"] > 0
    assert outputs.details["from_logprobs"] == 2


def test_a_long_prompt_loses_its_middle_and_keeps_its_ends(folders):
    weights = load_weights(endpoint(folders, "gpt2"))
    words = " ".join(["cat"] * 50)
    answer = LocalModel(weights, 4).complete(request(f"the {words} sat on", candidates=("cat", "dog")))
    assert (answer.tokens_in, answer.prompt_cut) == (40, True)
    short = LocalModel(weights, 4).complete(
        request(f"the {words} sat on", candidates=("cat", "dog"), extra={"max_prompt_tokens": 8})
    )
    same = LocalModel(weights, 4).complete(request("the cat cat cat cat cat sat on", candidates=("cat", "dog")))
    assert (short.tokens_in, same.prompt_cut) == (8, False)
    assert short.logprobs == same.logprobs


def test_a_chat_template_is_used_where_the_tokenizer_has_one(folders, tmp_path):
    save_writer("gpt2", tmp_path / "chat")
    template = "{% for m in messages %}{{ m['role'] == 'system' and 'red ' or '' }}{{ m['content'] }} {% endfor %}the"
    (tmp_path / "chat" / "chat_template.jinja").write_text(template)
    chat = LocalModel(load_weights(endpoint(tmp_path, "chat")), 4)
    plain = LocalModel(load_weights(endpoint(folders, "gpt2")), 4)
    messages = (Message("system", "old"), Message("user", "cat sat"))
    asked = chat.complete(ChatRequest("l", "", "m", messages, candidates=("cat", "dog")))
    assert asked.logprobs == plain.complete(request("red old cat sat the", candidates=("cat", "dog"))).logprobs


def test_the_identity_is_that_of_the_files_and_of_the_precision_and_not_of_the_folder(folders, tmp_path):
    save_writer("gpt2", tmp_path / "copy")
    here, copy = endpoint(folders, "gpt2"), endpoint(tmp_path, "copy")
    assert request_fields(here) == request_fields(copy)
    base = PromptedModel("m", PROMPT, here)
    assert base.fingerprint == PromptedModel("m", PROMPT, copy).fingerprint
    for other in (endpoint(folders, "t5"), endpoint(folders, "gpt2", dtype="bfloat16")):
        assert base.fingerprint != PromptedModel("m", PROMPT, other).fingerprint
    assert base.fingerprint == PromptedModel("m", PROMPT, endpoint(folders, "gpt2", batch_size=9)).fingerprint


def test_all_prompts_share_one_loaded_model(folders):
    assert load_weights(endpoint(folders, "gpt2")) is load_weights(endpoint(folders, "gpt2", batch_size=2))


def test_half_precision_gives_nearly_the_same_probabilities(folders):
    table = TextTable(TEXTS)
    exact = PromptedModel("m", PROMPT, endpoint(folders, "gpt2")).outputs(table).values
    half = PromptedModel("m", PROMPT, endpoint(folders, "gpt2", dtype="bfloat16")).outputs(table).values
    np.testing.assert_allclose(exact, half, atol=0.1)


@pytest.mark.parametrize("settings", [{"quantization": "8bit"}, {"quantization": "4bit"}, {"device_map": "auto"}])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_in_few_bits_and_spread_over_devices_answer_too(tmp_path, kind, settings):
    for package in ("bitsandbytes", "accelerate"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed (the extra fute[quantized])")
    save_writer(kind, tmp_path / kind, width=128)  # its blocks are of 64 weights
    outputs = PromptedModel("m", PROMPT, endpoint(tmp_path, kind, **settings)).outputs(TextTable(TEXTS))
    assert outputs.validate(len(TEXTS)).details["from_logprobs"] == len(TEXTS)


def test_what_cannot_be_run_is_said_clearly(folders, tmp_path):
    ask = request("the cat")
    with pytest.raises(ConfigError, match="there is no folder './nowhere'"):
        request_fields(EndpointConfig(id="e", api="local", model="./nowhere"))
    with pytest.raises(ConfigError, match="CUDA devices"):
        connect(endpoint(folders, "gpt2", device="cuda:9"), None).complete(ask)
    save_tiny("bert", tmp_path / "bert")
    with pytest.raises(ModelError, match="weights of a language model"):
        connect(endpoint(tmp_path, "bert"), None).complete(ask)


@pytest.mark.parametrize(
    ("settings", "package"), [({"quantization": "4bit"}, "bitsandbytes"), ({"device_map": "auto"}, "accelerate")]
)
def test_a_missing_package_is_named_with_the_way_to_install_it(folders, monkeypatch, settings, package):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == package else found(name, *a))
    with pytest.raises(ConfigError, match=rf"needs the package {package}; install it with: pip install 'fute"):
        connect(endpoint(folders, "gpt2", **settings), None).complete(request("the cat"))
