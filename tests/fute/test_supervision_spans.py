"""Answer spans: from characters to the tokens of each surrogate family, and a head that learns them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fute.errors import MethodError, OutputsError, SurrogateError
from fute.methods import supervision
from fute.methods.heads import Head, head_answers, row_losses, target_batch
from fute.methods.supervision import Supervisor
from fute.methods.targets import null_positions, span_targets
from fute.settings import TrainedMethodSettings
from fute.spans import pack_spans
from fute.surrogate.load import Surrogate
from fute.surrogate.span_tokens import tokenise_with_offsets
from fute.surrogate.tokens import Tokens, pad_batch
from fute.types import Dataset, Outputs, Pool, Split, TextTable

from .test_tupate import texts_of, tupate
from .tiny_surrogates import NOUNS, load_tiny

FAMILIES = ["bert", "gpt2", "t5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("surrogates")


def questions(n: int, seed: int = 0) -> tuple[TextTable, np.ndarray]:
    """Questions that name a noun, contexts, and where that noun stands; every fifth has no answer."""
    rng = np.random.default_rng(seed)
    texts, pairs, spans = [], [], []
    for i, context in enumerate(texts_of(seed, n)):
        noun = str(rng.choice(NOUNS))
        others = [word for word in context.split() if word not in NOUNS] or ["the"]
        if i % 5:
            others.insert(int(rng.integers(len(others) + 1)), noun)
        whole = " ".join(others)
        start = whole.split().index(noun) if i % 5 else -1
        at = len(" ".join(whole.split()[:start])) + (start > 0) if i % 5 else -1
        texts.append(f"the {noun}")
        pairs.append(whole)
        spans.append((at, at + len(noun) if i % 5 else -1))
    return TextTable(texts, pairs), np.array(spans, dtype=np.int64)


def dataset_of(n: int = 40, seed: int = 0) -> Dataset:
    inputs, spans = questions(n, seed)
    return Dataset("asked", "span_qa", {"train": Split(inputs, spans)}, "x")


def pool_of(n: int = 40) -> Pool:
    return Pool(questions(n)[0], ["made up"] * n)


def outputs_of(pool: Pool) -> Outputs:
    spans = questions(len(pool))[1]
    starts = np.stack([spans[:, 0], np.full(len(pool), -1)], axis=1)
    ends = np.stack([spans[:, 1], np.full(len(pool), -1)], axis=1)
    sure = np.tile(np.array([0.8, 0.2]), (len(pool), 1))
    return Outputs("spans", pack_spans(starts, ends, sure))


@pytest.mark.parametrize("kind", FAMILIES)
def test_answers_come_back_as_the_characters_they_were(folder: Path, kind: str) -> None:
    surrogate = load_tiny(kind, folder, whole=True)
    inputs, spans = questions(30)
    tokens = tokenise_with_offsets(surrogate, inputs, 40)
    targets, rows, counts = span_targets(spans[:, :1], spans[:, 1:], np.ones((30, 1), "f4"), tokens, surrogate.family)
    assert rows.tolist() == list(range(30))
    assert counts == {"rows_answer_cut_off": 0, "rows_no_answer": 6, "candidates_cut_off": 0}
    assert targets.positions is not None
    assert tokens.context_offsets is not None
    for row, (first, last) in enumerate(targets.positions[:, 0]):
        offsets = tokens.context_offsets[row]
        if spans[row, 0] < 0:
            assert first == last == (tokens.lengths[row] - 1 if kind == "gpt2" else 0)
        else:
            context = (inputs.pairs or [])[row]
            assert context is not None
            assert context[offsets[first, 0] : offsets[last, 1]].strip() == context[slice(*spans[row])]


@pytest.mark.parametrize("kind", FAMILIES)
def test_only_tokens_of_the_context_have_offsets(folder: Path, kind: str) -> None:
    tokens = tokenise_with_offsets(load_tiny(kind, folder, whole=True), TextTable(["the cat"], ["cat sat on"]), 40)
    assert tokens.context_offsets is not None
    offsets = tokens.context_offsets[0]
    assert (offsets[:, 0] >= 0).sum() == 3
    assert offsets[offsets[:, 0] >= 0].tolist() == [[0, 3], [4, 7], [8, 10]]


@pytest.mark.parametrize("kind", FAMILIES)
def test_long_contexts_lose_their_end_and_long_questions_leave_them_room(folder: Path, kind: str) -> None:
    surrogate = load_tiny(kind, folder, whole=True)
    long = " ".join(["dog"] * 60)
    tokens = tokenise_with_offsets(surrogate, TextTable(["the cat", long, "a"], [long, "cat sat", "cat"]), 20)
    assert tokens.truncated.tolist() == [True, True, False]
    assert tokens.lengths.max() <= 20
    assert tokens.context_offsets is not None
    assert tokens.context_offsets[1].max() == 7  # the whole context of the long question


def test_an_answer_that_was_cut_off_is_left_out(folder: Path) -> None:
    surrogate = load_tiny("bert", folder)
    context = " ".join(["dog"] * 30) + " cat"
    tokens = tokenise_with_offsets(surrogate, TextTable(["the cat"] * 3, [context] * 3), 20)
    starts = np.array([[0, 120], [120, 0], [120, -1]])
    ends = np.array([[3, 123], [123, 3], [123, -1]])
    weights = np.array([[0.7, 0.3], [0.6, 0.4], [0.5, 0.5]], dtype=np.float32)
    targets, rows, counts = span_targets(starts, ends, weights, tokens, "bert")
    assert rows.tolist() == [0, 2]  # row 1 kept less than half of its probability
    assert targets.values.tolist() == [[1, 0], [0, 1]]
    assert counts == {"rows_answer_cut_off": 1, "rows_no_answer": 1, "candidates_cut_off": 3}


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("end", [" ", "\u200b", " \n"])
def test_an_answer_that_ends_in_a_character_without_a_token_is_whole(folder: Path, kind: str, end: str) -> None:
    surrogate = load_tiny(kind, folder, whole=True)
    context = "the dog sat on a cat" + end
    tokens = tokenise_with_offsets(surrogate, TextTable(["the cat"], [context]), 40)
    starts, ends = np.array([[17]]), np.array([[len(context)]])
    targets, rows, counts = span_targets(starts, ends, np.ones((1, 1), "f4"), tokens, surrogate.family)
    assert rows.tolist() == [0]
    assert counts["candidates_cut_off"] == 0
    assert targets.positions is not None
    assert tokens.context_offsets is not None
    assert tokens.context_offsets[0][targets.positions[0, 0, 0], 0] == 17


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_null_token_is_none_of_the_context(folder: Path, kind: str) -> None:
    """Else "no answer" could not be told from an answer that is the context's last token."""
    surrogate = load_tiny(kind, folder, whole=True)
    long = " ".join(["dog"] * 60)
    table = TextTable(["the cat", long, "a", "the dog"], ["cat sat", "cat", "cat", long])
    for max_tokens in (20, 1000):  # more than the surrogate can read
        tokens = tokenise_with_offsets(surrogate, table, max_tokens)
        assert tokens.context_offsets is not None
        assert tokens.lengths.max() <= (surrogate.longest_input or 1000)
        for offsets, null, ids in zip(
            tokens.context_offsets, null_positions(tokens, surrogate.family), tokens.ids, strict=True
        ):
            assert len(offsets) == len(ids)
            assert offsets[null].tolist() == [-1, -1]
    if kind == "gpt2":
        assert {ids[-1] for ids in tokens.ids} == {surrogate.tokenizer.eos_token_id}


@pytest.mark.parametrize("kind", FAMILIES)
def test_no_answer_can_be_outside_the_context_but_for_the_null_token(folder: Path, kind: str) -> None:
    surrogate = load_tiny(kind, folder, whole=True)
    inputs, spans = questions(6)
    tokens = tokenise_with_offsets(surrogate, inputs, 40)
    targets, *_ = span_targets(spans[:, :1], spans[:, 1:], np.ones((6, 1), "f4"), tokens, surrogate.family)
    rows = np.arange(6)
    mask = pad_batch(surrogate, tokens, rows)["attention_mask"]
    batch = target_batch(targets, tokens, rows, mask, surrogate.family)
    states = torch.randn(*mask.shape, 8, generator=torch.Generator().manual_seed(0))
    head = Head(torch.ones(2, 8), torch.zeros(2))
    answers = head_answers(head, states, batch, "mean", surrogate.family)
    assert tokens.context_offsets is not None
    for row in rows:
        possible = torch.isfinite(answers[row, :, 0]).numpy()
        expected = np.zeros(len(possible), dtype=bool)
        expected[: tokens.lengths[row]] = tokens.context_offsets[row][:, 0] >= 0
        expected[null_positions(tokens, surrogate.family)[row]] = True
        np.testing.assert_array_equal(possible, expected)
    # Written out: the mean of the two cross-entropies over the possible tokens.
    assert targets.positions is not None
    losses = row_losses(answers, batch, "cross_entropy")
    for row in rows:
        logits = answers[row][torch.isfinite(answers[row, :, 0])].double()
        full = answers[row].double()
        first, last = targets.positions[row, 0]
        slow = sum(float(logits[:, i].logsumexp(0) - full[at, i]) for i, at in enumerate((first, last))) / 2
        assert float(losses[row]) == pytest.approx(slow, rel=1e-5)


def test_a_candidate_without_weight_gives_no_nan_gradient(folder: Path) -> None:
    surrogate = load_tiny("bert", folder)
    tokens = tokenise_with_offsets(surrogate, TextTable(["the cat"], ["cat sat"]), 40)
    targets, *_ = span_targets(
        np.array([[0, -1]]), np.array([[3, -1]]), np.array([[1.0, 0.0]], "f4"), tokens, surrogate.family
    )
    assert targets.positions is not None
    targets.positions[0, 1] = 2  # a token of the question
    mask = pad_batch(surrogate, tokens, np.arange(1))["attention_mask"]
    batch = target_batch(targets, tokens, np.arange(1), mask, "bert")
    head = Head.zeros(2, 8, torch.device("cpu"))
    states = torch.randn(*mask.shape, 8)
    row_losses(head_answers(head, states, batch, "mean", "bert"), batch, "cross_entropy").sum().backward()
    assert head.weight.grad is not None
    assert torch.isfinite(head.weight.grad).all()


@pytest.mark.parametrize("kind", FAMILIES)
def test_span_answers_are_embedded_in_every_family(folder: Path, kind: str) -> None:
    method = tupate(load_tiny(kind, folder, whole=True), pool_of())
    from_labels, from_outputs = method.dataset(dataset_of()), method.model(outputs_of(pool_of()))
    assert from_labels.vector.shape == from_outputs.vector.shape
    assert from_labels.metrics["rows_answer_cut_off"] == 0
    assert from_outputs.metrics["rows_not_answered"] == 0
    for embedding in (from_labels, from_outputs):
        assert embedding.metrics["candidates_cut_off"] == 0
        assert embedding.metrics["rows_no_answer"] == 8
    assert 0 <= from_outputs.metrics["agreement"] <= 1


def test_a_span_task_is_learned(folder: Path) -> None:
    method = tupate(load_tiny("bert", folder), pool_of(), epochs_dataset=25, learning_rate_spans=3e-2)
    metrics = method.dataset(dataset_of(60)).metrics
    assert metrics["loss_last"] < 0.8 * metrics["loss_first"]


def test_answers_that_all_lie_too_far_back_are_an_error(folder: Path) -> None:
    context = " ".join(["dog"] * 60) + " cat"
    split = Split(TextTable(["the cat"] * 5, [context] * 5), np.array([[240, 243]] * 5))
    with pytest.raises(MethodError, match="0 of 5 answers lie within the first 16 tokens; raise max_tokens_spans"):
        tupate(load_tiny("bert", folder), max_tokens_spans=16).dataset(Dataset("far", "span_qa", {"train": split}, "x"))


def test_spans_outside_their_text_are_refused(folder: Path) -> None:
    method = tupate(load_tiny("bert", folder), pool_of())
    outputs = outputs_of(pool_of())
    values = outputs.values.copy()
    values[7, :2] = 500, 503
    with pytest.raises(OutputsError, match="a span outside its text: row 7"):
        method.model(Outputs("spans", values))


def test_a_question_without_a_context_is_refused(folder: Path) -> None:
    with pytest.raises(SurrogateError, match="a question without a context"):
        tokenise_with_offsets(load_tiny("bert", folder), TextTable(["the cat", "a"], ["cat", None]), 20)


def test_answerers_of_the_same_questions_share_their_tokens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of()
    settings = TrainedMethodSettings(max_rows=20, max_tokens=12, max_tokens_spans=20)
    supervisor = Supervisor(load_tiny("bert", folder), pool, settings, 0)
    read: list[int] = []

    def counted(surrogate: Surrogate, table: TextTable, max_tokens: int) -> Tokens:
        read.append(len(table))
        return tokenise_with_offsets(surrogate, table, max_tokens)

    monkeypatch.setattr(supervision, "tokenise_with_offsets", counted)
    first = supervisor.model(outputs_of(pool))
    second = supervisor.model(outputs_of(pool))
    fewer = replace(outputs_of(pool), answered=np.arange(40) % 2 == 0)
    supervisor.model(fewer)
    assert read == [20, 20]  # the first two share; the third answered other rows
    np.testing.assert_array_equal(first.tokens.lengths, second.tokens.lengths)


@pytest.mark.parametrize("max_rows", [1000, 20])
def test_the_order_of_the_pools_rows_does_not_matter_to_answer_spans(folder: Path, max_rows: int) -> None:
    pool, outputs = pool_of(), outputs_of(pool_of())
    order = np.random.default_rng(0).permutation(len(pool))
    shuffled = Pool(pool.inputs.take(order), ["made up"] * len(pool))
    surrogate = load_tiny("bert", folder)
    first = tupate(surrogate, pool, max_rows=max_rows).model(outputs)
    second = tupate(surrogate, shuffled, max_rows=max_rows).model(outputs.take(order))
    assert first.vector.tobytes() == second.vector.tobytes()
    with pytest.raises(OutputsError, match="a span outside its text"):
        tupate(surrogate, shuffled).model(outputs)  # answers to other rows


def test_a_wrong_answer_is_named_by_its_row_in_the_pool_as_it_was_given(folder: Path) -> None:
    surrogate, pool = load_tiny("bert", folder), pool_of()
    settings = TrainedMethodSettings(max_rows=20, max_tokens=12)
    for row in (0, 7, 39):
        values = outputs_of(pool).values.copy()
        values[row, :2] = 500, 503
        with pytest.raises(OutputsError, match=f"a span outside its text: row {row}\\b"):
            tupate(surrogate, pool).model(Outputs("spans", values))
    for row in (0, 7):
        inputs = TextTable([" " if i == row else text for i, text in enumerate(pool.inputs.texts)])
        with pytest.raises(SurrogateError, match=rf"row {row} for one"):
            Supervisor(load_tiny("gpt2", folder), Pool(inputs, ["made up"] * 40), settings, 0).pool_tokens()
