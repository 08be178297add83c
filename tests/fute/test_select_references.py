"""References: labelled datasets under the candidates' labels, without the target's own texts."""

from __future__ import annotations

import numpy as np

from fute.select.references import labelled_texts, shared_labels
from fute.types import Dataset, Floats, Split, TextTable

NAMES = ("negative", "neutral", "positive")


def dataset(n: int = 60, names: tuple[str, ...] = NAMES) -> Dataset:
    texts = TextTable([f"a rather long review of film number {i}" for i in range(n)])
    return Dataset("films", "classification", {"train": Split(texts, np.arange(n) % len(names))}, "f", names)


def row_numbers(table: TextTable) -> Floats:
    return np.arange(len(table), dtype=np.float32)[:, None]


NOBODY = TextTable(["a text that stands nowhere else"])


def test_labels_are_matched_by_name_and_rows_of_other_labels_left_out() -> None:
    found = labelled_texts(dataset(), ("positive", "negative"), NOBODY, row_numbers)
    assert found is not None
    assert len(found.labels) == 40
    rows = found.features[:, 0].astype(int)
    np.testing.assert_array_equal(found.labels, np.where(rows % 3 == 2, 0, 1))


def test_rows_of_the_target_are_left_out_however_they_are_written() -> None:
    target = TextTable(["A rather long review of FILM number 3!", "something else altogether"])
    found = labelled_texts(dataset(), NAMES, target, row_numbers)
    assert found is not None
    assert 3 not in found.features[:, 0]
    assert len(found.labels) == 59


def test_a_dataset_with_other_labels_or_too_few_rows_is_no_reference() -> None:
    assert labelled_texts(dataset(names=("food", "travel")), ("positive", "negative"), NOBODY, row_numbers) is None
    assert labelled_texts(dataset(n=9), NAMES, NOBODY, row_numbers) is None


def test_a_regression_shares_no_labels() -> None:
    split = Split(TextTable(["one", "two"]), np.array([0.1, 0.2], np.float32))
    assert shared_labels(Dataset("numbers", "regression", {"train": split}, "f"), NAMES) == []
