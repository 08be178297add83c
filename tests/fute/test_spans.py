"""Outputs of kind spans: their numbers, their checks, and what crosscov makes of them."""

from __future__ import annotations

import numpy as np
import pytest

from fute.errors import OutputsError
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov, expected_positions
from fute.span_contexts import check_spans, context_lengths
from fute.spans import MIN_ANSWERED_SPANS, pack_spans, unpack_spans
from fute.types import Dataset, Outputs, Pool, Split, TextTable

N = 20
CONTEXT = "the cat sat on the old red mat"


def candidates(n: int = N) -> np.ndarray:
    """(n, 6): a span that moves on from row to row, then "no answer"."""
    starts = np.stack([np.arange(n), np.full(n, -1)], axis=1)
    ends = np.stack([np.arange(n) + 2, np.full(n, -1)], axis=1)
    return pack_spans(starts, ends, np.tile([0.7, 0.2], (n, 1)))


def changed(row: int, column: int, value: float) -> Outputs:
    values = candidates()
    values[row, column] = value
    return Outputs("spans", values)


def test_packing_and_unpacking_is_lossless_and_puts_the_most_probable_first() -> None:
    starts, ends = np.array([[3, -1, 16_000_000]]), np.array([[5, -1, 16_000_001]])
    values = pack_spans(starts, ends, np.array([[0.2, 0.1, 0.5]]))
    assert values.dtype == np.float32
    back = unpack_spans(values)
    assert [part.tolist() for part in back[:2]] == [[[16_000_000, 3, -1]], [[16_000_001, 5, -1]]]
    np.testing.assert_allclose(back[2], [[0.5, 0.2, 0.1]], rtol=1e-6)


def test_values_that_are_no_triples_are_refused() -> None:
    with pytest.raises(OutputsError, match=r"spans have shape \(20, 4\); give start, end and probability"):
        Outputs("spans", candidates()[:, :4]).validate(N)


def test_good_spans_pass_and_unanswered_rows_are_not_looked_at() -> None:
    answered = np.arange(N) < MIN_ANSWERED_SPANS
    values = candidates()
    values[~answered] = 0
    assert Outputs("spans", values, answered=answered).validate(N)
    assert Outputs("spans", candidates()).validate(N).answered_mask.all()


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (changed(3, 0, 9.0), r"1 rows hold offsets that are no span, \[9, 5\) for one"),
        (changed(3, 0, 5.0), r"\[5, 5\) for one"),
        (changed(3, 1, 4.5), r"\[3, 4.5\) for one; give whole numbers"),
        (changed(3, 0, -1.0), r"\[-1, 5\) for one; .* or -1 and -1 for no answer"),
        (changed(3, 2, np.nan), "1 of 20 rows hold NaN"),
        (changed(3, 2, 0.9), "the largest sum of a row is 1.1"),
        (changed(3, 5, -0.5), "lie between -0.5 and 0.7"),
        (changed(3, 2, 0.1), "not in order; put the most probable first"),
        (Outputs("spans", np.tile(candidates(1), (N, 1))), "the same for every input"),
        (Outputs("spans", np.tile(np.float32([-1, -1, 0]), (N, 1))), "20 answered rows hold no candidate"),
        (
            Outputs("spans", candidates(), answered=np.arange(N) < MIN_ANSWERED_SPANS - 1),
            r"only 15 of 20 inputs have an answer span \(needed: 16\); .* add sources with text_pair",
        ),
    ],
)
def test_what_is_no_span_is_refused(outputs: Outputs, message: str) -> None:
    with pytest.raises(OutputsError, match=message):
        outputs.validate(N)


def test_a_pool_of_mostly_single_texts_is_enough() -> None:
    answered = np.arange(1000) < MIN_ANSWERED_SPANS
    assert Outputs("spans", candidates(1000), answered=answered).validate(1000)


def test_a_span_outside_its_text_is_refused_with_row_offsets_and_length() -> None:
    table = TextTable(["where?"] * N, [CONTEXT] * 18 + [None, "   "])
    assert context_lengths(table).tolist() == [len(CONTEXT)] * 18 + [0, 0]
    answered = np.arange(N) < 18
    assert check_spans(Outputs("spans", candidates(), answered=answered), table)
    with pytest.raises(OutputsError, match=r"row 18 has \[18, 20\), but that input has no context \(2 such rows\)"):
        check_spans(Outputs("spans", candidates()), table)
    short = TextTable(["where?"] * N, [CONTEXT[:12]] * N)
    with pytest.raises(OutputsError, match=r"row 11 has \[11, 13\), but its context has 12 characters \(9 such rows\)"):
        check_spans(Outputs("spans", candidates()), short)
    nothing = candidates()
    nothing[18:, :2] = -1
    with pytest.raises(OutputsError, match=r"row 18 has no context, yet counts as answered \(2 such rows\)"):
        check_spans(Outputs("spans", nothing), table)


def test_other_outputs_are_not_looked_at() -> None:
    scores = Outputs("scores", np.full((2, 1), 99, dtype=np.float32))
    assert check_spans(scores, TextTable(["a", "b"])) is scores


def test_expected_positions_are_means_over_the_candidates() -> None:
    starts, ends = np.array([[2, 4, -1], [-1, -1, -1]]), np.array([[4, 8, -1], [-1, -1, -1]])
    probabilities = np.array([[0.4, 0.2, 0.2], [0.5, 0.0, 0.0]])
    expected = [[0.75, (0.5 * 2 + 0.25 * 4) / 10, (0.5 * 4 + 0.25 * 8) / 10], [0, 0, 0]]
    np.testing.assert_allclose(expected_positions(starts, ends, probabilities, np.array([10, 5])), expected)


WIDTH = 12


def features(table: TextTable) -> np.ndarray:
    """Surrogate features that know which word the context begins with and how long it is, with a little noise."""
    rows = []
    for question, context in zip(table.texts, table.pairs or [None] * len(table), strict=True):
        words = (context or "").split()
        row = np.random.default_rng(len(question) * 7919 + len(context or "")).normal(size=WIDTH) * 0.3
        row[0] += len(words) / 5
        row[1] += words.count("cat") * 2
        row[2] += words.index("cat") / 3 if "cat" in words else 0
        rows.append(row)
    return np.array(rows, dtype=np.float32)


def questions(n: int, seed: int) -> TextTable:
    """Contexts of 6 to 12 words, with a cat in some of them."""
    rng = np.random.default_rng(seed)
    contexts = []
    for _ in range(n):
        words = ["dog"] * int(rng.integers(6, 13))
        if rng.random() < 0.7:
            words[int(rng.integers(len(words)))] = "cat"
        contexts.append(" ".join(words))
    return TextTable(["where is the cat" + "?" * int(rng.integers(40)) for _ in range(n)], contexts)


def find(word: str, table: TextTable) -> np.ndarray:
    starts = np.array([(context or "").find(word) for context in table.pairs or ()])
    return np.stack([starts, np.where(starts >= 0, starts + len(word), -1)], axis=1)


def test_an_answerer_of_a_dataset_s_questions_lies_nearer_to_it_than_another_one() -> None:
    train = questions(200, seed=1)
    dataset = Dataset("cats", "span_qa", {"train": Split(train, find("cat", train))}, "f")
    asked = questions(200, seed=2)
    single = 100  # rows of the pool without a context
    table = TextTable([*asked.texts, *["just a text"] * single], [*(asked.pairs or ()), *[None] * single])
    space = Crosscov(CrosscovConfig(components=8), features, Pool(table, ["qa"] * 200 + ["texts"] * single))
    answered = np.arange(len(table)) < 200

    def answers(spans: np.ndarray) -> np.ndarray:
        """Mostly sure of its answer, and the rest on "no answer"."""
        padded = np.concatenate([spans, np.full((single, 2), -1)])
        both = np.stack([padded, np.full_like(padded, -1)], axis=1)  # (rows, 2 candidates, 2)
        probabilities = np.tile([0.8, 0.15], (len(table), 1)) * answered[:, None]
        return pack_spans(both[:, :, 0], both[:, :, 1], probabilities)

    at_random = np.random.default_rng(3).integers(0, 15, 200)
    own, other = (
        space.model(check_spans(Outputs("spans", answers(spans), answered=answered), table)).vector
        for spans in (find("cat", asked), np.stack([at_random, at_random + 3], axis=1))
    )
    vector = space.dataset(dataset).vector
    assert vector @ own > 0.9
    assert vector @ own > vector @ other + 0.1
