"""tupate on T5, BERT and GPT-2: against slow versions in float64, and what must hold for all three."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fute.errors import MethodError, SurrogateError
from fute.methods.supervision import Supervision
from fute.methods.targets import Targets
from fute.methods.tupate.embed import Tupate
from fute.methods.tupate.prefixed import PrefixedModels, TrainingRows, initial_prefix
from fute.methods.tupate.train import Recipe, train_prefixes
from fute.surrogate.load import Surrogate
from fute.surrogate.reader import Reader
from fute.surrogate.tokens import Tokens, tokenise
from fute.types import Outputs, TextTable

from .slow_surrogates import SLOW
from .test_tupate import QUICK, cosine, dataset_of, mentions, pool_of, probabilities, tupate
from .tiny_surrogates import build_model, load_tiny

pytestmark = pytest.mark.slow

FAMILIES = ["bert", "gpt2", "t5"]
TEXTS = ["the cat sat", "a big red dog ran", "bird", "fish swam under the old log and a new mat on a big lake", "blue"]
SOFT = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9], [1.0, 0.0]], dtype=np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("surrogates")


def rows_of(surrogate: Surrogate, tokens: Tokens, targets: Targets, keep_gib: float = 1.0) -> TrainingRows:
    return TrainingRows(Supervision(tokens, targets), Reader(surrogate, tokens, keep_gib), np.arange(len(tokens)))


def losses_and_gradients(method: Tupate) -> tuple[Tensor, Tensor]:
    """(5,) logits' first column and the prefix gradient of the mean loss, with a head that is not zero."""
    tokens = tokenise(method.surrogate, TextTable(TEXTS))
    start = initial_prefix(method._sites, 3, seed=1)[None]
    rows = rows_of(method.surrogate, tokens, Targets("classes", SOFT))
    models = PrefixedModels(method._sites, start, [rows.supervision.targets], "mean", rows.reader)
    with torch.no_grad():
        models.heads[0].weight.copy_(head_weights())
    [(answers, wanted)] = models.answers(rows, np.arange(5), [rows.supervision.targets], models.prefix)
    loss = -(wanted.values * answers.log_softmax(dim=1)).sum() / 5
    (gradient,) = torch.autograd.grad(loss, models.prefix)
    return answers.detach(), gradient[0]


def head_weights() -> Tensor:
    return torch.randn(2, 32, generator=torch.Generator().manual_seed(3)) / 4


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("settings", [{}, {"kernel": "eager"}, {"checkpointing": True}, {"keep_gib": 0.0}])
def test_logits_and_prefix_gradients_equal_a_slow_version(folder: Path, kind: str, settings: dict[str, Any]) -> None:
    surrogate = load_tiny(kind, folder, whole=True)
    answers, gradient = losses_and_gradients(tupate(surrogate, **settings))

    model = build_model(kind).double().eval().requires_grad_(False)
    tokens = tokenise(surrogate, TextTable(TEXTS))
    sites = tupate(surrogate)._sites
    prefix = initial_prefix(sites, 3, seed=1).double().requires_grad_()
    weights = head_weights().double()
    loss = torch.zeros((), dtype=torch.float64)
    for row, ids in enumerate(tokens.ids):
        answer = weights @ SLOW[kind](model, list(ids), prefix).mean(dim=0)
        off = torch.linalg.vector_norm(answers[row] - answer.detach())
        assert float(off / torch.linalg.vector_norm(answer.detach())) < 1e-5
        loss = loss - (torch.from_numpy(SOFT[row]).double() * answer.log_softmax(dim=0)).sum() / 5
    (slow,) = torch.autograd.grad(loss, prefix)
    for site, expected in zip(gradient, slow, strict=True):
        assert float(torch.linalg.vector_norm(site - expected) / torch.linalg.vector_norm(expected)) < 1e-5


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_slow_versions_gradients_equal_finite_differences(folder: Path, kind: str) -> None:
    model = build_model(kind).double().eval().requires_grad_(False)
    sites = tupate(load_tiny(kind, folder, whole=True))._sites
    prefix = initial_prefix(sites, 2, seed=1).double().requires_grad_()
    ids = [2, 7, 9, 12, 3]
    weights = head_weights()[0].double()
    (gradient,) = torch.autograd.grad((SLOW[kind](model, ids, prefix) @ weights).sum(), prefix)
    direction = torch.randn(prefix.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.no_grad():
        up, down = ((SLOW[kind](model, ids, prefix + sign * direction) @ weights).sum() for sign in (1e-5, -1e-5))
    assert float((up - down) / 2e-5) == pytest.approx(float((gradient * direction).sum()), rel=1e-6)


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_vector_has_the_size_of_the_formula(folder: Path, kind: str) -> None:
    surrogate = load_tiny(kind, folder, whole=True)
    method = tupate(surrogate)
    tensors_a_layer = 4 if kind == "t5" else 2
    for embedding in (method.dataset(dataset_of()), method.model(probabilities(pool_of()))):
        assert embedding.vector.shape == (tensors_a_layer * 4 * 4 * 8,)
        assert np.linalg.norm(embedding.vector) == pytest.approx(1, abs=1e-6)
    config = surrogate.model.config
    assert len(method._sites) == (2 * config.num_decoder_layers if kind == "t5" else config.num_hidden_layers)


def test_published_sizes_follow_from_the_same_formula(folder: Path) -> None:
    """T5-base: 49,152 numbers; BERT-base: 24,576."""
    for kind, tensors, published in (("t5", 4, 49_152), ("bert", 2, 24_576)):
        surrogate = load_tiny(kind, folder, whole=True)
        vector = tupate(surrogate, prefix_tokens=16).model(probabilities(pool_of())).vector
        assert len(vector) / (surrogate.width * 16) == tensors == published / (768 * 16)


def test_t5_prefixes_are_those_of_the_decoder_only_self_and_cross_attention_in_turn(folder: Path) -> None:
    surrogate = load_tiny("t5", folder, whole=True)
    method = tupate(surrogate)
    found = [site.module for site in method._sites]
    blocks = method.surrogate.model.decoder.block
    assert found == [m for b in blocks for m in (b.layer[0].SelfAttention, b.layer[1].EncDecAttention)]


def test_the_cross_attention_half_of_a_t5_embedding_is_trained(folder: Path) -> None:
    """It stayed at its random start in the paper's released code."""
    method = tupate(load_tiny("t5", folder, whole=True), embedding="delta")
    vector = method.model(probabilities(pool_of())).vector
    self_keys, self_values, cross_keys, cross_values = np.split(vector, 4)
    for part in (self_keys, self_values, cross_keys, cross_values):
        assert np.abs(part).min() > 0
    assert 0.1 < np.linalg.norm(cross_values) / np.linalg.norm(self_values) < 10


def test_the_vector_is_the_mean_over_layers_with_self_before_cross(folder: Path) -> None:
    method = tupate(load_tiny("t5", folder, whole=True), embedding="raw", learning_rate_model=1e-6)
    vector = method.model(probabilities(pool_of())).vector
    start = method._shared_start  # (4 sites, 2, heads, prefix, head_dim), hardly moved
    expected = torch.cat([(start[0] + start[2]).flatten(), (start[1] + start[3]).flatten()]).numpy()
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)


@pytest.mark.parametrize(("kind", "table"), [("bert", "embeddings.position_embeddings"), ("gpt2", "wpe")])
def test_tokens_have_the_positions_from_0_that_they_have_without_a_prefix(folder: Path, kind: str, table: str) -> None:
    """T5 has distances between tokens instead; the slow version above pins those down."""
    surrogate = load_tiny(kind, folder)
    method = tupate(surrogate)
    tokens = tokenise(surrogate, TextTable(TEXTS))
    rows = rows_of(method.surrogate, tokens, Targets("classes", SOFT))
    seen: list[Tensor] = []
    hook = method.surrogate.model.get_submodule(table).register_forward_hook(lambda _, args, __: seen.append(args[0]))
    models = PrefixedModels(method._sites, method._shared_start[None], [rows.supervision.targets], "mean", rows.reader)
    models.answers(rows, np.arange(5), [rows.supervision.targets], models.prefix)
    hook.remove()
    assert [positions[0].tolist() for positions in seen] == [list(range(tokens.lengths.max()))]


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("pooling", ["mean", "token"])
def test_padding_batches_and_order_do_not_change_loss_or_gradient(folder: Path, kind: str, pooling: Any) -> None:
    surrogate = load_tiny(kind, folder, whole=True)
    method = tupate(surrogate)
    tokens = tokenise(surrogate, TextTable(TEXTS))
    start = initial_prefix(method._sites, 3, seed=1)[None]

    def gradient_of(order: list[int], batches: list[list[int]]) -> tuple[float, Tensor]:
        targets = Targets("classes", SOFT[order])
        rows = rows_of(method.surrogate, tokens.take(np.array(order)), targets)
        models = PrefixedModels(method._sites, start, [targets], pooling, rows.reader)
        with torch.no_grad():
            models.heads[0].weight.copy_(head_weights())
        total = torch.zeros(())
        for batch in batches:
            [(answers, wanted)] = models.answers(rows, np.array(batch), [targets], models.prefix)
            total = total - (wanted.values * answers.log_softmax(dim=1)).sum()
        return float(total.detach()), torch.autograd.grad(total, models.prefix)[0]

    loss, gradient = gradient_of([0, 1, 2, 3, 4], [[0, 1, 2, 3, 4]])
    for order, batches in (
        ([0, 1, 2, 3, 4], [[0], [1], [2], [3], [4]]),
        ([3, 1, 4, 0, 2], [[4, 0], [1, 3, 2]]),
    ):
        other_loss, other = gradient_of(order, batches)
        assert other_loss == pytest.approx(loss, rel=1e-5)
        assert float(torch.linalg.vector_norm(other - gradient) / torch.linalg.vector_norm(gradient)) < 1e-5


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("settings", [{"kernel": "eager"}, {"checkpointing": True}])
def test_kernel_and_checkpointing_change_no_vector(folder: Path, kind: str, settings: dict[str, Any]) -> None:
    plain = tupate(load_tiny(kind, folder, whole=True)).model(probabilities(pool_of())).vector
    other = tupate(load_tiny(kind, folder, whole=True), **settings).model(probabilities(pool_of())).vector
    # Adam divides by a gradient's own size, so rounding of gradients that are nearly zero shows.
    assert cosine(plain, other) > 0.9999


@pytest.mark.parametrize("kind", FAMILIES)
def test_checkpointing_computes_each_layer_again_and_keeps_dropout_off(folder: Path, kind: str) -> None:
    surrogate = load_tiny(kind, folder, whole=True)
    method = tupate(surrogate, checkpointing=True)
    calls = []
    module = method._sites[0].module
    hook = module.register_forward_hook(lambda *_: calls.append(1))
    losses_and_gradients(method)
    hook.remove()
    assert len(calls) == 2  # once forward, once more in the backward pass
    assert not any(m.training for m in method.surrogate.model.modules() if isinstance(m, torch.nn.Dropout))


def test_layers_that_cannot_be_checkpointed_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    surrogate = load_tiny("bert", folder)
    monkeypatch.setattr(surrogate.model, "modules", lambda: iter(()))
    with pytest.raises(SurrogateError, match="cannot be checkpointed; set checkpointing to false"):
        tupate(surrogate, checkpointing=True)


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_same_seed_gives_the_same_bytes_in_every_family(folder: Path, kind: str) -> None:
    vectors = [
        tupate(load_tiny(kind, folder, whole=True), dropout=0.1).model(probabilities(pool_of())).vector.tobytes()
        for _ in range(2)
    ]
    assert vectors[0] == vectors[1]


@pytest.mark.parametrize("kind", FAMILIES)
def test_training_lowers_the_loss_in_every_family(folder: Path, kind: str) -> None:
    surrogate = load_tiny(kind, folder, whole=True)
    method = tupate(surrogate)
    recipe = Recipe(
        epochs=15, batch_size=8, learning_rate=3e-2, warmup=0.1, dropout=0.0, loss="cross_entropy", pooling="mean"
    )
    supervision = method.supervisor.dataset(dataset_of())
    rows = TrainingRows(supervision, Reader(method.surrogate, supervision.tokens, 1.0), np.arange(len(supervision)))
    start = initial_prefix(method._sites, QUICK["prefix_tokens"], 0)[None]
    [trained] = train_prefixes(method._sites, rows, [supervision.targets], start, recipe, seed=0)
    assert trained.metrics["loss_last"] < 0.9 * trained.metrics["loss_first"]


@pytest.mark.parametrize("kind", FAMILIES)
def test_bfloat16_gives_nearly_the_same_vector_in_every_family(folder: Path, kind: str) -> None:
    exact, half = (load_tiny(kind, folder, whole=True, dtype=dtype) for dtype in ("float32", "bfloat16"))
    cosines = []
    for seed in range(3):
        first, second = (tupate(each, seed=seed).model(probabilities(pool_of())).vector for each in (exact, half))
        assert second.dtype == np.float32
        cosines.append(cosine(first, second))
    # Not of each: Adam divides by a gradient's own size, so a start whose first gradients are small can go elsewhere.
    assert 0.99 < np.median(cosines) < 1 - 1e-9


def test_a_t5_without_its_decoder_is_refused(folder: Path) -> None:
    with pytest.raises(MethodError, match=r"without its decoder.*load_surrogate\(\.\.\., whole=True\)"):
        tupate(load_tiny("t5", folder))


def saved_by_forward(surrogate: Surrogate, **settings: Any) -> tuple[int, PrefixedModels, Tensor]:
    """Numbers kept for the backward pass, and what is needed to go on with it."""
    method = tupate(surrogate, **settings)
    tokens = tokenise(surrogate, TextTable(TEXTS))
    rows = rows_of(method.surrogate, tokens, Targets("classes", SOFT))
    targets = [rows.supervision.targets]
    models = PrefixedModels(method._sites, method._shared_start[None], targets, "mean", rows.reader)
    with torch.no_grad():
        models.heads[0].weight.copy_(head_weights())
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        [(answers, wanted)] = models.answers(rows, np.arange(5), targets, models.prefix)
    return sum(kept), models, -(wanted.values * answers.log_softmax(dim=1)).sum()


@pytest.mark.parametrize("kind", FAMILIES)
def test_checkpointing_keeps_less_for_the_backward_pass(folder: Path, kind: str) -> None:
    plain = saved_by_forward(load_tiny(kind, folder, whole=True))[0]
    checkpointed = saved_by_forward(load_tiny(kind, folder, whole=True), checkpointing=True)[0]
    assert checkpointed < 0.5 * plain


@pytest.mark.parametrize("kind", FAMILIES)
def test_checkpointed_layers_find_their_prefixes_in_another_thread(folder: Path, kind: str) -> None:
    """A GPU's backward pass runs in a thread of its own, without the context of the forward pass."""
    gradients = []
    for settings in ({}, {"checkpointing": True}):
        _, models, loss = saved_by_forward(load_tiny(kind, folder, whole=True), **settings)
        with ThreadPoolExecutor(1) as threads:
            gradients.append(threads.submit(torch.autograd.grad, loss, models.prefix).result()[0])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_the_order_of_the_classes_has_no_influence_in_any_family(folder: Path, kind: str, loss: str) -> None:
    method = tupate(load_tiny(kind, folder, whole=True), loss=loss)
    label = mentions(pool_of().inputs.texts, "cat dog bird fish") + mentions(pool_of().inputs.texts, "big small")
    values = np.eye(3, dtype=np.float32)[label]
    first, second = (method.model(Outputs("labels", values[:, order])).vector for order in ([0, 1, 2], [2, 0, 1]))
    assert cosine(first, second) > 0.9999


def pool_reader(method: Tupate) -> Reader:
    (reader,) = method._pool_readers.values()
    return reader


def test_readers_in_use_at_once_share_the_memory_of_keep_gib(folder: Path) -> None:
    surrogate = load_tiny("t5", folder, whole=True)
    alone = pool_reader(tupate(surrogate, keep_gib=1.0)).kept_gib
    for keep_gib, kept in ((1.0, True), (alone, False)):
        method = tupate(surrogate, keep_gib=keep_gib)
        training, held_out = method.supervisor.dataset_with_held_out(dataset_of())
        rows = method._rows(training)
        held = method._rows(held_out, beside=rows.reader)
        taken = [reader.kept_gib for reader in (pool_reader(method), rows.reader, held.reader)]
        assert sum(taken) <= keep_gib
        assert [gib > 0 for gib in taken] == [True, kept, kept]


@pytest.mark.parametrize("failing", [1, 2])
def test_labelled_or_held_out_rows_that_do_not_fit_into_memory_are_an_error_with_advice(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    method = tupate(load_tiny("t5", folder, whole=True), patience=2)
    made: list[int] = []

    def too_large(*given: Any) -> Reader:
        made.append(1)
        if len(made) == failing:
            raise torch.OutOfMemoryError("out of memory")
        return Reader(*given)

    monkeypatch.setattr("fute.methods.tupate.embed.Reader", too_large)
    with pytest.raises(MethodError, match="one prefix does not fit into memory; lower .* or keep_gib"):
        method.dataset(dataset_of())
