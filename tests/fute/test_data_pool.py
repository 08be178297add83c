import json
from pathlib import Path

import pytest

from fute.config import PoolConfig
from fute.data.pool import build_pool
from fute.errors import ConfigError, DataError
from tests.fute.memory_rows import dataset_from_rows


def write(folder, name, texts, pairs=None):
    folder.mkdir(exist_ok=True)
    pairs = pairs or [None] * len(texts)
    lines = [json.dumps({"text": t, "text_pair": p}) for t, p in zip(texts, pairs, strict=True)]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def sentences(what, n=40):
    return [f"sentence {i} about {what} and other things" for i in range(n)]


def pool_config(**settings):
    source = {"data": {"files": "u/*.jsonl"}, "text_pair": "text_pair"}
    return PoolConfig(**{"sources": [source], "rows_per_source": 10, **settings})


def by_source(pool):
    found = {}
    for text, source in zip(pool.inputs.texts, pool.source_ids, strict=True):
        found.setdefault(source, []).append(text)
    return found


@pytest.fixture
def folder(tmp_path):
    for name in ("birds", "clocks", "rivers"):
        write(tmp_path / "u", name, sentences(name))
    return tmp_path


def test_each_file_of_a_glob_is_a_source_with_its_share(folder):
    pool = build_pool(pool_config(), folder, 0, [])
    assert {k: len(v) for k, v in by_source(pool).items()} == {"birds": 10, "clocks": 10, "rivers": 10}
    assert list(pool.source_ids) == sorted(pool.source_ids)
    assert pool.report["sources"]["birds"] == {"seen": 40, "kept": 10}
    assert pool.inputs.pairs is None
    assert build_pool(pool_config(), folder, 0, []).id == pool.id
    assert build_pool(pool_config(), folder, 1, []).id != pool.id


def test_a_folder_may_be_given_relative_to_the_working_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert build_pool(pool_config(), Path(folder.name), 0, []).id == build_pool(pool_config(), folder, 0, []).id


def test_adding_a_source_reshuffles_no_other(folder):
    before = by_source(build_pool(pool_config(), folder, 0, []))
    write(folder / "u", "apples", sentences("apples"))
    after = by_source(build_pool(pool_config(), folder, 0, []))
    assert {name: after[name] for name in before} == before


def test_a_smaller_share_of_a_source_is_part_of_its_larger_one(folder):
    large = by_source(build_pool(pool_config(), folder, 0, []))
    small = by_source(build_pool(pool_config(max_rows=9), folder, 0, []))
    assert {k: len(v) for k, v in small.items()} == {"birds": 3, "clocks": 3, "rivers": 3}
    assert all(set(small[name]) <= set(large[name]) for name in small)


def test_what_a_small_source_leaves_goes_to_the_others(folder):
    write(folder / "u", "few", sentences("few", 2))
    pool = build_pool(pool_config(max_rows=14), folder, 0, [])
    assert {k: len(v) for k, v in by_source(pool).items()} == {"birds": 4, "clocks": 4, "few": 2, "rivers": 4}


def test_texts_stand_once_in_the_pool_whatever_their_case(folder):
    write(folder / "u", "copies", [t.upper() + "!" for t in sentences("birds")])
    pool = build_pool(pool_config(rows_per_source=40), folder, 0, [])
    assert pool.report["sources"]["birds"]["kept"] == 40
    assert pool.report["sources"]["copies"]["kept"] == 0
    assert pool.report["left_out"]["duplicate"] == 40


def test_rows_of_evaluated_datasets_are_left_out_of_any_split(folder):
    birds, rivers = sentences("birds"), sentences("rivers")
    evaluated = dataset_from_rows(
        "d", "classification",
        {
            "train": {"text": birds[:20], "label": [0, 1] * 10},
            "test": {"text": [t.replace(" and ", ", AND ") for t in rivers[:5]] + ["short"], "label": [0, 1] * 3},
        },
    )  # fmt: skip
    config = pool_config(rows_per_source=40)
    pool = build_pool(config, folder, 0, [evaluated])
    kept = set(pool.inputs.texts)
    assert not kept & {*birds[:20], *rivers[:5]}
    assert {*birds[20:], *rivers[5:]} <= kept
    assert pool.report["left_out"] == {"evaluated_exact": 20, "evaluated_normalised": 5, "duplicate": 0, "empty": 0}
    everything = build_pool(config.model_copy(update={"exclude_evaluated": False}), folder, 0, [evaluated])
    assert len(everything) == 120


def test_a_pair_is_left_out_for_a_long_shared_text_but_not_for_a_short_one(tmp_path):
    premise = "The ferry crosses the lake twice a day in summer"
    train = {"a": [premise, *sentences("x", 19)], "b": ["yes"] * 20, "label": [0, 1] * 10}
    evaluated = dataset_from_rows("d", "classification", {"train": train}, text="a", text_pair="b")
    rows = [("Is it open?", "yes"), (premise, "Nobody swims"), ("Who rows?", premise.upper()), ("yes", None)]
    write(tmp_path / "u", "pairs", [t for t, _ in rows], [p for _, p in rows])
    pool = build_pool(pool_config(), tmp_path, 0, [evaluated])
    assert sorted(zip(pool.inputs.texts, pool.inputs.pairs, strict=True)) == [("Is it open?", "yes"), ("yes", None)]


def test_the_same_short_pair_is_recognised_as_a_whole(tmp_path):
    train = {"a": ["open?", *sentences("x", 19)], "b": ["yes"] * 20, "label": [0, 1] * 10}
    evaluated = dataset_from_rows("d", "classification", {"train": train}, text="a", text_pair="b")
    write(tmp_path / "u", "pairs", ["Open", "closed?"], ["Yes!", "yes"])
    assert list(build_pool(pool_config(), tmp_path, 0, [evaluated]).inputs.texts) == ["closed?"]


def test_empty_texts_are_counted_and_a_blank_second_text_is_none(tmp_path):
    write(tmp_path / "u", "a", ["", " ", None, "one", "two"], ["p", None, None, " ", "second"])
    pool = build_pool(pool_config(), tmp_path, 0, [])
    assert list(zip(pool.inputs.texts, pool.inputs.pairs, strict=True)) == [("one", None), ("two", "second")]
    assert pool.report["left_out"]["empty"] == 3


def test_sources_are_excluded_by_glob_and_an_exclusion_of_nothing_is_refused(folder):
    pool = build_pool(pool_config(exclude=["*ck*", "birds"]), folder, 0, [])
    assert set(pool.source_ids) == {"rivers"}
    with pytest.raises(ConfigError, match=r"'river' matches none of the 3 sources; did you mean 'rivers'"):
        build_pool(pool_config(exclude=["river"]), folder, 0, [])
    with pytest.raises(ConfigError, match="leaves none of the 3 sources"):
        build_pool(pool_config(exclude=["*"]), folder, 0, [])


def test_two_sources_of_one_name_are_refused_unless_given_ids(folder):
    write(folder / "v", "birds", sentences("more birds"))
    both = [{"data": {"files": "u/birds.jsonl"}}, {"data": {"files": "v/birds.jsonl"}}]
    with pytest.raises(ConfigError, match="another source 'birds'"):
        build_pool(pool_config(sources=both), folder, 0, [])
    both[1]["id"] = "birds2"
    assert set(build_pool(pool_config(sources=both), folder, 0, []).source_ids) == {"birds", "birds2"}


@pytest.mark.parametrize("id_", [None, "hub"])
def test_files_of_one_name_in_a_glob_are_told_apart_by_their_folders(folder, id_):
    for name in ("x/one", "y/one", "y/two"):
        (folder / "w" / name).parent.mkdir(parents=True, exist_ok=True)
        write((folder / "w" / name).parent, (folder / "w" / name).name, sentences(name))
    (folder / "w" / "y" / "one.ndjson").write_text(json.dumps({"text": "another one"}) + "\n")
    source = {"data": {"files": "w/**/*.*json*"}, "id": id_}
    prefix = "" if id_ is None else "hub/"
    names = {f"{prefix}{name}" for name in ("x/one", "y/one.jsonl", "y/one.ndjson", "two")}
    assert set(build_pool(pool_config(sources=[source]), folder, 0, []).source_ids) == names


def test_all_unreadable_sources_are_named_at_once(folder):
    (folder / "u" / "clocks.jsonl").write_text("not json\n")
    (folder / "u" / "rivers.jsonl").write_text('{"txt": "x"}\n')
    with pytest.raises(DataError, match=r"(?s)clocks: .*line 1.*rivers: .*no column 'text'"):
        build_pool(pool_config(), folder, 0, [])


def test_an_empty_pool_says_where_its_rows_went(tmp_path):
    write(tmp_path / "u", "a", [" ", ""])
    with pytest.raises(DataError, match=r"of 2 rows in 1 sources none is left .*empty: 2"):
        build_pool(pool_config(), tmp_path, 0, [])
