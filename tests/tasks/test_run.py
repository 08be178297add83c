"""Tasks on another machine than their flow: what one has made, the others find when it has ended."""

from __future__ import annotations

import uuid
from pathlib import Path

import fsspec
import pytest

from storage.store import Store
from tasks.run import Run, handed_in


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_task_elsewhere_made_is_there_when_it_has_ended(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = uuid.uuid4().hex
    fsspec.filesystem("memory").mkdir(bucket)
    run = Run(study="s", store=f"memory://{bucket}/store", base_dir=".", seed=0, scattered=True)

    @handed_in
    def work(run: Run, name: str) -> str:
        run.open_store().put_report(name, "<p>")
        if fails:
            raise ValueError(name)
        return name

    monkeypatch.setenv("FUTE_MIRROR", str(tmp_path / "worker"))
    if fails:
        with pytest.raises(ValueError, match="page"):
            work(run, name="page.html")
    else:
        assert work(run, "page.html") == "page.html"
    monkeypatch.setenv("FUTE_MIRROR", str(tmp_path / "flow"))
    store = Store(run.store).pull()
    assert (store.root / "reports" / "page.html").read_text() == "<p>"
