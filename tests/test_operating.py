"""What makes a server pleasant: pages that a browser opens, names of runs, lines of worker threads, time to start."""

from __future__ import annotations

import http.client
import logging
import threading
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from flows import run_names, temporary_server
from flows.cli import main
from flows.page_server import PageHandler
from fute.llm.fan_out import fan_out
from tasks import page_links
from tasks.engine import OfRuns
from tests.conftest import REPOSITORY


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    folder = tmp_path / "served"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(PageHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(page_links.FOLDER, str(folder))
    monkeypatch.setenv(page_links.ADDRESS, f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


def get(server: ThreadingHTTPServer, path: str, host: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_a_page_opens_in_a_browser_and_nothing_else_is_served(tmp_path: Path, served: ThreadingHTTPServer) -> None:
    reports = tmp_path / "store" / "reports"
    reports.mkdir(parents=True)
    page = reports / "study-a b.html"
    page.write_text("the page")
    (reports / "keys.txt").write_text("not a page")
    (tmp_path / "other.html").write_text("linked by nobody")
    link = page_links.page_link(page)
    assert page_links.page_link(page) == link  # called twice, linked once
    path = urlsplit(link).path
    assert get(served, path) == (200, b"the page")
    folder = path.rpartition("/")[0]
    for refused in ("/", f"{folder}/", folder, f"{folder}/keys.txt", "/../other.html", f"{folder}/../../other.html"):
        assert get(served, refused)[0] == 404, refused
    # A web page elsewhere whose name was made to mean this machine.
    assert get(served, path, host="elsewhere.example:80")[0] == 404


def test_without_a_page_server_a_link_leads_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(page_links.ADDRESS, raising=False)
    assert page_links.page_link(tmp_path / "x.html") == (tmp_path / "x.html").as_uri()


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"study": "{folder}/study.yaml"}, "my-zoo pipeline"),
        ({"study": "{folder}/nowhere.yaml"}, "nowhere pipeline"),  # what is wrong is said by the flow
        ({"study": None, "store": "/data/stores/mine"}, "mine pipeline"),
    ],
)
def test_a_run_is_called_by_study_and_flow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, Any], name: str
) -> None:
    (tmp_path / "study.yaml").write_text("name: my-zoo\n")

    class Runtime:
        flow_name = "pipeline"

    Runtime.parameters = {k: v and v.format(folder=tmp_path) for k, v in parameters.items()}  # type: ignore[attr-defined]
    monkeypatch.setattr(run_names, "flow_run", Runtime)
    assert run_names.run_name() == name


def test_threads_that_ask_work_in_the_context_of_their_caller() -> None:
    run: ContextVar[str] = ContextVar("run", default="none")
    run.set("this one")
    seen: list[str] = []
    assert fan_out(range(6), lambda _: seen.append(run.get()), 3) is None
    assert seen == ["this one"] * 6


def test_a_line_that_belongs_to_no_run_is_not_sent_and_not_warned_of() -> None:
    from prefect.logging.handlers import APILogHandler

    logger = logging.getLogger("fute_test_of_lines")
    logger.addHandler(OfRuns([APILogHandler()]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logger.warning("outside of any run")


def test_the_temporary_server_is_waited_for_however_a_flow_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, temporary_settings

    waited: list[int | None] = []
    monkeypatch.setattr(temporary_server, "_PREFECTS_START", lambda _, timeout: waited.append(timeout))
    temporary_server.tie_to_this_process()
    server = SubprocessASGIServer()
    server.start()
    server.start(timeout=7)
    with temporary_settings({PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 5}):
        server.start()
    assert waited == [180, 7, None]  # as Prefect's setting says: 5


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--cron", "0 2 * * *"], "name a STUDY"),
        (["study.yaml"], "give one of --cron"),
        (["study.yaml", "--cron", "0 2 * * *", "--every", "1d"], "give one of --cron"),
        (["study.yaml", "--every", "soon"], "write it as 30m, 6h, 1d or 2w"),
        (["study.yaml", "--every", "0h"], "write it as 30m, 6h, 1d or 2w"),
    ],
)
def test_schedule_refuses_what_it_cannot_do_before_it_looks_for_a_server(arguments: list[str], told: str) -> None:
    refused = CliRunner().invoke(main, ["schedule", *arguments])
    assert refused.exit_code == 2
    assert told in refused.output


def test_a_server_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.deployments import prefect_server
    from flows.ports import ServiceError

    with (
        pytest.raises(ServiceError, match="no Prefect server answers at .*:9/api .*fute up"),
        prefect_server("http://127.0.0.1:9/api"),
    ):
        pass


def test_only_a_checkout_of_fute_has_its_own_way_to_register(tmp_path: Path) -> None:
    from flows.services import is_checkout

    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "register.sh").write_text("exit 1")
    assert not is_checkout(tmp_path)
    (tmp_path / "prefect.yaml").write_text("name: another\ndeployments:\n  - name: fute\n")
    assert not is_checkout(tmp_path)
    assert is_checkout(REPOSITORY)
