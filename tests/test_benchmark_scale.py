"""The scale benchmark on a few hundred embeddings: it measures what it says, and nothing is timed here."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("faiss")
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # scripts beside each other, not a package
import scale


def test_a_store_is_filled_folded_indexed_and_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "BATCH", 25)
    monkeypatch.setattr(scale, "ONE_IN_TWIN", 20)
    told = scale.measure(tmp_path / "many", 500, 8)
    assert (told["files_before"], told["files_after"]) == (20, 1)
    assert told["near_duplicates_found"] >= 20  # a twin in each batch, and another after twenty rows
    assert told["index"]["recall_at_10"] > 0.9
    small = scale.measure_small_files(tmp_path / "small", 20, 8)
    assert small["after"]["bytes"] < small["before"]["bytes"]
