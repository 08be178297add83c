"""Reading labels from the words of an answer."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from fute.llm.parse import How, refuses
from fute.llm.token_masses import positions_of_text
from fute.llm.types import SCORED, Answer, TokenLogprobs
from fute.llm.verbalizer import Verbalizer, after_thinking

WORDS = {"positive": ["positive", "yes"], "negative": ["negative", "no", "false"]}


def read(text: str, how: How = "any") -> tuple[str, list[float] | None]:
    reading = Verbalizer(WORDS, parse=how).read(Answer(text))
    return reading.source, None if reading.probabilities is None else reading.probabilities.tolist()


@pytest.mark.parametrize(
    ("text", "exact", "first", "json"),
    [
        (" Positive. ", True, True, False),
        ("It is positive, not negative", False, True, False),
        ('{"answer": "positive"}', False, True, True),
        ('Here you are:\n```json\n{"label": "Yes", "why": "no fault found"}\n```', False, True, True),
    ],
)
def test_each_way_of_parsing_reads_what_it_says_and_no_more(text, exact, first, json):
    for how, reads in (("exact", exact), ("first", first), ("json", json), ("any", True)):
        source, probabilities = read(text, how)  # type: ignore[arg-type]
        assert source == ("text" if reads else "unparsable"), how
        if probabilities is not None:
            # The first word of a text may be meant otherwise.
            assert probabilities[0] == (1.0 if exact or how != "first" else pytest.approx(0.9)), how


def test_json_with_a_number_for_each_label_is_read_as_probabilities():
    source, probabilities = read('{"positive": 3, "negative": 1}')
    assert source == "text"
    np.testing.assert_allclose(probabilities, [0.75, 0.25])


@pytest.mark.parametrize(
    "text",
    [
        '{"positive": 0.9}',  # a label is missing
        '{"positive": 0, "negative": 0}',
        '{"positive": -1, "negative": 2}',
        '{"positive": 1, "other": 2}',
        '{"answer": "maybe"}',
        '{"answer": ["positive"]}',
        '{"one": "positive", "two": "negative"}',
        '{"answer": "positive"',
    ],
)
def test_json_that_does_not_name_one_label_is_not_read(text):
    assert read(text, "json")[0] == "unparsable"


def test_a_word_of_json_is_read_as_the_word_it_is():
    assert read('{"answer": false}', "json") == ("text", [0.0, 1.0])


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I cannot assist with rating this positive or negative text.",
        "Sorry, I am unable to answer.",
        "I cannot provide a judgement whether it is positive.",
        "As an AI language model, I have no opinion; it may be negative.",
        "Unfortunately, I won't do this.",
        "I apologize, but I must decline.",
        '"I can\'t assist with that."',
    ],
)
def test_refusals_in_words_are_refusals_even_where_they_name_a_label(text):
    assert refuses(text)
    assert read(text) == ("refused", None)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry to say that this one is negative.",
        "Unfortunately it is negative",
        "I can see that it is positive",
        "Sorry, negative.",
        "The author says: I cannot help with that. So it is negative",
        "I cannot say",
        "I can't help but love it, positive",
        "I will not continue watching this",
        "I cannot write well enough about it",
    ],
)
def test_answers_that_only_sound_like_refusals_are_none(text):
    assert not refuses(text)


def test_thinking_is_taken_off_the_text_and_off_the_log_probabilities():
    tokens = ["<think>", "positive?", "</think>", "\n", "negative"]
    logprobs = tuple(TokenLogprobs(token, -0.1, ((token, -0.1),)) for token in tokens)
    answer = after_thinking(Answer("".join(tokens), logprobs))
    assert answer.text.strip() == "negative"
    assert [position.token for position in positions_of_text(answer)] == ["negative"]
    reading = Verbalizer(WORDS).read(Answer("".join(tokens), logprobs))
    assert reading.source == "logprobs"
    assert reading.probabilities is not None
    assert reading.probabilities.argmax() == 1


def test_thinking_without_its_opening_mark_ends_at_the_closing_one():
    assert after_thinking(Answer("could be positive\n</think>\n\nnegative")).text.strip() == "negative"


def test_thinking_that_was_cut_off_is_no_answer_whatever_words_it_holds():
    reading = Verbalizer(WORDS).read(Answer("<think> is it positive or", finish_reason="length"))
    assert (reading.source, reading.probabilities) == ("empty", None)


def test_scored_words_are_taken_as_they_are_however_small_their_probabilities():
    top = (("positive", -30.0), ("yes", -31.0), ("no", -90.0), ("negative", -100.0), ("false", -100.0))
    reading = Verbalizer(WORDS).read(Answer("positive", (TokenLogprobs(*top[0], top),), finish_reason=SCORED))
    assert reading.source == "logprobs"
    assert reading.probabilities is not None
    assert 0 < reading.probabilities[1] < 1e-11
    even = (("positive", math.log(1e-9)), ("no", math.log(3e-9)))
    reading = Verbalizer(WORDS).read(Answer("no", (TokenLogprobs(*even[1], even),), finish_reason=SCORED))
    np.testing.assert_allclose(reading.probabilities, [0.25, 0.75], rtol=1e-5)


def test_samples_become_shares_with_one_more_answer_divided_evenly():
    verbalizer = Verbalizer(WORDS)
    answers = [
        Answer("yes"),
        Answer("positive"),
        Answer("no"),
        Answer("who knows"),
        Answer("", finish_reason="refusal"),
    ]
    reading = verbalizer.read_samples(answers)
    assert reading.source == "samples"
    np.testing.assert_allclose(reading.probabilities, [2.5 / 4, 1.5 / 4])
    assert verbalizer.read_samples([Answer("yes")] * 5).probabilities.min() > 0


def test_samples_none_of_which_can_be_read_are_no_answer_for_the_most_common_reason():
    refused = Answer("", finish_reason="refusal")
    reading = Verbalizer(WORDS).read_samples([refused, Answer("who knows"), refused])
    assert (reading.source, reading.probabilities) == ("refused", None)


@pytest.mark.parametrize("text", ['{"a": ' + "[" * 100_000 + "}", '{"yes": 1' + "0" * 400 + ', "no": 0}'])
def test_json_that_nothing_can_hold_is_read_as_any_other_text(text):
    assert Verbalizer(WORDS, parse="json").read(Answer(text)).source == "unparsable"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("[THINK]positive?[/THINK]negative", "negative"),
        ("◁think▷positive?◁/think▷ negative", "negative"),
        ("<|begin_of_thought|>positive?<|end_of_thought|>negative", "negative"),
        (
            "<|channel|>analysis<|message|>positive?<|end|><|start|>assistant<|channel|>final<|message|>negative",
            "negative",
        ),
        ("<thinking>a</thinking> or <think>b</think> negative", "negative"),
        ("<reasoning>is it positive", ""),
        ("<|channel|>analysis<|message|>is it positive", ""),
        ("negative <b>and</b> [1]", "negative <b>and</b> [1]"),
    ],
)
def test_thinking_ends_at_its_mark_whatever_brackets_and_words_a_vendor_takes(text, answer):
    assert after_thinking(Answer(text)).text.strip() == answer


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("positive", 0),
        ("Answer: negative", 1),
        ("The sentiment is negative.", 1),
        ("The user asks whether it is positive or negative. It has positive", None),
        ("The acting is positive, and then", None),
        ("It could be positive", None),
    ],
)
def test_of_an_answer_that_was_cut_off_only_what_is_said_completely_counts(text, label):
    read = Verbalizer(WORDS).read(Answer(text, finish_reason="length")).probabilities
    assert (None if read is None else read.argmax()) == label


STARS = Verbalizer({str(number): [str(number)] for number in range(1, 6)})


@pytest.mark.parametrize(
    ("text", "star"),
    [
        *[("4/5", 4), ("4 out of 5", 4), ("Score: 4 / 5", 4), ("Rating: 2/5 - dull", 2), ("4.0", 4)],
        *[("3.5/5", None), ("0/5", None), ("4.5 / 5", None), ("3.5 out of 5", None), ("three out of 5", None)],
        *[("10/5", None), ("3½", None), ("2½ stars", None), ("5/10", None), ("Score: 4/10", None), ("1/2", None)],
    ],
)
def test_a_scale_is_no_rating_and_a_rating_on_another_scale_is_none_of_the_labels(text, star):
    read = STARS.read(Answer(text)).probabilities
    assert (None if read is None else read.argmax() + 1) == star


@pytest.mark.parametrize(
    ("text", "label"),
    [
        *[("Without a doubt positive", 0), ("There is no doubt that it is positive.", 0), ("positive - 1 of many", 0)],
        *[("I would give it a positive score.", 0), ("Its positive score is 0.2", None)],
        *[("Nothing here is negative; it is positive.", 0), ("clearly not (positive)", 1)],
        *[("It is unlikely to be positive", None), ("Positive is unlikely.", None), ("Positive is not correct.", None)],
        *[("free of negative words", None), ("lacks any negative tone", None), ("There is nothing negative", None)],
        *[("without any negative words", None), ('The label "positive" does not apply.', None)],
        *[("Positive likelihood: low", None), ("Positive — 5%", None), ("Positive -> 0.1 Negative -> 0.9", None)],
        *[("I doubt that it is positive", None), ("sans rien de negative", None), ("ohne negative", None)],
    ],
)
def test_what_denies_a_label_in_other_words_than_not_leaves_it_open(text, label):
    read = Verbalizer(WORDS).read(Answer(text)).probabilities
    assert (None if read is None else read.argmax()) == label


def test_a_word_that_was_cut_off_may_be_the_beginning_of_another_labels():
    intents = Verbalizer({"cancel": ["cancel"], "all": ["cancel_all"]})
    assert intents.read(Answer("cancel", finish_reason="length")).source == "unparsable"
    assert intents.read(Answer("Intent: cancel", finish_reason="length")).source == "unparsable"
    assert intents.read(Answer("cancel", finish_reason="stop")).probabilities.argmax() == 0
    assert intents.read(Answer("Cancel all", finish_reason="length")).probabilities.argmax() == 1


@pytest.mark.parametrize(
    "piece",
    [
        *["{", '{"a":', "[", "<", "</", "<think>", "<|channel|>", "'", "-", " ", "\n"],
        *["a ", "A, ", "not ", "positive or ", "positive. ", "answer: ", "neither positive nor ", "1/5 "],
        *["\u0316\u0301", "\ufdfa", "\u00df", "是"],
    ],
)
def test_time_does_not_grow_with_the_square_of_a_text(piece):
    readers = [Verbalizer(WORDS), Verbalizer({"y": ["是"], "n": ["否"]}), Verbalizer({name: [name] for name in "ABCD"})]
    text = piece * (400_000 // len(piece))
    started = time.process_time()
    for reader in readers:
        reader.read(Answer(text))
    assert time.process_time() - started < 6  # a tenth of it on a quiet machine; the square would be minutes
