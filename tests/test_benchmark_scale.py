"""The scale benchmark on a few embeddings: it measures what it says, and nothing is timed here."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # scripts beside each other, not a package
import scale

pytestmark = pytest.mark.slow


def test_a_store_is_filled_folded_and_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "ONE_IN_TWIN", 20)
    monkeypatch.setattr(scale, "PART_ROWS", 25)
    told = scale.measure(tmp_path / "many", 60, 8)
    assert told["nearest_10"]["rows"] == 10
    assert told["near_duplicates"]["rows"] >= 3  # each twin
    small = scale.measure_small_files(tmp_path / "small", 20, 8)
    assert small["after"]["bytes"] < small["before"]["bytes"]
