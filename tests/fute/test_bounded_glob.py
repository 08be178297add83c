"""Globs end, whatever they name."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fute import bounded_glob as module
from fute.bounded_glob import bounded_glob
from fute.config import FileSource
from fute.data.files import split_files
from fute.errors import ConfigError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b/2.csv", "a/1.csv", "a/deep/er/3.csv", "a/x.txt", ".hidden/4.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text\n1\n")
    return tmp_path


def test_a_glob_finds_its_files_in_the_order_of_names(tree: Path) -> None:
    for pattern, names in (
        ("*/*.csv", ["a/1.csv", "b/2.csv"]),
        ("**/*.csv", ["a/1.csv", "a/deep/er/3.csv", "b/2.csv"]),
        ("a/**/*.csv", ["a/1.csv", "a/deep/er/3.csv"]),
        (f"{tree}/[ab]/?.csv", ["a/1.csv", "b/2.csv"]),
        ("nowhere/*.csv", []),
    ):
        assert bounded_glob(pattern, tree) == [tree / name for name in names]


@pytest.mark.parametrize("pattern", ["/**", "/**/*.csv", "/*/*/*/*/*/*/*/*/*.csv", "../../../../../../../**/x.parquet"])
def test_a_glob_over_a_whole_machine_is_refused_soon(tree: Path, pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ENTRIES", 5000)  # there are machines with few files
    began = time.perf_counter()
    with pytest.raises(ConfigError, match="looks through more than 5,000 files and folders; name a folder nearer"):
        split_files(FileSource(files=pattern), tree)
    assert time.perf_counter() - began < 20


def test_links_in_a_circle_and_stars_upon_stars_end(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(4):
        (tree / "a" / f"loop{i}").symlink_to(tree)
    monkeypatch.setattr(module, "MOST_ENTRIES", 2000)
    with pytest.raises(ConfigError, match="looks through more than"):
        bounded_glob("**/*.csv", tree)
    with pytest.raises(ConfigError, match=r"has \*\* in it more than once"):
        bounded_glob("**/**/**/*.csv", tree)
    assert bounded_glob("*/*.csv", tree)
