"""What T5's encoder makes of the pool is computed once, kept without padding, and read back as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fute.surrogate.load import Surrogate
from fute.surrogate.prefix_attention import prefixes
from fute.surrogate.reader import GIB, Reader
from fute.surrogate.states import cross_states, encoder_states, token_states
from fute.surrogate.tokens import pad_batch, tokenise
from fute.types import TextTable

from .test_tupate import pool_of, probabilities, texts_of, tupate
from .tiny_surrogates import load_tiny

TEXTS = TextTable(texts_of(4, 70))


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Surrogate:
    return load_tiny("t5", tmp_path_factory.mktemp("surrogates"), whole=True, batch_size=16)


def gib_for_states(t5: Surrogate) -> float:
    """Enough for the encoder's states (32 numbers a token), not for keys and values (128 numbers a token)."""
    return int(tokenise(t5, TEXTS).lengths.sum()) * 40 * 4 / GIB


@pytest.mark.parametrize("memory", ["all", "states", "nothing"])
def test_states_are_those_of_the_whole_model(t5: Surrogate, memory: str) -> None:
    keep = {"all": 1.0, "states": gib_for_states(t5), "nothing": 0.0}[memory]
    tokens = tokenise(t5, TEXTS)
    reader = Reader(t5, tokens, keep)
    rows = np.array([5, 69, 0, 33])
    reading = reader.read(rows)
    batch = pad_batch(t5, tokens, rows)
    with torch.no_grad():
        ours = token_states(t5, reading.batch, cross=reading.cross)
        start = torch.full_like(batch["input_ids"][:, :1], t5.model.config.pad_token_id)
        theirs = t5.model(**batch, decoder_input_ids=torch.cat([start, batch["input_ids"][:, :-1]], dim=1))
        plain = token_states(t5, batch)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(ours[real], theirs.last_hidden_state[real], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(plain[real], theirs.last_hidden_state[real], rtol=1e-5, atol=1e-5)


def test_the_encoder_reads_each_row_once(t5: Surrogate) -> None:
    tokens = tokenise(t5, TEXTS)
    reader = Reader(t5, tokens, 1.0)
    seen: list[int] = []
    hook = t5.model.encoder.register_forward_hook(lambda _, __, out: seen.append(len(out.last_hidden_state)))
    for rows in (np.arange(40), np.arange(20, 70), np.arange(70)):
        reader.read(rows)
    hook.remove()
    assert sum(seen) == 70


def test_rows_that_are_not_wanted_first_wait_until_they_are_asked_for(t5: Surrogate) -> None:
    reader = Reader(t5, tokenise(t5, TEXTS), 1.0, first=np.arange(0, 70, 2))
    seen: list[int] = []
    hook = t5.model.encoder.register_forward_hook(lambda _, __, out: seen.append(len(out.last_hidden_state)))
    reader.read(np.arange(0, 70, 2))
    hook.remove()
    assert sum(seen) == 35


@pytest.mark.parametrize("memory", ["all", "states"])
def test_what_is_kept_does_not_depend_on_what_was_read_before(t5: Surrogate, memory: str) -> None:
    keep = 1.0 if memory == "all" else gib_for_states(t5)
    tokens = tokenise(t5, TEXTS)
    one, other = (Reader(t5, tokens, keep, first=np.arange(50)) for _ in range(2))
    for rows in ([60], [3, 4, 5], [69, 1]):
        one.read(np.array(rows))
    rows = np.array([7, 60, 3, 69])
    first, second = one.read(rows).cross, other.read(rows).cross
    assert first is not None
    assert second is not None
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])


def test_the_memory_bound_holds(t5: Surrogate) -> None:
    tokens = tokenise(t5, TEXTS)
    n_tokens = int(tokens.lengths.sum())
    kept = [Reader(t5, tokens, keep)._kept for keep in (1.0, gib_for_states(t5), 0.0)]
    assert kept[0] is not None
    assert kept[1] is not None
    assert kept[0].numel() == n_tokens * 2 * 2 * 32  # layers, keys and values, heads x head_dim
    assert kept[1].numel() == n_tokens * 32
    assert kept[2] is None


def test_copies_of_a_batch_share_the_encoders_half(t5: Surrogate) -> None:
    method = tupate(t5)
    t5, sites = method.surrogate, method._sites
    tokens = tokenise(t5, TEXTS)
    batch = pad_batch(t5, tokens, np.arange(6))
    prefix = torch.randn(2, len(sites), 2, 4, 3, 8, generator=torch.Generator().manual_seed(0))

    def states(groups: torch.Tensor, **how: Any) -> torch.Tensor:
        by_module = {site.module: (groups[:, i, 0], groups[:, i, 1]) for i, site in enumerate(sites)}
        with torch.no_grad(), prefixes(by_module):
            return token_states(t5, batch, **how)

    with torch.no_grad():
        cross = cross_states(t5, encoder_states(t5, batch))
    alone = [states(prefix[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(states(prefix, cross=cross, copies=2), torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_other_families_have_nothing_to_keep(tmp_path: Path) -> None:
    bert = load_tiny("bert", tmp_path)
    reading = Reader(bert, tokenise(bert, TEXTS), 1.0).read(np.arange(3))
    assert reading.cross is None
    assert reading.mask.shape == reading.batch["input_ids"].shape


@pytest.mark.parametrize("memory", ["states", "nothing"])
def test_less_memory_changes_no_vector(t5: Surrogate, memory: str) -> None:
    keep = gib_for_states(t5) / 4 if memory == "states" else 0.0
    whole = tupate(t5).model(probabilities(pool_of())).vector
    small = tupate(t5, keep_gib=keep).model(probabilities(pool_of())).vector
    assert float(whole @ small) > 0.9999
