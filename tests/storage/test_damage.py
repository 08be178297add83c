"""Damage of every kind to every file of a small store: each view answers rightly, or names a damaged file."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fute.errors import StoreError
from storage import catalog, listing
from storage.responses import LEDGER
from storage.seal import opened
from storage.views import COMMENTS
from tests.conftest import REPOSITORY
from tests.docs_store import write_docs_store

pytestmark = pytest.mark.slow

CASES = 100
AT_ONCE = 5  # files damaged in one store
VIEWS = sorted(COMMENTS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_docs_store(tmp_path_factory.mktemp("damage") / "store").root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "store")
    return tmp_path / "store"


def answers(root: Path, views: list[str]) -> dict[str, object]:
    """By view, all of its rows, or the message."""
    found: dict[str, object] = {}
    with catalog.Catalog(root) as opened:
        for view in views:
            try:
                found[view] = sorted(map(repr, opened.query(f"SELECT * FROM {view}").rows))
            except StoreError as exc:
                found[view] = str(exc)
    return found


def flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def burst(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    data[at : at + 12] = chance.randbytes(min(12, len(data) - at))


def footer_burst(data: bytearray, chance: random.Random) -> None:
    footer = int.from_bytes(data[-8:-4], "little")
    at = len(data) - 8 - chance.randrange(footer)
    data[at : at + 12] = b"\xff" * min(12, len(data) - at)


def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def cut_out(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    del data[at : at + chance.randrange(1, 200)]


def grown(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    data[at:at] = chance.randbytes(chance.randrange(1, 50))


def zeros(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    data[at : at + 512] = bytes(len(data[at : at + 512]))


def text(data: bytearray, chance: random.Random) -> None:
    data[:] = b"id,score\n1,0.5\n"


DAMAGE: list[Callable[[bytearray, random.Random], None]] = [
    flip, flip, burst, footer_burst, cut, cut_out, grown, zeros, text,
]  # fmt: skip


def test_each_view_answers_rightly_or_names_the_file(root: Path) -> None:
    chance = random.Random(20261129)
    right = answers(root, VIEWS)
    folders: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*.parquet")):
        folders.setdefault(path.relative_to(root).parts[0], []).append(path)
    every = [path for paths in folders.values() for path in paths]
    assert len(folders) >= 11
    needs = {folder: needing(root, folder, right) for folder in folders}
    told = 0
    for first_case in range(0, CASES, AT_ONCE):
        before: dict[Path, bytes] = {}
        spoiled = chance.sample(sorted(folders), AT_ONCE)
        for folder in spoiled:
            damage(chance.choice(folders[folder]), every, before, chance)
        touched = {path.relative_to(root).parts[0] for path in before}
        for view, answer in answers(root, VIEWS).items():
            case = f"cases from {first_case}: {view}, {[str(path.relative_to(root)) for path in before]}: {answer}"
            if isinstance(answer, list):
                assert answer == right[view], case
            else:
                assert any(view in needs[folder] for folder in touched), case
                assert any(str(path) in answer for path in before), case
                told += 1
        for path, content in before.items():
            path.write_bytes(content)
    assert answers(root, VIEWS) == right
    assert told > CASES / 2


def damage(path: Path, others: list[Path], before: dict[Path, bytes], chance: random.Random) -> None:
    """Damage a file in one way or another, or swap it with another one; `before` keeps what was there."""
    if path in before:
        return
    before[path] = path.read_bytes()
    if chance.random() < 0.15:
        near = [other for other in others if other not in before and other.parent == path.parent]
        if near := near or [other for other in others if other not in before]:
            other = chance.choice(near)
            before[other] = other.read_bytes()
            path.write_bytes(before[other])
            other.write_bytes(before[path])
        return
    data = bytearray(before[path])
    chance.choice(DAMAGE)(data, chance)
    path.write_bytes(data)


def needing(root: Path, folder: str, right: dict[str, object]) -> set[str]:
    """The views that need something of a folder, told by spoiling all of it."""
    before = {path: path.read_bytes() for path in (root / folder).rglob("*.parquet")}
    for path in before:
        path.write_bytes(b"spoiled")
    spoiled = answers(root, VIEWS)
    for path, content in before.items():
        path.write_bytes(content)
    found = {view for view in VIEWS if spoiled[view] != right[view]}
    assert found
    assert all(any(str(path) in str(spoiled[view]) for path in before) for view in found)
    return found


def first(root: Path, glob: str) -> Path:
    return sorted(root.glob(glob))[0]


def test_a_file_of_another_schema_is_named_as_foreign_and_not_read_as_nulls(root: Path) -> None:
    prompt = first(root, "prompts/*.parquet")
    foreign = {
        "of nobody's": (pa.table({"a": [1]}), "was not written by fute; move it out of the store"),
        "another view's": (pq.read_table(first(root, "spaces/*.parquet")), "was written as spaces/"),
    }
    for table, told in foreign.values():
        pq.write_table(table, prompt)
        with pytest.raises(StoreError, match=rf"{prompt} {told}"):
            catalog.query(root, "SELECT count(*) FROM prompts")
        assert catalog.query(root, "SELECT count(*) FROM models").rows == [(4,)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda table: table.rename_columns({"template": "tempalte"}), "it has no column template"),
        (lambda table: table.drop_columns(["id"]), "it has no column id"),
    ],
)
def test_a_file_of_ours_with_other_columns_is_named_as_foreign(
    root: Path, change: Callable[[pa.Table], pa.Table], told: str
) -> None:
    path = first(root, "prompts/*.parquet")
    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(StoreError, match=rf"{path} is foreign here \({told}\); move it out"):
        catalog.query(root, "SELECT id FROM prompts")


def test_a_file_of_the_first_fute_in_another_folder_is_foreign_too(tmp_path: Path) -> None:
    root = tmp_path / "store"
    shutil.copytree(REPOSITORY / "tests" / "data" / "store-v1", root)
    path = root / "embeddings" / "space=s-old" / "kind=model" / "s-old.parquet"
    shutil.copy(root / "spaces" / "s-old.parquet", path)  # all of its columns are columns of embeddings
    with pytest.raises(StoreError, match=rf"{path} is foreign here \(it has no column kind\)"):
        catalog.query(root, "SELECT count(*) FROM embeddings")


def test_a_copy_beside_the_file_is_named_and_not_counted_twice(root: Path) -> None:
    path = first(root, "prompts/*.parquet")
    copy = path.with_name("a copy.parquet")
    shutil.copy(path, copy)
    with pytest.raises(StoreError, match=rf"{copy} was written as prompts/{path.name}; move it back there, or out"):
        catalog.query(root, "SELECT count(*) FROM prompts")


def test_a_link_out_of_the_store_is_not_followed(root: Path, tmp_path: Path) -> None:
    path = first(root, "prompts/*.parquet")
    outside = tmp_path / "prompts" / path.name
    outside.parent.mkdir()
    path.rename(outside)
    path.symlink_to(outside)
    with pytest.raises(StoreError, match=rf"{path} is a link"):
        catalog.query(root, "SELECT count(*) FROM prompts")


def test_ls_and_show_tell_of_a_damaged_file_and_show_the_rest(root: Path) -> None:
    path = first(root, "prompts/*.parquet")
    path.write_bytes(b"spoiled")
    _, rows = listing.views(root)
    told = {name: (n, said) for name, n, said in rows}
    assert told["models"] == (4, COMMENTS["models"])
    assert told["prompts"][0] is None
    assert str(path) in told["prompts"][1]
    shown = listing.show(root, "reviews")
    assert shown["dataset"][0]["id"] == "reviews"
    assert str(path) in shown["cannot be read"][0]["reason"]
    with pytest.raises(StoreError, match=str(path)):
        listing.show(root, "plain")


def test_a_torn_ledger_is_named_by_the_views_of_answers_alone(root: Path) -> None:
    (root / "responses" / LEDGER).write_bytes(b"no database at all" * 100)
    with catalog.Catalog(root) as opened:
        assert opened.query("SELECT count(*) FROM models").rows == [(4,)]
        for view in ("responses", "prompt_answers"):
            with pytest.raises(StoreError, match=rf"{LEDGER} is damaged"):
                opened.query(f"SELECT count(*) FROM {view}")


def test_no_byte_of_a_footer_changes_unnoticed_and_the_file_is_plain_parquet(root: Path) -> None:
    path = first(root, "prompts/*.parquet")
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for at in [*range(footer - 8, len(whole) - 8, 5), *range(len(whole) - 8, len(whole))]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(StoreError), opened(path):
            pass
    path.write_bytes(whole)
    with duckdb.connect() as con:
        assert con.execute("SELECT count(*) FROM read_parquet($path)", {"path": str(path)}).fetchall() == [(1,)]
