"""Fine-tuned question answerers from local folders: windows, offsets, candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForQuestionAnswering, PreTrainedTokenizerFast

from fute.config import SpanAnswererModel
from fute.errors import ModelError
from fute.models.build import build_model
from fute.models.span_candidates import best_candidates, span_scores
from fute.models.span_windows import read_in_windows
from fute.span_contexts import check_spans
from fute.spans import unpack_spans
from fute.surrogate.source import EMBEDDED_NAME, find_source
from fute.types import Outputs, TextTable
from tests.llm_server import shared_folder

from .tiny_surrogates import VOCABULARY, WORDS, build_tokenizer, save_tiny

LONG = " ".join(np.random.default_rng(1).choice(WORDS, 60))
QUESTIONS = ["the cat", "a bird ran", "fish and fish"]
TABLE = TextTable(
    [*QUESTIONS, "a single text", "over the lake"], ["the old dog  sat on a red mat", LONG, "a log", None, " \n"]
)


def save_answerer(folder: Path) -> Path:
    torch.manual_seed(1)
    model: Any = BertForQuestionAnswering(
        BertConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            max_position_embeddings=120,
            initializer_range=0.3,
        )
    )
    model.save_pretrained(folder)
    build_tokenizer("bert").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_answerer(tmp_path_factory.mktemp("answerer") / "qa")


def ask(folder: Path, table: TextTable = TABLE, **settings: Any) -> Outputs:
    config = {"kind": "span_answerer", "id": "m", "model": folder.name, "max_tokens": 24, "stride": 6, **settings}
    model = build_model(SpanAnswererModel(**config), folder.parent, "cpu")
    return model.outputs(table)


def slow_answers(folder: Path, question: str, context: str, longest: int) -> dict[tuple[int, int], float]:
    """Probability of every span of a context that fits into one window, and of "no answer", by enumeration."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(question, context, return_offsets_mapping=True, return_tensors="pt")
    offsets = encoded.pop("offset_mapping")[0].tolist()
    with torch.inference_mode():
        answer = BertForQuestionAnswering.from_pretrained(folder).eval()(**encoded)
    start, end = answer.start_logits[0].double(), answer.end_logits[0].double()
    inside = [i for i, sequence in enumerate(encoded.sequence_ids(0)) if sequence == 1]
    scores = {(-1, -1): float(start[0] + end[0])}
    for i in inside:
        for j in inside:
            if i <= j < i + longest:
                scores[offsets[i][0], offsets[j][1]] = float(start[i] + end[j])
    total = sum(np.exp(score) for score in scores.values())
    return {span: float(np.exp(score) / total) for span, score in scores.items()}


def test_candidates_are_the_most_probable_of_all_spans_and_no_answer(folder: Path) -> None:
    outputs = ask(folder, max_answer_tokens=3, batch_size=2)
    starts, ends, probabilities = unpack_spans(outputs.values)
    for row in (0, 2):
        expected = slow_answers(folder, TABLE.texts[row], str((TABLE.pairs or ())[row]), 3)
        best = sorted(expected, key=lambda span: -expected[span])[:5]
        n = len(best)  # the shorter context has fewer spans than candidates are kept
        assert list(zip(starts[row, :n].tolist(), ends[row, :n].tolist(), strict=True)) == best
        np.testing.assert_allclose(probabilities[row, :n], [expected[span] for span in best], rtol=1e-4)
        assert (starts[row, n:] == -1).all()
        assert (probabilities[row, n:] == 0).all()


def test_rows_without_a_context_are_left_unanswered_and_counted(folder: Path) -> None:
    outputs = ask(folder)
    assert outputs.kind == "spans"
    assert outputs.answered_rows.tolist() == [0, 1, 2]
    assert outputs.details["rows_without_context"] == 2
    assert outputs.details["rows_in_windows"] == 1
    assert outputs.details["questions_cut"] == 0
    assert check_spans(outputs, TABLE) is outputs
    with pytest.raises(ModelError, match=r"m: none of 2 inputs has a context; .* add sources with text_pair"):
        ask(folder, TextTable(["a", "b"]))


def test_no_answer_competes_unless_told_otherwise_and_is_counted(folder: Path) -> None:
    with_it, without = ask(folder), ask(folder, no_answer=False)
    assert (unpack_spans(without.values)[0][:2] >= 0).all()
    best = unpack_spans(with_it.values)[0][[0, 1, 2], 0]
    assert with_it.details["rows_no_answer"] == int((best == -1).sum())
    assert without.details["rows_no_answer"] == 0


@pytest.mark.parametrize(("max_tokens", "stride"), [(16, 0), (24, 6), (40, 15), (80, 20)])
def test_windows_cover_the_whole_context_and_know_their_place(max_tokens: int, stride: int) -> None:
    tokenizer, contexts = build_tokenizer("bert"), [LONG, "a log", LONG[:80]]
    windows = read_in_windows(tokenizer, QUESTIONS, contexts, max_tokens, stride)
    assert windows.encoded.lengths.max() <= max_tokens
    for row, context in enumerate(contexts):
        alone = build_tokenizer("bert")(context, add_special_tokens=False, return_offsets_mapping=True)
        assert [tuple(pair) for pair in windows.offsets[row]] == alone["offset_mapping"]
        for i in windows.of_row(row):
            tokens = windows.encoded.fields[i]["input_ids"][windows.context[i]]
            assert tokens == alone["input_ids"][windows.firsts[i] : windows.firsts[i] + len(tokens)]
    assert len(windows.of_row(1)) == 1
    assert max_tokens == 80 or len(windows.of_row(0)) > 1


def test_every_candidate_of_a_windowed_context_is_whole_words_of_it(folder: Path) -> None:
    starts, ends, probabilities = unpack_spans(ask(folder, top_k=20).values)
    words = f" {LONG} "
    for start, end in zip(starts[1], ends[1], strict=True):
        assert start == -1 or f" {LONG[start:end]} " in words
    assert probabilities[1].sum() <= 1 + 1e-6
    assert len({(s, e) for s, e in zip(starts[1].tolist(), ends[1].tolist(), strict=True)}) == 20


def test_an_answer_does_not_depend_on_batches_or_on_what_else_is_asked(folder: Path) -> None:
    together, one_by_one = ask(folder), ask(folder, batch_size=1)
    np.testing.assert_allclose(together.values, one_by_one.values, atol=1e-5)
    for row in (0, 1):
        np.testing.assert_allclose(ask(folder, TABLE.take([row])).values[0], together.values[row], atol=1e-5)


def test_a_question_too_long_for_a_window_is_cut_and_counted(folder: Path) -> None:
    table = TextTable(["cat " * 50, "cat " * 90], ["the old dog", "the old dog"])
    outputs = ask(folder, table)
    assert outputs.details["questions_cut"] == 2
    np.testing.assert_allclose(outputs.values[0], outputs.values[1], atol=1e-6)


def test_blanks_that_a_tokenizer_counts_to_a_word_are_not_in_the_answer() -> None:
    tokenizer: Any = build_tokenizer("bert")

    class Greedy:
        """The same tokens, each beginning with the blanks before it."""

        is_fast, model_max_length, cls_token_id = True, 1000, tokenizer.cls_token_id
        num_special_tokens_to_add = tokenizer.num_special_tokens_to_add

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            encoded = tokenizer(*args, **kwargs)
            for offsets in encoded.get("offset_mapping", ()):
                for i in range(1, len(offsets)):
                    if offsets[i][0] > 0:
                        offsets[i] = (offsets[i - 1][1], offsets[i][1])
            return encoded

    windows = read_in_windows(Greedy(), ["the cat"], ["the  old dog"], 24, 6)
    assert windows.offsets[0].tolist() == [[0, 3], [5, 8], [9, 12]]


def test_a_span_in_two_windows_counts_once_with_its_higher_score() -> None:
    one, two = np.array([0.0, 1.0, 2.0]), np.array([5.0, 0.0, 0.0])
    scores = span_scores([one, two], [one, two], [0, 2], 5, 2)
    assert scores.tolist() == [[0, 1], [2, 3], [10, 5], [0, 0], [0, -np.inf]]


def test_tokens_of_one_character_are_one_candidate() -> None:
    # As byte-level tokenizers give: three tokens for one character, and one that stands for none.
    offsets = np.array([[0, 1], [0, 1], [0, 1], [1, 1], [2, 5]])
    found = best_candidates(np.zeros((5, 1)), offsets, None, 3)
    assert [(start, end) for start, end, _ in found] == [(0, 1), (2, 5)]
    assert [probability for *_, probability in found] == pytest.approx([0.75, 0.25])
    assert best_candidates(np.zeros((0, 3)), offsets[:0], None, 3) == []
    assert best_candidates(np.zeros((0, 3)), offsets[:0], 0.5, 3) == [(-1, -1, 1.0)]


def test_fingerprint_follows_weights_and_reading_but_not_batches_or_names(folder: Path, tmp_path: Path) -> None:
    def identity(**settings: Any) -> str:
        config = {"kind": "span_answerer", "id": "m", "model": folder.name, **settings}
        return build_model(SpanAnswererModel(**config), folder.parent).fingerprint

    first = identity()
    assert identity(id="n", batch_size=1, task="t") == first
    changed = [{"max_tokens": 100}, {"stride": 1}, {"top_k": 2}, {"max_answer_tokens": 3}, {"no_answer": False}]
    assert len({first, *(identity(**settings) for settings in changed)}) == 6


def test_a_backbone_and_a_tokenizer_without_offsets_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"lacks 2 weights of a question answerer .* for extractive question answer"):
        ask(save_tiny("bert", tmp_path / "backbone"))

    class Slow(PreTrainedTokenizerFast):
        is_fast = False

    slow = Slow(tokenizer_object=build_tokenizer("bert").backend_tokenizer, pad_token="[PAD]")
    with pytest.raises(ValueError, match="gives no character offsets"):
        read_in_windows(slow, ["a"], ["b"], 24, 6)


def test_real_answers_come_back_from_the_tokens_that_hold_them() -> None:
    file = shared_folder() / "data" / "tasks" / "squad_v2" / "validation.parquet"
    if not file.is_file():
        pytest.skip(f"no {file}")
    rows = [row for row in pq.read_table(file).to_pylist() if row["answers"]["text"]][:60]
    contexts = [row["context"] for row in rows]
    tokenizer = AutoTokenizer.from_pretrained(find_source(EMBEDDED_NAME, None, Path()).location)
    windows = read_in_windows(tokenizer, [row["question"] for row in rows], contexts, 96, 24)
    assert len(windows.rows) > len(rows)
    for row, (context, given) in enumerate(zip(contexts, (row["answers"] for row in rows), strict=True)):
        offsets, text, begin = windows.offsets[row], given["text"][0], given["answer_start"][0]
        sure_start, sure_end = (10.0 * (offsets[:, i] == begin + i * len(text)) for i in (0, 1))
        sizes = [(int(windows.firsts[i]), windows.context[i]) for i in windows.of_row(row)]
        parts = [slice(first, first + part.stop - part.start) for first, part in sizes]
        scores = span_scores(
            [sure_start[part] for part in parts], [sure_end[part] for part in parts], [first for first, _ in sizes],
            len(offsets), 30,
        )  # fmt: skip
        [(start, end, probability)] = best_candidates(scores, offsets, 0.0, 1)
        assert context[start:end] == text
        assert probability > 0.5
