from __future__ import annotations

import math

import numpy as np
import pytest

from fute.errors import ConfigError
from fute.llm.types import Answer, TokenLogprobs
from fute.llm.verbalizer import Verbalizer

SENTIMENT = Verbalizer({"positive": ["positive", "good"], "negative": ["negative", "bad"]})


def position(**probabilities: float) -> TokenLogprobs:
    """The first token is the one that was generated; _ stands for a blank in a token."""
    top = [(token.replace("_", " "), math.log(p)) for token, p in probabilities.items()]
    return TokenLogprobs(*top[0], tuple(top))


def answer(*positions: TokenLogprobs, text: str | None = None) -> Answer:
    written = "".join(token for token, _, _ in positions) if text is None else text
    return Answer(written, tuple(positions) or None)


def test_probabilities_of_all_spellings_of_a_label_are_added():
    read = SENTIMENT.read(answer(position(positive=0.4, Positive=0.1, _good=0.1, negative=0.2, _Bad=0.1, the=0.1)))
    assert read.source == "logprobs"
    np.testing.assert_allclose(read.probabilities, [0.6 / 0.9, 0.3 / 0.9], rtol=1e-6)


def test_raw_tokens_of_byte_level_and_sentencepiece_vocabularies_are_understood():
    tokens = (("Ġpositive", math.log(0.5)), ("▁negative", math.log(0.25)))
    read = SENTIMENT.read(Answer("positive", (TokenLogprobs(*tokens[0], tokens),)))
    np.testing.assert_allclose(read.probabilities, [2 / 3, 1 / 3], rtol=1e-6)


def test_a_token_that_begins_words_of_one_label_only_counts_for_it():
    read = SENTIMENT.read(answer(position(pos=0.6, neg=0.3), position(itive=1.0)))
    np.testing.assert_allclose(read.probabilities, [2 / 3, 1 / 3], rtol=1e-6)


def test_a_token_that_begins_words_of_several_labels_counts_for_none():
    stance = Verbalizer({"for": ["support"], "against": ["suspect"], "other": ["neutral"]})
    read = stance.read(answer(position(neutral=0.3, su=0.6)))
    assert read.probabilities is not None
    assert read.probabilities.argmax() == 2


def test_one_letter_is_too_little_to_count_as_the_beginning_of_a_word():
    read = Verbalizer({"anger": ["anger"], "joy": ["joy"]}).read(
        answer(position(A=0.95, joy=0.05), position(_happy=1.0), text="A happy one: joy")
    )
    np.testing.assert_allclose(read.probabilities, [0.0, 1.0], atol=1e-6)


def test_after_one_letter_of_a_word_the_next_token_decides():
    french = Verbalizer({"yes": ["oui"], "no": ["non"]})
    read = french.read(answer(position(o=0.85, non=0.12), position(ui=1.0)))
    assert read.source == "logprobs"
    np.testing.assert_allclose(read.probabilities, [0.85 / 0.97, 0.12 / 0.97], rtol=1e-6)


def test_words_of_several_tokens_are_decided_where_they_part():
    grades = Verbalizer({"high": ["very good"], "low": ["very bad"], "mid": ["fair"]})
    read = grades.read(answer(position(very=0.8, fair=0.2), position(_good=0.75, _bad=0.25)))
    np.testing.assert_allclose(read.probabilities, [0.6, 0.2, 0.2], rtol=1e-6)


def test_a_blank_first_token_hands_over_to_the_next():
    read = SENTIMENT.read(answer(position(_=0.9, positive=0.1), position(positive=0.6, negative=0.4)))
    np.testing.assert_allclose(read.probabilities, [0.64, 0.36], rtol=1e-6)


def test_a_label_of_which_nothing_came_back_gets_little_but_never_nothing():
    read = SENTIMENT.read(answer(position(positive=0.9, the=0.04, _a=0.02)))
    # What was not returned is 0.04, the smallest that was is 0.02: the label cannot have more than either.
    np.testing.assert_allclose(read.probabilities, [0.9 / 0.92, 0.02 / 0.92], rtol=1e-5)


def test_no_label_is_zero_even_where_the_returned_tokens_leave_no_rest():
    read = SENTIMENT.read(answer(position(positive=1.0)))
    assert read.probabilities is not None
    assert read.probabilities[1] > 0
    assert read.probabilities.sum() == pytest.approx(1.0)


def test_probabilities_do_not_depend_on_the_order_of_the_returned_tokens():
    tokens = {"positive": 0.5, "bad": 0.2, "neg": 0.1, "good": 0.05, "so": 0.01}
    forward = SENTIMENT.read(Answer("positive", (TokenLogprobs("positive", -0.7, _logs(tokens)),)))
    backward = SENTIMENT.read(
        Answer("positive", (TokenLogprobs("positive", -0.7, _logs(dict(reversed(tokens.items())))),))
    )
    np.testing.assert_allclose(forward.probabilities, backward.probabilities, rtol=1e-6)


def _logs(probabilities: dict[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple((token, math.log(p)) for token, p in probabilities.items())


def test_a_sentence_is_read_as_text_where_the_log_probabilities_hardly_speak_of_the_labels():
    read = SENTIMENT.read(answer(position(The=0.95, positive=0.01), text="The review is negative."))
    assert read.source == "text"
    np.testing.assert_array_equal(read.probabilities, [0.0, 1.0])


def test_the_text_decides_where_it_names_another_label_than_the_few_beginnings_of_labels():
    read = SENTIMENT.read(answer(position(The=0.8, Positive=0.12, Negative=0.04), text="The sentiment is negative"))
    assert read.source == "text"
    assert read.probabilities.argmax() == 1
    # Where it names the same, or the labels have most of the probability, the log-probabilities say how sure it is.
    agreed = SENTIMENT.read(answer(position(The=0.8, Positive=0.12, Negative=0.04), text="The sentiment is positive"))
    assert agreed.source == "logprobs"
    np.testing.assert_allclose(agreed.probabilities, [0.75, 0.25], rtol=1e-6)


def test_what_little_the_log_probabilities_say_is_used_where_the_text_names_no_label():
    little = position(The=0.95, positive=0.02, negative=0.01)
    read = SENTIMENT.read(answer(little, text="The film"))
    assert read.source == "logprobs"
    np.testing.assert_allclose(read.probabilities, [2 / 3, 1 / 3], rtol=1e-6)
    assert SENTIMENT.read(Answer("The film", (little,), finish_reason="length")).source == "unparsable"


@pytest.mark.parametrize(
    ("tokens", "text", "label"),
    [
        ([("positive", 0.9)], "negative", 1),
        ([("Positive", 0.9), (" words", 0.9), (",", 0.9), (" irony", 0.9)], "negative", 1),
        ([("positive", 0.6), ("ly", 0.9), (" dull", 0.9)], "positively dull", None),
        ([("Positive", 0.9), (" or", 0.9), (" negative", 0.9), ("?", 0.9)], "Positive or negative?", None),
        ([("Not", 0.9), (" positive", 0.9)], "Not positive", 1),
        ([("Is", 0.9), (" it", 0.9)], "Is it positive or negative?", None),
    ],
)
def test_log_probabilities_never_say_what_the_text_does_not(tokens, text, label):
    read = SENTIMENT.read(Answer(text, tuple(position(**{token.replace(" ", "_"): p}) for token, p in tokens)))
    assert read.source == ("unparsable" if label is None else "text")
    assert (None if read.probabilities is None else read.probabilities.argmax()) == label


@pytest.mark.parametrize("end", [[], ["<|im_end|>"], ["\n", "</s>"]])
@pytest.mark.parametrize("before", [["positive", "?", "</think>"], ["positive", " words", "\n\n"], ["\n"], []])
def test_the_tokens_of_the_text_are_found_behind_those_of_the_reasoning(before, end):
    positions = [position(**{token: 0.9}) for token in before]
    read = SENTIMENT.read(answer(*positions, position(neg=0.7, pos=0.2), position(ative=1.0), text="negative"))
    assert read.source == "logprobs"
    np.testing.assert_allclose(read.probabilities, [0.2 / 0.9, 0.7 / 0.9], rtol=1e-6)
    positions += [position(neg=0.7, pos=0.2), position(ative=1.0)]
    ended = SENTIMENT.read(answer(*positions, *(position(**{token: 0.9}) for token in end), text="negative"))
    np.testing.assert_array_equal(ended.probabilities, read.probabilities)


RATINGS = Verbalizer({str(n): [str(n)] for n in range(1, 11)})


def test_a_word_that_begins_another_labels_is_decided_by_the_next_token():
    ten = RATINGS.read(answer(position(**{"1": 0.6, "2": 0.3}), position(**{"0": 0.8, ".": 0.1}))).probabilities
    np.testing.assert_allclose(ten[[9, 1, 0]] / ten[[9, 1, 0]].sum(), [0.48 / 0.9, 0.3 / 0.9, 0.12 / 0.9], rtol=1e-5)
    one = RATINGS.read(answer(position(**{"1": 0.6, "2": 0.3}), position(**{".": 0.7, "0": 0.2}))).probabilities
    np.testing.assert_allclose(one[[9, 1, 0]] / one[[9, 1, 0]].sum(), [0.12 / 0.9, 0.3 / 0.9, 0.48 / 0.9], rtol=1e-5)
    # Nothing follows: it is the word that was written.
    alone = RATINGS.read(answer(position(**{"1": 0.6, "2": 0.4}))).probabilities
    np.testing.assert_allclose(alone[:2], [0.6, 0.4], rtol=1e-5)


def test_what_was_generated_is_the_answer_where_a_sum_over_tokens_would_say_otherwise():
    read = RATINGS.read(answer(position(**{"1": 0.5, "2": 0.45}), position(**{"0": 0.6, ".": 0.4})))
    assert (read.source, read.probabilities.argmax()) == ("text", 9)


@pytest.mark.parametrize("labels", [("cancel", "cancel_reservation"), ("science", "science fiction"), ("A", "AB")])
@pytest.mark.parametrize("written", [0, 1])
def test_of_two_labels_of_which_one_begins_the_other_the_generated_one_is_read(labels, written):
    reader = Verbalizer({label: [label] for label in labels})
    tokens = [labels[0], labels[1].removeprefix(labels[0])][: written + 1]
    positions = tuple(TokenLogprobs(token, -0.01, ((token, -0.01),)) for token in tokens)
    for given in (positions, None):
        assert reader.read(Answer("".join(tokens), given)).probabilities.argmax() == written


@pytest.mark.parametrize(
    ("text", "label"),
    [("Good", 0), ("  **negative**. ", 1), ("It is a bad, not a good one", 1), ("'POSITIVE'\n", 0)],
)
def test_text_is_matched_exactly_or_by_the_first_whole_word(text, label):
    read = SENTIMENT.read(Answer(text))
    assert read.source == "text"
    assert read.probabilities is not None
    assert read.probabilities.argmax() == label


@pytest.mark.parametrize("text", ["goodness me", "unbadged", "I cannot say", "positively"])
def test_a_word_within_another_word_is_no_answer(text):
    assert SENTIMENT.read(Answer(text)).source == "unparsable"


def test_the_longer_of_two_words_at_one_place_is_meant():
    verbalizer = Verbalizer({"no": ["not"], "unsure": ["not sure"]})
    assert verbalizer.read(Answer("I am not sure.")).probabilities.argmax() == 1


def test_words_with_characters_of_regular_expressions_are_plain_words():
    verbalizer = Verbalizer({"plus": ["c++"], "any": [".*x"]})
    assert verbalizer.read(Answer("anything")).source == "unparsable"
    assert verbalizer.read(Answer("I like C++ best")).probabilities.argmax() == 0


def test_refusals_and_empty_answers_are_told_apart():
    assert SENTIMENT.read(Answer("positive", finish_reason="content_filter")).source == "refused"
    assert SENTIMENT.read(Answer("", finish_reason="refusal")).source == "refused"
    assert SENTIMENT.read(Answer(" \n", finish_reason="length")).source == "empty"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"only": ["one"]}, "1 labels; give two or more"),
        ({"a": ["yes"], "b": []}, "label 'b' has no answer words"),
        ({"a": ["yes"], "b": ["YES "]}, "stands for 'a' and for 'b'"),
        ({"a": ["yes"], "b": ["  "]}, "is no answer word"),
    ],
)
def test_a_verbalizer_that_cannot_work_is_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        Verbalizer(words)
