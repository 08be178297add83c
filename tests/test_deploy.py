"""What can be read off compose.yaml, deploy/Dockerfile and prefect.yaml where there is no container engine."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from flows.services import LEASES
from storage import stamp
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

COMPOSE = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (REPOSITORY / "deploy" / "Dockerfile").read_text()
OPERATE = (REPOSITORY / "docs" / "operate.md").read_text()
DEPLOYMENTS = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
(FOLDER,) = re.findall(r"^WORKDIR (\S+)$", DOCKERFILE, re.MULTILINE)


def mounts(service: str) -> dict[PurePosixPath, str]:
    """Where in the container, and what: a volume's name or a folder of the host."""
    found = {}
    for volume in SERVICES[service].get("volumes", []):
        source, target = re.fullmatch(r"(\$\{.*?\}|[^:]+):([^:]+)(?::ro)?", volume).groups()  # type: ignore[union-attr]
        found[PurePosixPath(target)] = source
    return found


def waits_for(service: str) -> Iterator[str]:
    """What has been started before it."""
    for other in SERVICES[service].get("depends_on", {}):
        yield other
        yield from waits_for(other)


def test_every_published_port_is_on_loopback() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 2
    for port in published:
        assert str(port).startswith("127.0.0.1:")
    assert all("network_mode" not in service for service in SERVICES.values())


def test_one_service_builds_the_image_and_the_others_wait_for_it_and_pull_none() -> None:
    ours = {name for name, service in SERVICES.items() if service["image"].startswith("fute")}
    (builder,) = (name for name, service in SERVICES.items() if "build" in service)
    assert {SERVICES[name]["image"] for name in ours} == {SERVICES[builder]["image"]}
    for name in ours:
        assert SERVICES[name]["pull_policy"] == "never"
        assert name == builder or builder in waits_for(name)


def test_the_database_is_asked_by_tcp_whether_it_is_ready() -> None:
    check = SERVICES["postgres"]["healthcheck"]["test"]
    assert check[:2] == ["CMD", "pg_isready"]
    assert check[check.index("-h") + 1] == "127.0.0.1"
    for server in ("prefect", "mlflow"):
        assert SERVICES[server]["depends_on"]["postgres"] == {"condition": "service_healthy"}
        assert server in waits_for("worker")


def test_arguments_of_the_build_are_arguments_of_the_dockerfile() -> None:
    declared = set(re.findall(r"^ARG (\w+)=", DOCKERFILE, re.MULTILINE))
    assert set(SERVICES["prefect"]["build"]["args"]) == declared == {"TORCH_INDEX_URL", "FUTE_COMMIT"}
    assert (REPOSITORY / SERVICES["prefect"]["build"]["dockerfile"]).is_file()
    assert not re.search(r"(?<!extra)-+index-url", DOCKERFILE)  # which would stand in PyPI's place


def test_the_image_has_every_extra_but_those_that_it_says_why_not() -> None:
    extras = set(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    ((installed),) = re.findall(r"--editable '\.\[(.*?)\]'", DOCKERFILE)
    assert extras - set(installed.split(",")) == {"dev", "docs", "packaged", "quantized", "ray"}
    assert "Without ray" in DOCKERFILE


def test_what_the_shipped_deployments_write_outlives_a_container() -> None:
    kept = mounts("worker")
    named = set(COMPOSE["volumes"])
    for deployment in DEPLOYMENTS:
        study = PurePosixPath(deployment["parameters"]["study"])
        store = yaml.safe_load((REPOSITORY / study).read_text())["store"]
        there = PurePosixPath(os.path.normpath(FOLDER / study.parent / store))
        (target,) = [each for each in kept if there.is_relative_to(each)]
        assert kept[target] in named, (deployment["name"], there)
    (mirror,) = re.findall(r"FUTE_MIRROR=(\S+)", DOCKERFILE)
    assert kept[PurePosixPath(mirror)] in named
    for service in ("postgres", "mlflow"):
        assert set(mounts(service).values()) & named


def test_who_holds_the_slot_of_a_deployment_outlives_the_prefect_servers_container() -> None:
    settings = SERVICES["prefect"]["environment"]
    assert any(deployment.get("concurrency_limit") for deployment in DEPLOYMENTS)
    assert settings["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"] == LEASES
    assert mounts("prefect")[PurePosixPath(settings["PREFECT_HOME"])] in COMPOSE["volumes"]
    # By hand, and there in the folder of whoever starts it.
    (line,) = (line for line in OPERATE.splitlines() if "lease_storage" in line)
    assert line.split("#")[0].strip() == f"export PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE={LEASES}"


def test_a_run_is_taken_for_dead_after_more_than_three_signs_of_life_that_did_not_come() -> None:
    from prefect.events.schemas.automations import AutomationCore, EventTrigger
    from prefect.settings import get_current_settings

    file = REPOSITORY / "deploy" / "unresponsive.yaml"
    assert f"--from-file {file.relative_to(REPOSITORY)}" in OPERATE
    automation = AutomationCore.model_validate(yaml.safe_load(file.read_text()))
    trigger, (action,) = automation.trigger, automation.actions
    assert isinstance(trigger, EventTrigger)
    every = get_current_settings().flows.heartbeat_frequency
    assert every is not None
    assert trigger.within.total_seconds() > 3 * every
    assert action.type == "change-flow-run-state"


def test_studies_lie_where_a_path_in_a_deployment_says_for_who_registers_and_who_runs() -> None:
    studies = PurePosixPath(FOLDER) / "studies"
    assert mounts("register")[studies] == mounts("worker")[studies]
    assert SERVICES["register"]["command"] == ["sh", "deploy/register.sh"]
    assert "studies/prefect.yaml" in (REPOSITORY / "deploy" / "register.sh").read_text()


def test_every_flow_has_a_deployment_and_three_have_a_schedule() -> None:
    flows = {d["entrypoint"].partition(":")[2] for d in DEPLOYMENTS}
    chain = {"ingest", "surrogate", "embed", "unify", "report", "pipeline"}
    assert flows == {*chain, "transfer", "drift", "select_prompts", "maintain"}
    scheduled = {d["entrypoint"]: d["schedules"][0]["cron"] for d in DEPLOYMENTS if d.get("schedules")}
    assert scheduled == {
        "flows/pipeline.py:pipeline": "0 2 * * *",
        "flows/drift.py:drift": "17 * * * *",
        "flows/maintain.py:maintain": "37 4 * * 0",
    }
    for deployment in DEPLOYMENTS:
        assert (REPOSITORY / deployment["parameters"]["study"]).is_file()
        # Loaded by its path, a file has another `__name__`, and a logger of that would be nobody's.
        file = REPOSITORY / deployment["entrypoint"].partition(":")[0]
        assert set(re.findall(r"getLogger\((.*?)\)", file.read_text())) <= {f'"flows.{file.stem}"'}


def test_schedules_have_names_and_what_costs_money_is_off() -> None:
    schedules = {d["name"]: d["schedules"] for d in DEPLOYMENTS if d.get("schedules")}
    assert {name: [s["slug"] for s in each] for name, each in schedules.items()} == {
        name: [name] for name in ("nightly", "hourly", "weekly")
    }
    assert {name for name, (s,) in schedules.items() if s.get("active") is False} == {"hourly"}
    # A line `active: true` would undo a pause whenever the file is registered again.
    assert not [name for name, (s,) in schedules.items() if s.get("active")]


def test_without_a_checkout_rows_name_the_commit_that_the_image_was_built_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = stamp.code_version.__wrapped__
    monkeypatch.setenv("FUTE_COMMIT", "0123abc+dirty")
    if (REPOSITORY / ".git").exists():
        assert written() != "0123abc+dirty"
    monkeypatch.setattr(stamp, "__file__", str(tmp_path / "storage" / "stamp.py"))
    assert written() == "0123abc+dirty"
    for empty in ("", " "):  # as compose passes on what is not set
        monkeypatch.setenv("FUTE_COMMIT", empty)
        assert written() == stamp.version("fute")
