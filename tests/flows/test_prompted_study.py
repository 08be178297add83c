"""Prompts through a real HTTP API: asked once, kept, tracked, and the key stays out of everything."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.pipeline import pipeline
from storage import catalog
from storage.files import write_parquet
from storage.store import Store
from tests.flows.small_study import PARTS, rows_of, write_small_study
from tests.llm_server import LlmServer

pytestmark = pytest.mark.slow

CANARY = "sk-canary-0123456789"


def answer(prompt: str, system: str | None) -> list[tuple[str, float]]:
    share = 0.2 + 0.6 * (len(prompt) % 7) / 6
    return sorted([("good", share), ("bad", 1 - share)], key=lambda pair: -pair[1])


def write_study(folder: Path, base_url: str, **endpoint: object) -> Path:
    prompts = [
        {"id": id_, "template": template, "verbalizer": {"good": ["good"], "bad": ["bad"]}}
        for id_, template in (("one", "Is it good or bad?\nText: {{text}}"), ("two", "Text: {{text}}\nGood or bad?"))
    ]
    settings = {"id": "api", "base_url": base_url, "service": "test", "model": "m", "api_key_env": "FUTE_TEST_KEY"}
    return write_small_study(
        folder,
        methods=[{"method": "crosscov", "components": 16}],
        models=[{"kind": "prompt", "prompt": "*", "endpoint": "api"}],
        prompts=prompts,
        endpoints=[settings | endpoint],
    )


def everything_written(folder: Path) -> bytes:
    """All files below a folder as they are, and once more in plain text where their form may hide a text.

    The cells of a Parquet file are compressed; a long text in SQLite runs over several pages.
    """
    files = [path for path in folder.rglob("*") if path.is_file()]
    return b"\n".join([*(path.read_bytes() for path in files), *(in_plain_text(path) for path in files)])


def in_plain_text(path: Path) -> bytes:
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(b"PAR1"):
        return text_of_parquet(path)
    if start != b"SQLite format 3\0":
        return b""
    with tempfile.TemporaryDirectory() as folder:  # a copy: reading may make files beside it
        copy = Path(folder) / path.name
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
        return text_of_sqlite(copy)


def text_of_parquet(path: Path) -> bytes:
    """Its metadata, names and cells."""
    with pq.ParquetFile(path) as file:
        parts = [f"{file.metadata.metadata} {file.schema_arrow.metadata} {file.schema_arrow.names}"]
        for batch in file.iter_batches():
            parts += [repr(column.to_pylist()) for column in batch.columns]
    return "\n".join(parts).encode()


def text_of_sqlite(path: Path) -> bytes:
    """Its tables' names and cells."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        database.text_factory = lambda text: text.decode(errors="replace")
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [repr(database.execute(f'SELECT * FROM "{name}"').fetchall()) for name in names]
    return "\n".join(names + rows).encode()


@pytest.mark.parametrize("column", ["cell", "list", "binary"])
def test_a_key_in_a_parquet_cell_would_be_found(tmp_path: Path, column: str) -> None:
    words = [text for text, _ in rows_of(PARTS["mood"], 60, 0)]
    # Neither first nor last in order: those two stand in the file's statistics, uncompressed.
    texts = ["a first one", f"quoted: {'; '.join(words)}; {CANARY}; {'; '.join(reversed(words))}", "some other"]
    values = {"cell": texts, "list": [[text] for text in texts], "binary": [text.encode() for text in texts]}[column]
    path = tmp_path / "store" / "runs" / "one.parquet"
    write_parquet(Store(tmp_path / "store").scratch, path, pa.table({column: values}))
    assert CANARY.encode() not in path.read_bytes()  # it is compressed
    assert CANARY.encode() in everything_written(tmp_path)


def test_a_key_in_a_database_would_be_found_on_whichever_pages_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "one.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA page_size = 512")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE answers (answer TEXT)")
        database.execute("INSERT INTO answers VALUES (?)", [CANARY * 1000])
        database.execute("INSERT INTO answers VALUES (?)", [f"{'x' * 100_003}{CANARY}-the-last"])
        database.commit()
        assert f"{CANARY}-the-last".encode() in everything_written(tmp_path)  # while it is open, and not checkpointed
    assert f"{CANARY}-the-last".encode() in everything_written(tmp_path)


def test_prompts_are_asked_once_wherever_the_service_is_and_the_key_is_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUTE_TEST_KEY", CANARY)
    store = tmp_path / "store"
    with LlmServer(answer) as server:
        study = write_study(tmp_path, server.base_url)
        assert pipeline(str(study), return_state=True).is_completed()
        assert server.n_requests == 120  # 60 pool rows, two prompts
        assert pipeline(str(study), return_state=True).is_completed()
        assert server.n_requests == 120
    with LlmServer(answer) as moved:  # the same service at another address
        assert pipeline(str(study), {"api": moved.base_url}, return_state=True).is_completed()
        assert moved.n_requests == 0
    assert catalog.query(store, "SELECT count(*), count(DISTINCT key) FROM responses").rows == [(120, 120)]
    # Every row of the outputs knows its answer.
    joined = "SELECT prompt, count(DISTINCT row), sum(tokens_out) > 0 FROM prompt_answers GROUP BY ALL ORDER BY prompt"
    assert catalog.query(store, joined).rows == [("one", 60, True), ("two", 60, True)]
    assert [r[0] for r in catalog.query(store, "SELECT id FROM prompts ORDER BY id").rows] == ["one", "two"]
    ((run_id,),) = catalog.query(store, "SELECT run_id FROM runs ORDER BY created_at LIMIT 1").rows
    metrics = mlflow.MlflowClient(tracking_uri=f"sqlite:///{store}/mlflow.db").get_run(run_id).data.metrics
    assert metrics["llm_calls"] == 120
    assert metrics["llm_tokens_in"] > 0
    assert CANARY.encode() not in everything_written(tmp_path)


def test_a_missing_key_is_told_before_any_work(tmp_path: Path) -> None:
    with LlmServer(answer) as server:
        study = write_study(tmp_path, server.base_url, api_key_env="FUTE_NO_SUCH_KEY")
        state = pipeline(str(study), return_state=True)
        assert server.n_requests == 0
    assert state.is_failed()
    assert "environment variable FUTE_NO_SUCH_KEY is not set" in str(state.message)
    assert not (tmp_path / "store" / "datasets").exists()


def test_a_run_asks_about_as_many_rows_as_it_was_told_and_embeds_and_ranks_what_was_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUTE_TEST_KEY", CANARY)
    with LlmServer(answer) as server:
        study = write_study(tmp_path, server.base_url)
        study.write_text(study.read_text().replace("- kind: prompt\n", "- kind: prompt\n  ask: 50\n"))
        assert pipeline(str(study), return_state=True).is_completed()
        assert server.n_requests == 100  # 50 of 60 rows, two prompts
        assert pipeline(str(study), return_state=True).is_completed()
        assert server.n_requests == 100
    store = tmp_path / "store"
    answered = "SELECT model, count(*), count_if(answered) FROM outputs GROUP BY model"
    assert [row[1:] for row in catalog.query(store, answered).rows] == [(60, 50)] * 2
    ranked = "SELECT count(DISTINCT query) FROM neighbors WHERE query_kind = 'model' AND similarity IS NOT NULL"
    assert catalog.query(store, ranked).rows == [(2,)]
