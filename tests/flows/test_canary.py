"""A key is nowhere but in the request: not in the store, MLflow, reports, logs or errors, nor in what Prefect keeps."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from prefect.logging.handlers import APILogWorker
from prefect.settings import get_current_settings

from examples.demo.endpoint import Exchange
from flows.pipeline import pipeline
from storage import catalog
from tests import llm_server
from tests.flows.small_study import write_small_study
from tests.flows.test_prompted_study import answer, everything_written, text_of_sqlite
from tests.llm_server import Fault, LlmServer

pytestmark = pytest.mark.slow

CANARY = "sk-canary-9f8e7d6c5b4a"


def says(sent: str) -> Fault:
    """A good answer with the key in it."""
    return llm_server.choice(f"good, and your key is {sent}")


def broken(sent: str) -> Fault:
    return llm_server.text_instead(b'{"choices": [{"message": "%s' % sent.encode())


def page(sent: str) -> Fault:
    return llm_server.text_instead(f"<html>{sent}</html>".encode(), "text/html")


def router(sent: str) -> Fault:
    return llm_server.text_instead(json.dumps({"error": {"code": 502, "message": f"behind me: {sent}"}}).encode())


def redirect(sent: str) -> Fault:
    return llm_server.status(307, {"Location": f"http://127.0.0.1:9/{sent}"})


def compressed(sent: str) -> Fault:
    return llm_server.text_instead(b"{}", headers={"Content-Encoding": sent})


def refused(code: int) -> Any:
    return lambda sent: llm_server.status(code, error={"message": f"cannot work with {sent}", "code": sent})


FAULTS = {
    "says": says, "broken": broken, "page": page, "router": router, "redirect": redirect, "compressed": compressed,
    "denied": refused(401), "busy": refused(429), "down": refused(500), "wrong": refused(400),
    "cut": lambda sent: llm_server.half_closed,
}  # fmt: skip


class Blabbing(LlmServer):
    """Repeats the Authorization header in every way there is; which one, the prompt's first word says."""

    def _handle(self, exchange: Exchange, request: dict[str, Any]) -> None:
        fault = FAULTS.get(request["messages"][-1]["content"].split()[0])
        if fault is not None:
            sent = exchange.headers.get("Authorization", "").removeprefix("Bearer ")
            assert sent == CANARY  # it does arrive
            self.misbehave(fault(sent))
        super()._handle(exchange, request)


def everything_prefect_keeps() -> bytes:
    """Its database: states, results, logs, artifacts, events."""
    APILogWorker.drain_all()
    url = get_current_settings().server.database.connection_url
    assert url is not None
    database = Path(url.get_secret_value().partition("///")[2])
    files = [database, database.with_name(f"{database.name}-wal")]
    return b"\n".join([*(file.read_bytes() for file in files if file.is_file()), text_of_sqlite(database)])


def test_a_key_is_nowhere_after_success_and_after_every_kind_of_failure(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("FUTE_TEST_KEY", CANARY)
    with Blabbing(answer) as server:
        # One request at a time: the server's fault is meant for the request that it is made for.
        settings = {"id": "api", "base_url": server.base_url, "model": "m", "api_key_env": "FUTE_TEST_KEY",
                    "max_concurrency": 1, "max_attempts": 1}  # fmt: skip
        study = write_small_study(
            tmp_path,
            methods=[{"method": "crosscov", "components": 16}],
            models=[{"kind": "prompt", "prompt": "*", "endpoint": "*"}],
            endpoints=[settings],
            prompts=[
                {"id": name, "template": f"{name} or bad?\n{{{{text}}}}", "verbalizer": {"a": ["good"], "b": ["bad"]}}
                for name in ("good", *FAULTS)
            ],
        )
        state = pipeline(str(study), return_state=True)
        assert state.name == "CompletedWithFailures"
        # Answered well, and answered the same every time; all others failed, each with a reason.
        assert [row[0] for row in catalog.query(tmp_path / "store", "SELECT id FROM models").rows] == ["good/api"]
        ((failures,),) = catalog.query(tmp_path / "store", "SELECT failures FROM runs").rows
        assert {failure["subject"] for failure in json.loads(failures)} == {f"{name}/api" for name in FAULTS}
    kept = catalog.query(tmp_path / "store", "SELECT DISTINCT answer FROM responses WHERE contains(answer, 'key')").rows
    assert kept == [("good, and your key is [API key]",)]
    printed = capfd.readouterr()
    shown = "\n".join([caplog.text, printed.out, printed.err, str(state.message), repr(state.data)])
    known = everything_prefect_keeps()
    assert b"CompletedWithFailures" in known  # it is the right database
    for place in (shown.encode(), known, everything_written(tmp_path)):
        assert CANARY.encode() not in place
