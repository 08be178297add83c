from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, DynamicCache

from fute.errors import SurrogateError
from fute.surrogate.prefix_attention import AttentionSite, attention_sites, enable_prefixes, fastest_kernel, prefixes

from .tiny_surrogates import build_model, slow_bert

IDS = torch.tensor([[2, 7, 9, 12, 3, 0], [2, 8, 3, 0, 0, 0], [2, 5, 6, 7, 8, 3]])
MASK = (IDS > 0).long()


def enabled(kind: str, kernel: Any = "sdpa", dtype: torch.dtype = torch.float32) -> Any:
    model = build_model(kind).to(dtype).eval()
    enable_prefixes(model, kernel)
    return model


def arguments(kind: str) -> dict[str, Tensor]:
    named = {"input_ids": IDS, "attention_mask": MASK}
    return {**named, "decoder_input_ids": IDS[:, :4]} if kind == "t5" else named


def random_prefixes(sites: list[AttentionSite], n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (len(sites), 2, sites[0].heads, n, sites[0].head_dim)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def by_module(sites: list[AttentionSite], prefix: Tensor) -> dict[nn.Module, tuple[Tensor, Tensor]]:
    return {site.module: (prefix[i, 0], prefix[i, 1]) for i, site in enumerate(sites)}


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_states_and_gradients_of_bert_equal_the_slow_version(kernel: str) -> None:
    model = enabled("bert", kernel, torch.float64)
    sites = attention_sites(lambda: model(**arguments("bert")))
    prefix = random_prefixes(sites, 3, torch.float64)
    with prefixes(by_module(sites, prefix)):
        fast = model(**arguments("bert")).last_hidden_state
    weights = torch.randn(32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    slow_total = torch.zeros((), dtype=torch.float64)
    fast_total = torch.zeros((), dtype=torch.float64)
    for row in range(len(IDS)):
        length = int(MASK[row].sum())
        slow = slow_bert(model, IDS[row, :length].tolist(), prefix)
        torch.testing.assert_close(fast[row, :length], slow, rtol=1e-9, atol=1e-9)
        slow_total = slow_total + (slow @ weights).sum()
        fast_total = fast_total + (fast[row, :length] @ weights).sum()
    (slow_gradient,) = torch.autograd.grad(slow_total, prefix)
    (fast_gradient,) = torch.autograd.grad(fast_total, prefix)
    torch.testing.assert_close(fast_gradient, slow_gradient, rtol=1e-8, atol=1e-9)


def test_a_prefix_of_gpt2_equals_cached_keys_and_values_without_a_shift_of_positions() -> None:
    model = enabled("gpt2", dtype=torch.float64)
    sites = attention_sites(lambda: model(**arguments("gpt2")))
    prefix = random_prefixes(sites, 3, torch.float64)
    with prefixes(by_module(sites, prefix)), torch.no_grad():
        ours = model(input_ids=IDS[2:], use_cache=False).last_hidden_state
    model.set_attn_implementation("eager")
    cache = DynamicCache()
    for i in range(2):
        cache.update(prefix[i, 0][None].detach(), prefix[i, 1][None].detach(), i)
    with torch.no_grad():
        cached = model(input_ids=IDS[2:], past_key_values=cache, position_ids=torch.arange(6)[None]).last_hidden_state
    torch.testing.assert_close(ours, cached, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "modernbert", "gpt2", "t5"])
def test_every_attention_layer_sees_its_prefix_and_gets_a_gradient(kind: str) -> None:
    model = enabled(kind)
    sites = attention_sites(lambda: model(**arguments(kind)))
    assert len(sites) == (6 if kind == "t5" else 2)  # T5: encoder, decoder self-attention, decoder cross-attention
    prefix = random_prefixes(sites, 3)
    with prefixes(by_module(sites, prefix)):
        model(**arguments(kind)).last_hidden_state.pow(3).sum().backward()
    assert prefix.grad is not None
    assert (prefix.grad.abs().amax(dim=(2, 3, 4)) > 0).all()


@pytest.mark.parametrize("kind", ["bert", "modernbert", "gpt2", "t5"])
def test_both_kernels_agree(kind: str) -> None:
    states = []
    for kernel in ("sdpa", "eager"):
        model = enabled(kind, kernel, torch.float64)
        sites = attention_sites(lambda model=model: model(**arguments(kind)))
        with prefixes(by_module(sites, random_prefixes(sites, 3, torch.float64))), torch.no_grad():
            states.append(model(**arguments(kind)).last_hidden_state)
    mask = MASK[:, : states[0].shape[1]].bool()
    torch.testing.assert_close(states[0][mask], states[1][mask], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", ["bert", "modernbert", "gpt2", "t5"])
def test_without_a_prefix_nothing_changes(kind: str) -> None:
    model = build_model(kind).eval()
    with torch.no_grad():
        before = model(**arguments(kind)).last_hidden_state
        enable_prefixes(model)
        after = model(**arguments(kind)).last_hidden_state
    assert torch.equal(before, after)


def loop_attention(q: Tensor, k: Tensor, v: Tensor, prefix: Any, sees: Any, bias: Tensor | None) -> Tensor:
    """(batch, heads, queries, dim) attention written as loops; `sees(b, i, j)` says what a query may look at."""
    batch, heads, queries, dim = q.shape
    out = torch.zeros(batch, queries, heads, dim, dtype=q.dtype)
    for b in range(batch):
        for h in range(heads):
            group = h * k.shape[1] // heads
            for i in range(queries):
                scores, values = [], []
                for key, value in zip(prefix[0][b, group], prefix[1][b, group], strict=True):
                    scores.append(q[b, h, i] @ key * 0.3)
                    values.append(value)
                for j in range(k.shape[2]):
                    if sees(b, i, j):
                        scores.append(q[b, h, i] @ k[b, group, j] * 0.3 + (0 if bias is None else bias[0, h, i, j]))
                        values.append(v[b, group, j])
                out[b, i, h] = torch.stack(scores).softmax(0) @ torch.stack(values)
    return out


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("mask_kind", ["none", "causal", "bool", "additive"])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("own_prefix_per_row", [False, True])
def test_the_attention_function_equals_loops(
    kernel: str, mask_kind: str, biased: bool, own_prefix_per_row: bool
) -> None:
    generator = torch.Generator().manual_seed(4)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    q, k, v = draw(2, 4, 5, 6), draw(2, 2, 5, 6), draw(2, 2, 5, 6)
    bias = draw(1, 4, 5, 5) if biased else None
    prefix = (draw(2, 2, 3, 6), draw(2, 2, 3, 6)) if own_prefix_per_row else (draw(2, 3, 6), draw(2, 3, 6))
    per_row = prefix if own_prefix_per_row else tuple(part.expand(2, -1, -1, -1) for part in prefix)
    lengths = [5, 3]

    def sees(b: int, i: int, j: int) -> bool:
        return {"none": True, "causal": j <= i}.get(mask_kind, j < lengths[b])

    mask = None
    if mask_kind in ("bool", "additive"):
        mask = (torch.arange(5)[None] < torch.tensor(lengths)[:, None])[:, None, None].expand(2, 1, 5, 5)
        if mask_kind == "additive":
            mask = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, torch.finfo(torch.float64).min)
    module = nn.Module()
    module.num_key_value_groups = 2
    attend = AttentionInterface()[f"fute_prefix_{kernel}"]
    with prefixes({module: prefix}):
        ours, _ = attend(
            module, q, k, v, mask, scaling=0.3, dropout=0.0, position_bias=bias, is_causal=mask_kind == "causal"
        )
    torch.testing.assert_close(ours, loop_attention(q, k, v, per_row, sees, bias), rtol=1e-8, atol=1e-9)


def test_written_out_in_bfloat16_it_is_about_as_exact_as_the_fused_one() -> None:
    generator = torch.Generator().manual_seed(5)
    q, k, v = (torch.randn(4, 12, 50, 32, generator=generator, dtype=torch.float64) for _ in range(3))
    wanted = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    errors = {}
    for kernel in ("sdpa", "eager"):
        attend = AttentionInterface()[f"fute_prefix_{kernel}"]
        module = nn.Module()
        near, _ = attend(module, *(x.bfloat16() for x in (q, k, v)), None, dropout=0.0, is_causal=False)
        errors[kernel] = float((near - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())
    assert errors["eager"] < 1.5 * errors["sdpa"] < 0.01


def test_the_kernel_to_train_with_is_written_out_only_where_the_fused_one_is_slow() -> None:
    cpu = torch.device("cpu")
    assert fastest_kernel(cpu, "bfloat16") == "eager"
    assert fastest_kernel(cpu, "float32") == fastest_kernel(torch.device("cuda"), "bfloat16") == "sdpa"


def test_two_threads_train_different_prefixes_on_one_model() -> None:
    model = enabled("bert")
    sites = attention_sites(lambda: model(**arguments("bert")))

    def states(scale: float) -> Tensor:
        with prefixes(by_module(sites, random_prefixes(sites, 3) * scale)), torch.no_grad():
            return torch.stack([model(**arguments("bert")).last_hidden_state for _ in range(10)])

    alone = [states(scale) for scale in (0.0, 1.0, 2.0, 3.0)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(states, (0.0, 1.0, 2.0, 3.0)))
    for a, b in zip(alone, together, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert torch.equal(b[0], b[-1])


def test_the_prefix_ends_with_its_context_even_after_an_error() -> None:
    model = enabled("bert")
    sites = attention_sites(lambda: model(**arguments("bert")))
    with torch.no_grad():
        before = model(**arguments("bert")).last_hidden_state
        with pytest.raises(RuntimeError), prefixes(by_module(sites, random_prefixes(sites, 3))):
            raise RuntimeError
        assert torch.equal(before, model(**arguments("bert")).last_hidden_state)


def test_padding_does_not_reach_the_real_tokens() -> None:
    model = enabled("bert")
    sites = attention_sites(lambda: model(**arguments("bert")))
    with prefixes(by_module(sites, random_prefixes(sites, 3))), torch.no_grad():
        together = model(**arguments("bert")).last_hidden_state
        alone = model(input_ids=IDS[1:2, :3]).last_hidden_state
    np.testing.assert_allclose(together[1, :3], alone[0], atol=1e-5)


def test_a_model_outside_the_registry_is_refused() -> None:
    with pytest.raises(SurrogateError, match="'mpnet' models takes no prefix"):
        enable_prefixes(build_model("mpnet"))


def test_sites_are_listed_once_in_order() -> None:
    model = enabled("bert")
    sites = attention_sites(lambda: [model(**arguments("bert")) for _ in range(2)])
    assert [site.module for site in sites] == [layer.attention.self for layer in model.encoder.layer]
    assert {(site.heads, site.head_dim) for site in sites} == {(4, 8)}
    assert attention_sites(lambda: SimpleNamespace()) == []
