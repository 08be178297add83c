"""`fute up` from any folder and `fute schedule` against it: a study runs by the clock, without a repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.cli import main
from flows.services import Ports, services
from tests.flows.small_study import write_small_study
from tests.processes import ASK_S, free_port, until

pytestmark = pytest.mark.slow

PROGRESS = "embed: 6 embeddings (0 from the store), 0 failed"


def test_a_study_is_scheduled_listed_run_and_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "ERROR")  # as it is in `fute up`
    monkeypatch.delenv("PREFECT_API_DATABASE_CONNECTION_URL", raising=False)
    models = [{"kind": "trained", "dataset": "*", "recipe": "tfidf"}]
    methods = [{"method": "crosscov", "components": 16}]
    study = write_small_study(tmp_path / "study", models=models, methods=methods, tracking={"enabled": False})
    twin = write_small_study(tmp_path / "twin", models=models, methods=methods)
    # Another project's script of that name is not run: the services would not start.
    (tmp_path / "project" / "deploy").mkdir(parents=True)
    (tmp_path / "project" / "deploy" / "register.sh").write_text("exit 1")
    ports = Ports(free_port(), pages=free_port())
    with (
        services(tmp_path / "project", tmp_path / "store", ports, with_mlflow=False),
        httpx.Client(base_url=ports.api_url, timeout=120) as api,
    ):

        def schedule(*arguments: str) -> Result:
            with temporary_settings({PREFECT_API_URL: ports.api_url}):  # the process of the tests has another server
                return CliRunner().invoke(main, ["schedule", *arguments])

        def listed() -> list[dict[str, Any]]:
            return json.loads(schedule("--list", "--json").stdout)

        def ask(path: str, method: str = "POST") -> Any:
            answers: list[httpx.Response] = []

            def answered() -> bool:
                """A server whose database is busy says 503, and Prefect's own client asks again."""
                answers.append(api.request(method, path, json={} if method == "POST" else None))
                return answers[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

            until(answered, f"an answer to {path}", ASK_S)
            return answers[-1].raise_for_status().json()

        assert {entry["name"] for entry in ask("/deployments/filter")} == {"adhoc"}
        assert listed() == []
        nightly = schedule(str(study), "--cron", "0 2 * * *")
        assert nightly.exit_code == 0, nightly.output
        assert "pipeline of small: 0 2 * * * (UTC)" in nightly.output
        assert schedule(str(study), "--flow", "maintain", "--every", "1w").exit_code == 0
        later = schedule(str(study), "--cron", "30 3 * * *", "--timezone", "Europe/Vienna")
        assert later.exit_code == 0, later.output
        assert [(each["flow"], each["when"], each["active"]) for each in listed()] == [
            ("maintain", "every 7 days", True),
            ("pipeline", "30 3 * * * (Europe/Vienna)", True),
        ]
        for wrong, told in (
            ((str(study), "--cron", "0 99 * * *"), "Invalid cron string"),
            ((str(study), "--cron", "0 2 * * *", "--timezone", "Mars"), "Invalid timezone"),
            ((str(study), "--flow", "drift", "--every", "1h"), "no prompted model to watch"),
            ((str(twin), "--cron", "0 2 * * *"), "called small is scheduled already"),
            ((str(twin), "--remove"), "nothing is scheduled"),
        ):
            refused = schedule(*wrong)
            assert refused.exit_code == 1
            assert told in refused.output

        # What will run at that time, now.
        deployment = ask("/deployments/name/pipeline/small", "GET")
        assert deployment["concurrency_limit"] == 1 or deployment["global_concurrency_limit"]["limit"] == 1
        run = ask(f"/deployments/{deployment['id']}/create_flow_run")

        def state() -> Any:
            return ask(f"/flow_runs/{run['id']}", "GET")

        until(lambda: state()["state_type"] in ("COMPLETED", "FAILED", "CRASHED"), "the run", ASK_S)
        assert (state()["state_type"], state()["name"]) == ("COMPLETED", "small pipeline")
        # Its progress is told, to Prefect (the last lines are sent when the run has ended) and on the worker's console.
        until(lambda: any(log["message"] == PROGRESS for log in ask("/logs/filter")), PROGRESS, ASK_S)
        told = [(log["name"], log["message"]) for log in ask("/logs/filter")]
        assert told.count(("flows.embed", PROGRESS)) == 1, told
        assert PROGRESS in capfd.readouterr().err
        links = {each["key"]: each["data"] for each in ask("/artifacts/filter")}
        assert f"]({ports.pages_url}/" in links["fute-store-page"]

        assert "taken out: maintain/small" in schedule(str(study), "--remove", "--flow", "maintain").output
        assert [each["flow"] for each in listed()] == ["pipeline"]

        study.write_text(study.read_text().replace("name: small", "name: renamed", 1))
        renamed = schedule(str(study), "--cron", "0 4 * * *")
        assert renamed.exit_code == 0, renamed.output
        assert "taken out, since the study has another name now: pipeline/small" in renamed.output
        assert "pipeline of renamed: 0 4 * * * (UTC)" in renamed.output
        assert [(each["study"], each["when"]) for each in listed()] == [("renamed", "0 4 * * * (UTC)")]
        assert schedule(str(study), "--remove").exit_code == 0
        assert listed() == []
