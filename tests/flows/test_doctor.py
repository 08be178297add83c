"""`fute doctor`: what is well, what is not with what to do, and no key anywhere."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest
from click.testing import CliRunner, Result
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, PREFECT_API_URL, temporary_settings

from flows import doctor
from flows.cli import main
from tests.flows.small_study import write_small_study

CANARY = "sk-canary-4f3e2d1c0b9a"
PROMPT = {"id": "p", "template": "Good or bad? {{text}}", "verbalizer": {"good": ["good"], "bad": ["bad"]}}


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments])


def findings(*arguments: str) -> dict[str, dict[str, str]]:
    """Check to its (last) finding."""
    result = call(*arguments, "--json")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return {finding["check"]: finding for finding in json.loads(result.stdout)}


def prompted(folder: Path, **endpoint: Any) -> str:
    settings = {"id": "e", "base_url": "http://127.0.0.1:9/v1", "model": "m", **endpoint}
    return str(write_small_study(folder, models=[{"kind": "prompt", "prompt": "*", "endpoint": "*"}],
                                 prompts=[PROMPT], endpoints=[settings]))  # fmt: skip


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A server on loopback that answers every GET with this status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_sound_installation_has_no_problem(tmp_path: Path) -> None:
    result = call(str(write_small_study(tmp_path)))
    assert result.exit_code == 0, result.output
    assert "0 problems" in result.output
    found = findings("--store", str(tmp_path / "store"))
    ok = ("python", "packages", "surrogate", "prefect", "mlflow", "store")  # the tests' own Prefect server
    assert {name: found[name]["status"] for name in ok} == dict.fromkeys(ok, "ok")
    assert not (tmp_path / "store").exists()
    assert list(tmp_path.glob(".fute-doctor-*")) == []


def test_a_key_that_is_there_and_one_that_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = prompted(tmp_path, api_key_env="FUTE_TEST_KEY")
    monkeypatch.delenv("FUTE_TEST_KEY", raising=False)
    missing = findings(study)["keys"]
    assert (missing["status"], missing["message"]) == ("problem", "endpoint e: FUTE_TEST_KEY is not there")
    assert call(study).exit_code == 1
    monkeypatch.setenv("FUTE_TEST_KEY", CANARY)
    assert findings(study)["keys"]["status"] == "ok"
    assert findings(prompted(tmp_path, api_key_env=None))["keys"]["message"] == "endpoint e needs none"
    block = findings(prompted(tmp_path, api_key_env=None, api_key_block="no-such-block"))["keys"]
    assert block["status"] == "problem"
    assert "no-such-block" in block["message"]


def test_no_key_and_no_password_is_ever_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FUTE_TEST_KEY", "OPENAI_API_KEY", "HF_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    shown = ""
    for status in (200, 401, 500):
        with answering(status) as url:
            with_password = url.replace("http://", f"http://user:{CANARY}@")
            monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"{with_password}/{CANARY}")
            study = prompted(tmp_path, api_key_env="FUTE_TEST_KEY")
            tracked = write_small_study(tmp_path / "tracked", tracking={"uri": url})
            for api in (f"{with_password}/api", f"http://user:{CANARY}@127.0.0.1:9/{CANARY}/api"):
                settings = {PREFECT_API_URL: api, PREFECT_API_KEY: CANARY, PREFECT_API_AUTH_STRING: f"me:{CANARY}"}
                with temporary_settings(settings):
                    shown += call(study).output + call(study, "--json").output + call(str(tracked)).output
    assert shown.count("FUTE_TEST_KEY is there") == 12
    assert "user:" not in shown
    assert CANARY not in shown


def test_servers_that_are_away_or_broken_are_told_apart_from_those_that_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for status, said in ((200, "answers"), (401, "wants other credentials"), (500, "answers with HTTP 500")):
        with answering(status) as url:
            monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
            study = str(write_small_study(tmp_path, tracking={"uri": url}))
            with temporary_settings({PREFECT_API_URL: f"{url}/api"}):
                found = findings(study)
        for check, fault in (("prefect", "problem"), ("mlflow", "warning"), ("hub", "warning")):
            assert said in found[check]["message"]
            assert found[check]["status"] == ("ok" if status == 200 else fault)
    with temporary_settings({PREFECT_API_URL: f"{url}/api"}):  # the server has ended
        found = findings(study)
    assert "does not answer (ConnectError)" in found["prefect"]["message"]
    assert "fute up" in found["prefect"]["fix"]
    assert "runs go on without tracking" in found["mlflow"]["message"]


def test_each_fault_of_the_installation_is_a_problem_with_its_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: {"duckdb": "0.9.1"}.get(name, "99999"))
    monkeypatch.setattr("fute.surrogate.source.EMBEDDED_SHA256", "another digest")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**6))
    occupied = tmp_path / "store"
    occupied.write_text("a file")
    result = call("--store", str(tmp_path / "elsewhere"), "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    problems = {f["message"]: f["fix"] for f in told if f["status"] == "problem"}
    (duckdb,) = [message for message in problems if "duckdb" in message]
    assert "0.9.1" in duckdb
    assert problems[duckdb].startswith("pip install 'duckdb")
    assert any("SHA-256" in message for message in problems)
    assert any("0.0 GB free" in message for message in problems)
    assert all(problems.values())


def test_a_wrong_study_and_a_damaged_tracking_file_are_told(tmp_path: Path) -> None:
    study = write_small_study(tmp_path, sed=1)
    wrong = findings(str(study))["study"]
    assert wrong["status"] == "problem"
    assert "sed" in wrong["message"]
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "mlflow.db").write_bytes(b"this is no database" * 100)
    damaged = findings("--store", str(tmp_path / "store"))["mlflow"]
    assert damaged["status"] == "warning"
    assert "move it away" in damaged["fix"]


def test_a_store_on_object_storage_is_looked_at_and_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = f"memory://bucket-{uuid.uuid4().hex}"
    memory = fsspec.filesystem("memory")
    memory.pipe(f"{bucket}/store/prompts/p.parquet", b"x" * 100)
    memory.pipe(f"{bucket}/store/models/m@1/card.parquet", b"x" * 100)
    monkeypatch.setenv("FUTE_MIRROR", str(tmp_path / "mirrors"))

    def fetch(*_: object, **__: object) -> None:
        raise AssertionError("a file was fetched")

    monkeypatch.setattr(type(memory), "cat_file", fetch)
    monkeypatch.setattr(type(memory), "get_file", fetch)
    study = write_small_study(tmp_path, store=f"{bucket}/store")
    for asked in (["--store", f"{bucket}/store"], [str(study)]):
        found = findings(*asked)
        assert found["storage"]["status"] == "ok"
        assert f"{bucket}/store answers and has models, prompts; its mirror here is" in found["storage"]["message"]
        assert found["store"]["status"] == "ok"
    assert "has no store yet" in findings("--store", f"{bucket}/another")["storage"]["message"]
    away = findings("--store", "nosuchprotocol://bucket/store")["storage"]
    assert away["message"] == "nosuchprotocol://bucket/store cannot be opened (ValueError)"
    refused = findings("--store", f"s3://user:{CANARY}@bucket/store")["storage"]
    assert "has a key or password in it" in refused["message"]
    assert CANARY not in refused["message"]
    assert not (tmp_path / "mirrors").exists()


def test_a_store_of_a_later_fute_is_told(tmp_path: Path) -> None:
    (tmp_path / "schema").mkdir()
    (tmp_path / "schema" / "version.json").write_text('{"schema_version": 99}')
    result = call("--store", str(tmp_path), "--json")
    assert result.exit_code == 1
    assert "has schema version 99" in result.stdout


def test_object_storage_that_is_away_is_told(tmp_path: Path) -> None:
    away = write_small_study(tmp_path, store="nosuchprotocol://bucket/store")
    found = findings(str(away))["storage"]
    assert found["status"] == "problem"
    assert "nosuchprotocol://bucket/store cannot be opened" in found["message"]
