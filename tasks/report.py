"""Stage 5: the pages of a study and of the whole store, and the result tables as Prefect artifacts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact

from fute.config import EndpointConfig
from fute.terminal import printable
from fute.unify.frame import legend
from storage.summary import SpaceSummary, near_in_words, right_in_words, summarise
from tasks.engine import NO_CACHE, task
from tasks.page_links import page_link
from tasks.pages import Pages, pages_of
from tasks.run import Failure, Run
from tasks.unify import Unified


@task(cache_policy=NO_CACHE, task_run_name="pages-{run.study}")
def write_pages(
    run: Run, unified: list[Unified], failures: list[Failure], endpoints: list[EndpointConfig] | None = None
) -> Pages:
    """Write the page of the study, and that of the whole store anew.

    Args:
        endpoints: the study's, for their prices: the store learns of them when the run ends.
    """
    notes = {u.space: [u.note] for u in unified if u.note}
    spaces = [u.space for u in unified if u.subjects]
    return pages_of(run.open_store(), run.study, spaces, endpoints or [], notes, failures)


@task(cache_policy=NO_CACHE, task_run_name="artifacts-{unified.space}")
def publish_result(run: Run, unified: Unified, pages: Pages, failures: list[Failure]) -> None:
    """The result table of one space, as an artifact of the Prefect run."""
    summary = summarise(run.open_store(), unified.space)
    told = f"{result_markdown(summary, failures)}\n\nPage: `{pages.study}`\n\nMLflow run: `{run.run_id}`"
    create_markdown_artifact(
        markdown=told,
        key=f"fute-{summary.space['method']}-result",
        description=f"Which models fit, and what is nearest, by {summary.space['method']}",
    )


@task(cache_policy=NO_CACHE, task_run_name="links-{run.study}")
def publish_pages(run: Run, pages: Pages, study_link: str | None = None) -> None:
    """Links to both pages, as artifacts of the Prefect run.

    Args:
        study_link: where a tracking server shows the study's page, for where no page server does. A browser follows a
            link to a file only on the worker's own machine, and not from a page that a server sent: there it is a path
            to copy.
    """
    study, store = page_link(Path(pages.study)), page_link(Path(pages.store))
    link = study_link if study_link and study.startswith("file:") else study
    create_link_artifact(link=link, link_text=f"Atlas of {run.study}", key="fute-study-page")
    create_link_artifact(link=store, link_text="Atlas of the store", key="fute-store-page")


def result_markdown(summary: SpaceSummary, failures: list[Failure]) -> str:
    """The ranked tables in Markdown."""
    lines = [
        legend(summary.frame, summary.space["method"]),
        "",
        "| dataset | right most often | nearest models |",
        "| --- | --- | --- |",
    ]
    for e in summary.population:
        if e.kind == "dataset":
            near = summary.nearest("dataset", e.subject, "model", 3)
            best = [f"{model} {right_in_words(row)}" for model, row in summary.most_right(e.subject)[:2]]
            right = literal(", ".join(best) or summary.unknown(e.subject))
            lines.append(f"| {literal(e.subject)} | {right} | {_near(near)} |")
    lines += ["", "| model | nearest dataset |", "| --- | --- |"]
    for e in summary.population:
        if e.kind == "model":
            near = summary.nearest("model", e.subject, "dataset", 1)
            lines.append(f"| {literal(e.subject)} | {_near(near)} |")
    if failures:
        lines += ["", "| failed | stage | reason |", "| --- | --- | --- |"]
        lines += [f"| {literal(f.subject)} | {f.stage} | {literal(f.reason)} |" for f in failures]
    return "\n".join(lines)


def literal(text: str) -> str:
    """Text as Markdown that shows it as it is: a reason may quote a server, and its links and images are no part of a
    result."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~&:])", r"\\\1", printable(" ".join(text.split())))


def _near(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(literal(near_in_words(row)) for row in rows)
