"""The commit that every record names."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from storage import stamp


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, of which stamp.py is said to be a file."""
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage/stamp.py").write_text("first")
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for arguments in (("init", "-q"), ("add", "."), (*author, "commit", "-q", "-m", "first")):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    monkeypatch.setattr(stamp, "__file__", str(tmp_path / "storage/stamp.py"))
    return tmp_path


def test_the_code_is_named_by_its_commit_and_said_to_be_changed(checkout: Path) -> None:
    commit = stamp._git(checkout, "rev-parse", "HEAD")
    assert stamp.code_version.__wrapped__() == commit
    (checkout / "storage/stamp.py").write_text("second")
    assert stamp.code_version.__wrapped__() == f"{commit}+dirty"


def test_asking_for_the_commit_writes_nothing_into_the_repository(checkout: Path) -> None:
    os.utime(checkout / "storage/stamp.py", (1e9, 1e9))  # stale: a plain `git status` writes the index
    before = (checkout / ".git/index").read_bytes()
    stamp.code_version.__wrapped__()
    assert (checkout / ".git/index").read_bytes() == before
