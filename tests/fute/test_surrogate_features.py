from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from fute.config import SurrogateConfig
from fute.errors import SurrogateError
from fute.surrogate.features import compute_features
from fute.surrogate.load import Surrogate, load_surrogate
from fute.types import TextTable

from .tiny_surrogates import WORDS, build_model, build_tokenizer, load_tiny

KINDS = ["bert", "roberta", "distilbert", "modernbert", "mpnet", "gpt2", "t5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("surrogates")


def some_table() -> TextTable:
    """30 inputs of 1 to 15 words, every third with a second text; two are too long for 24 tokens."""
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(WORDS, n)) for n in rng.integers(1, 16, 30)]
    pairs = [" ".join(rng.choice(WORDS, 4)) if i % 3 == 0 else None for i in range(30)]
    texts[7] = " ".join(["cat dog"] * 20)
    texts[9] = " ".join(["bird fish"] * 15)
    return TextTable(texts, pairs)


def slow_features(kind: str, table: TextTable, layer: int, max_tokens: int = 24) -> np.ndarray:
    """One input at a time, no padding, float64."""
    model = build_model(kind).double().eval()
    model = model.encoder if kind == "t5" else model
    tokenizer = build_tokenizer(kind)
    rows = []
    for text, pair in zip(table.texts, table.pairs or [None] * len(table), strict=True):
        if kind == "gpt2" and pair is not None:
            text, pair = f"{text}\n{pair}", None
        encoded = tokenizer(text, pair, truncation=True, max_length=max_tokens, return_token_type_ids=True)
        arguments = {"input_ids": torch.tensor([encoded["input_ids"]])}
        if kind == "bert":
            arguments["token_type_ids"] = torch.tensor([encoded["token_type_ids"]])
        with torch.no_grad():
            states = model(**arguments, output_hidden_states=True).hidden_states[layer]
        rows.append(states[0].mean(dim=0).numpy())
    return np.stack(rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", [-1, 0, 1])
def test_features_equal_those_of_one_input_at_a_time_in_float64(folder: Path, kind: str, layer: int) -> None:
    features = compute_features(load_tiny(kind, folder, layer=layer, batch_size=7), some_table())
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, slow_features(kind, some_table(), layer), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
def test_batch_size_and_order_do_not_change_features(folder: Path, kind: str) -> None:
    table = some_table()
    features = compute_features(load_tiny(kind, folder), table)
    one_by_one = compute_features(load_tiny(kind, folder, batch_size=1), table)
    np.testing.assert_allclose(features, one_by_one, atol=2e-5)

    order = np.random.default_rng(0).permutation(len(table))
    reordered = compute_features(load_tiny(kind, folder, batch_size=4), table.take(order))
    np.testing.assert_allclose(features[order], reordered, atol=2e-5)


def test_layer_minus_one_is_the_last_layer(folder: Path) -> None:
    last = compute_features(load_tiny("t5", folder, layer=-1), some_table())
    second = compute_features(load_tiny("t5", folder, layer=2), some_table())
    np.testing.assert_array_equal(last, second)


def test_the_upper_half_is_its_layers_at_unit_length_side_by_side(folder: Path) -> None:
    half = compute_features(load_tiny("bert", folder, layer="upper_half"), some_table())
    expected = []
    for layer in (1, 2):
        states = slow_features("bert", some_table(), layer)
        expected.append(states / np.linalg.norm(states, axis=1, keepdims=True))
    np.testing.assert_allclose(half, np.hstack(expected), atol=2e-5)


def test_the_same_table_gives_the_same_bytes_and_leaves_the_random_state_alone(folder: Path) -> None:
    surrogate = load_tiny("bert", folder)
    state = torch.get_rng_state()
    first = compute_features(surrogate, some_table())
    second = compute_features(surrogate, some_table())
    assert first.tobytes() == second.tobytes()
    assert torch.equal(state, torch.get_rng_state())


def test_a_pair_differs_from_its_two_texts_joined(folder: Path) -> None:
    surrogate = load_tiny("bert", folder)
    pair = compute_features(surrogate, TextTable(["the cat"], ["sat"]))
    single = compute_features(surrogate, TextTable(["the cat sat"]))
    assert np.abs(pair - single).max() > 0.01


def test_cut_inputs_are_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    exact = TextTable([" ".join(["cat"] * 22), " ".join(["cat"] * 23)])
    with caplog.at_level("INFO", logger="fute"):
        compute_features(load_tiny("bert", folder), exact)
    assert "1 of 2 inputs were cut to 24 tokens" in caplog.text


def test_an_input_without_any_token_is_named(folder: Path) -> None:
    with pytest.raises(SurrogateError, match="1 inputs have no token under gpt2, row 1"):
        compute_features(load_tiny("gpt2", folder), TextTable(["cat", "   ", "dog"]))


def test_threads_share_one_surrogate(folder: Path) -> None:
    surrogate = load_tiny("bert", folder)
    expected = compute_features(surrogate, some_table())
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: compute_features(surrogate, some_table()), range(8)))
    for features in results:
        np.testing.assert_array_equal(features, expected)


def test_bfloat16_stays_near_float32(folder: Path) -> None:
    exact = compute_features(load_tiny("bert", folder), some_table())
    near = compute_features(load_tiny("bert", folder, dtype="bfloat16"), some_table())
    cosine = (exact * near).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(near, axis=1)
    assert 0.999 < cosine.min() < 1 - 1e-9


def test_the_embedded_surrogate_puts_like_texts_together(embedded: Surrogate) -> None:
    table = TextTable(["The soup was far too salty.", "This broth had much salt in it.", "Trains leave at noon."])
    features = compute_features(embedded, table)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    same, other = unit[0] @ unit[1], unit[0] @ unit[2]
    assert same > 0.5 > other


@pytest.fixture(scope="module")
def embedded() -> Surrogate:
    return load_surrogate(SurrogateConfig(device="cpu"), Path())
