"""The texts of two labels of a dataset, and classes that are called like them."""

from __future__ import annotations

import numpy as np
import pytest

from fute.errors import DataError
from fute.types import Dataset, Split, TextTable
from tasks.match_classes import _named
from tasks.match_target import labelled_part, of_classes

NAMES = ("ask", "complaint", "refund")


def dataset(**parts: list[int]) -> Dataset:
    splits = {
        name: Split(TextTable([f"{name} {i} {NAMES[label]}" for i, label in enumerate(labels)]), np.array(labels))
        for name, labels in parts.items()
    }
    return Dataset("d", "classification", splits, "f", NAMES)


def test_rows_of_two_labels_are_taken_in_the_order_that_the_labels_are_named_in() -> None:
    found = of_classes("file", dataset(train=[0, 1, 2, 2, 1]), ["refund", "ask"], 100)
    assert found.label_names == ("refund", "ask")
    assert found.splits["train"].inputs.texts == ["train 0 ask", "train 2 refund", "train 3 refund"]
    assert found.splits["train"].targets.tolist() == [1, 0, 0]


def test_a_part_without_such_rows_is_left_out_and_a_large_one_is_sampled_by_label() -> None:
    found = of_classes("file", dataset(train=[1] * 300 + [2] * 100, test=[0] * 30), ["complaint", "refund"], 40)
    assert list(found.splits) == ["train"]
    assert np.bincount(found.splits["train"].targets).tolist() == [30, 10]
    assert labelled_part("file", found).part == "train"


def test_labels_that_are_not_there_or_the_same_are_refused() -> None:
    with pytest.raises(DataError, match="no text of file has the label 'refunds'; did you mean 'refund'"):
        of_classes("file", dataset(train=[0, 1, 2]), ["refunds", "ask"], 10)
    with pytest.raises(DataError, match="'ask' is named twice"):
        of_classes("file", dataset(train=[0, 1, 2]), ["ask", "ask"], 10)


def test_classes_are_called_like_the_labels_where_each_has_one_of_them() -> None:
    assert _named(("other", "Refund", "ask"), ("ask", "refund")) == (2, 1)
    assert _named(("refund", "Refund", "ask"), ("ask", "refund")) is None
    assert _named(("refund", "other"), ("ask", "refund")) is None
    assert _named(("ask", "other"), ("ask", "Ask")) is None
