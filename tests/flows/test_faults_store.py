"""A disk that fills up, a store that cannot be written, torn files: the run says what to do, and then it goes on."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.flows.fork_runs import Forker
from tests.flows.quick_study import assert_same_store, log_of, write_quick_study
from tests.mounts import read_only, small_disk

pytestmark = pytest.mark.slow

# What a run says is to be deleted.
DAMAGED = re.compile(r"delete its folder (/\S+)|(/\S+) cannot be read \(.*?\); delete it|remove (/\S+) and train again")


def test_a_disk_that_fills_up_in_the_middle_is_told_and_the_run_goes_on_when_there_is_space(
    tmp_path: Path, forker: Forker, undisturbed: Path
) -> None:
    study = write_quick_study(tmp_path)
    store = tmp_path / "store"
    store.mkdir()
    with small_disk(store, megabytes=1):  # of the two that it needs
        assert forker.run(study) in (1, 3)
        assert "could not be written (No space left on device); free disk space" in log_of(study)
        subprocess.run(["mount", "-o", "remount,size=64m", str(store)], check=True)
        assert forker.run(study) == 0, log_of(study)[-3000:]
        assert_same_store(study, undisturbed)


def test_a_store_without_write_permission_is_told_and_the_run_goes_on_when_it_has_it(
    tmp_path: Path, forker: Forker, undisturbed: Path
) -> None:
    study = write_quick_study(tmp_path)
    store = tmp_path / "store"
    store.mkdir()
    with read_only(store):
        assert forker.run(study) == 1
        assert "could not be written (Read-only file system); get write permission" in log_of(study)
    assert forker.run(study) == 0, log_of(study)[-3000:]
    assert_same_store(study, undisturbed)


def test_whatever_is_torn_what_the_run_says_leads_back_to_the_same_store(
    tmp_path: Path, forker: Forker, undisturbed: Path
) -> None:
    study = write_quick_study(tmp_path)
    store = tmp_path / "store"
    shutil.copytree(undisturbed.parent / "store", store)
    torn = [next(iter(sorted(store.glob(pattern)))) for pattern in (
        "datasets/mood@*/train.parquet", "datasets/topic@*/card.parquet", "pools/*.parquet", "features/*/*.npy",
        "models/tfidf~mood@*/weights/*.safetensors", "models/counted@*/card.parquet", "outputs/*/tfidf~mood@*.parquet",
        "embeddings/*/kind=model/*.parquet", "neighbors/*/*.parquet",
    )]  # fmt: skip
    for path in torn:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (store / "outputs" / "notes.txt").write_text("a foreign file")
    told: list[Path] = []
    log = study.parent / "run.log"
    for _ in torn:
        log.unlink(missing_ok=True)
        code = forker.run(study)
        if code == 0:
            break
        named = {Path(found) for match in DAMAGED.findall(log_of(study)) for found in match if found}
        assert named, log_of(study)[-3000:]
        assert all(path.is_relative_to(store) for path in named)  # before anything is deleted
        for path in named:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        told += named
    assert code == 0, log_of(study)[-3000:]
    assert len(told) >= 4
    assert_same_store(study, undisturbed)
