"""The scale benchmark on a few embeddings: it measures what it says, and nothing is timed here."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # scripts beside each other, not a package
import scale


def test_a_store_is_filled_folded_and_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "ONE_IN_TWIN", 20)
    told = scale.measure(tmp_path, 60, 8)
    assert told["nearest_10"]["rows"] == 10
    assert told["near_duplicates"]["rows"] >= 3  # each twin
    assert 0 < told["bytes"] < 100_000
