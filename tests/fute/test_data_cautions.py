"""What ingest counted, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fute.config import PoolConfig
from fute.data.cautions import dataset_cautions, leaked, pool_cautions, rows_to_spare
from fute.errors import DataError
from fute.types import Pool, TextTable
from tests.fute.memory_rows import dataset_from_rows


def rows(n, labels=("good", "bad"), what="row"):
    return {
        "text": [f"{what} number {i} of many" for i in range(n)],
        "label": [labels[i % len(labels)] for i in range(n)],
    }


def dataset(train, **splits):
    return dataset_from_rows("d", "classification", {"train": train, **splits})


def test_a_sound_dataset_is_passed_over_in_silence():
    sound = dataset(rows(40), test=rows(20, what="other"))
    assert dataset_cautions(sound) == []
    assert not leaked(sound.report, "test")
    assert not leaked(sound.report, "train")


def test_a_test_split_of_training_rows_is_leaked():
    same = dataset(rows(40), test=rows(40))
    assert dataset_cautions(same) == [
        "d: test is train: all of its rows are training rows, so that a held-out score on them is leaked"
    ]
    assert leaked(same.report, "test")
    shouted = {"text": [text.upper() for text in rows(10)["text"]], "label": rows(10)["label"]}
    part = dataset(rows(40), test={k: [*shouted[k], *rows(30, what="other")[k]] for k in shouted})
    assert dataset_cautions(part)[0].startswith("d: test: 25% of its rows are training rows")
    assert not leaked(
        dataset(rows(40), test={k: [rows(1)[k][0], *rows(30, what="o")[k]] for k in shouted}).report, "test"
    )


def test_training_rows_that_stand_twice_leak_into_the_part_that_is_kept_aside():
    twice = {k: v * 2 for k, v in rows(40).items()}
    assert leaked(dataset(twice).report, "train")
    assert "100% of its training rows" not in dataset_cautions(dataset(twice))[0]
    assert "stand there more than once" in dataset_cautions(dataset(twice))[0]
    once = dataset_from_rows("d", "classification", {"train": twice}, skip_bad_rows=True)
    assert not leaked(once.report, "train")


def test_labels_that_are_ids_or_contradict_each_other_or_differ_in_capitals_are_told():
    ids = dataset(rows(30, labels=[f"ticket {i}" for i in range(30)]))
    assert dataset_cautions(ids) == ["d: 30 classes for 30 training rows: is the label an id, or a text?"]
    capitals = dataset(rows(30, labels=("Spam", "spam", "ham")))
    assert "the labels 'Spam', 'spam' differ in capitals" in dataset_cautions(capitals)[0]
    accents = dataset(rows(30, labels=("n\u00e9", "ne\u0301")))
    assert "how accents are encoded" in dataset_cautions(accents)[0]
    table = rows(40)
    table["text"][:4] = ["the same text"] * 4
    assert any("of another row, and another label" in line for line in dataset_cautions(dataset(table)))


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (("0", "1", "-1"), "'-1' is a class: if it means that a row has no label"),
        (("good", "bad", "N/A"), "'N/A' is a class: if it means"),
        (("0,0", "0,5", "1"), "labels such as '0,0' are classes: if they are numbers"),
        (("-1", "1"), None),
        (("-1", "0", "1"), "'-1' is a class"),
        (("none", "against"), None),
        (("1,2", "b"), None),
    ],
)
def test_labels_that_may_be_none_or_numbers_are_told(labels: tuple[str, ...], told: str | None) -> None:
    cautions = dataset_cautions(dataset(rows(42, labels=labels)))
    assert [line for line in cautions if told is None or told in line] == cautions
    assert bool(cautions) == (told is not None)


def test_labels_of_another_split_that_training_lacks_are_told():
    odd = dataset(rows(40, labels=("neg", "pos")), test=rows(20, labels=("negative", "pos"), what="other"))
    assert dataset_cautions(odd) == ["d: test has labels that none of the training rows used has: 'negative'"]
    assert dataset_cautions(dataset(rows(40), test=rows(20, labels=("bad",), what="other"))) == []


@pytest.mark.parametrize("alike", [("entity", " entity"), ("a  b", "a b"), ("x", "x\u00a0")])
def test_labels_that_look_the_same_are_refused_unless_both_are_named(alike):
    table = rows(32, labels=(*alike, "other"))
    with pytest.raises(DataError, match="differ in blanks only"):
        dataset(table)
    named = dataset_from_rows("d", "classification", {"train": table}, label_names=[*alike, "other"])
    assert len(named.label_names) == 3


def test_what_a_pool_shares_with_datasets_is_counted():
    known = dataset(rows(40))
    pool = Pool(TextTable([*rows(3)["text"], "something else"]), ["s"] * 4)
    assert pool_cautions(pool, [known])[0].startswith("pool: 3 of its 4 texts are also in a dataset")
    built = Pool(TextTable(["something else"]), ["s"], {"left_out": {"evaluated_exact": 2, "evaluated_normalised": 1}})
    assert pool_cautions(built, ()) == ["pool: 3 texts of its sources are also in a dataset, and were left out"]


def test_a_pool_says_how_many_rows_its_sources_have_to_spare() -> None:
    config = PoolConfig.model_validate({"sources": [{"data": {"files": "a.csv"}}], "rows_per_source": 2})
    report = {"sources": {"a": {"seen": 9}, "b": {"seen": 2}}, "left_out": {"duplicate": 1}}
    pool = Pool(TextTable(["x", "y", "z"]), ["a", "a", "b"], report)
    assert rows_to_spare(pool, config) == ["pool: 7 more rows could be taken; rows_per_source is 2, max_rows 3000"]
    assert rows_to_spare(replace(pool, report=report | {"left_out": {"duplicate": 8}}), config) == []
