"""Stage 5: the map of a space, and its result table as a Prefect artifact."""

from __future__ import annotations

import shlex
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from fute.report import types as page
from fute.report.layout import cluster_order, map_positions
from fute.report.page import render_map
from fute.types import Kind
from fute.unify.frame import NO_REFERENCE, similarities
from storage.store import Store
from storage.summary import SpaceSummary, summarise
from storage.vectors import VectorStore
from tasks.run import Failure, Run
from tasks.unify import Unified, unified_vectors

NEAREST = 10


@task(cache_policy=NO_CACHE, task_run_name="map-{unified.space}")
def write_map(run: Run, unified: Unified, failures: list[Failure]) -> str:
    """Write the HTML map of one space; returns its path."""
    store = run.open_store()
    summary = summarise(store, unified.space)
    html = render_map(map_data(store, summary, run.study, unified, failures))
    return str(store.put_report(f"{run.study}-{summary.space['method']}-{unified.space}.html", html))


def map_data(
    store: Store, summary: SpaceSummary, study: str, unified: Unified, failures: list[Failure]
) -> page.MapData:
    reference = NO_REFERENCE if unified.reference == "none" else VectorStore(store).reference(unified.space)
    similarity = similarities(unified_vectors(list(summary.population), reference))
    positions = map_positions(similarity)
    space = summary.space
    notes = [f"Reference means removed: {unified.reference}."]
    if unified.note:
        notes.append(unified.note[0].upper() + unified.note[1:] + ".")
    return page.MapData(
        title=study,
        subtitle=f"{space['method']} on {space['surrogate']}, pool {space['pool']}, space {space['space']}",
        created_at=datetime.now(UTC),
        subjects=[point(summary, i, positions[i]) for i in range(len(summary.population))],
        similarities=similarity,
        order=cluster_order(similarity),
        notes=notes,
        failures=[page.Failure(f.subject, f"{f.stage}: {f.reason}") for f in failures],
        store=str(store.root),
        commands=[page.Command(purpose, command) for purpose, command in next_commands(store, summary)],
    )


def point(summary: SpaceSummary, index: int, position: np.ndarray) -> page.SubjectPoint:
    embedding = summary.population[index]
    card = summary.model_cards.get(embedding.subject, {}) if embedding.kind == "model" else {}
    candidate_kinds: tuple[Kind, ...] = ("dataset", "model") if embedding.kind == "model" else ("model",)
    near = [
        row for kind in candidate_kinds for row in summary.nearest(embedding.kind, embedding.subject, kind, NEAREST)
    ]
    task_id = embedding.row["task"]
    return page.SubjectPoint(
        id=embedding.subject,
        kind=embedding.kind,
        type=embedding.row["subject_kind"],
        family=summary.families.get(embedding.subject if embedding.kind == "dataset" else task_id or ""),
        task=task_id if embedding.kind == "model" else None,
        score=card.get("score"),
        score_name=card.get("score_name"),
        x=float(position[0]),
        y=float(position[1]),
        nearest=[
            page.Neighbor(row["candidate"], row["candidate_kind"], row["score"], row["ci_low"], row["ci_high"])
            for row in sorted(near, key=lambda row: -row["score"])
        ],
    )


def next_commands(store: Store, summary: SpaceSummary) -> list[tuple[str, str]]:
    """Three commands to try next; each works as printed, also where the environment is not activated."""
    fute, mlflow, prefect = (
        name if shutil.which(name) else shlex.quote(str(Path(sys.executable).parent / name))
        for name in ("fute", "mlflow", "prefect")
    )
    root = shlex.quote(str(store.root))
    dataset = next((e.subject for e in summary.population if e.kind == "dataset"), summary.population[0].subject)
    subject = dataset.replace("'", "''")
    return [
        ("ask in SQL", f"{fute} sql --store {root} \"SELECT * FROM nearest('{subject}', k := 3)\""),
        ("look at the runs in MLflow", f"{mlflow} ui --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///{root}/mlflow.db"),
        ("look at the flows in Prefect", f"{prefect} server start --host 127.0.0.1"),
    ]  # fmt: skip


@task(cache_policy=NO_CACHE, task_run_name="artifacts-{unified.space}")
def publish(run: Run, unified: Unified, path: str, failures: list[Failure]) -> None:
    """The result table and a link to the map, as artifacts of the Prefect run."""
    summary = summarise(run.open_store(), unified.space)
    key = f"fute-{summary.space['method']}"
    told = f"{result_markdown(summary, failures)}\n\nMap: `{path}`\n\nMLflow run: `{run.run_id}`"
    create_markdown_artifact(markdown=told, key=f"{key}-result",
                             description=f"Nearest subjects in space {unified.space}")  # fmt: skip
    create_link_artifact(link=Path(path).as_uri(), link_text="Map of the space", key=f"{key}-map")


def result_markdown(summary: SpaceSummary, failures: list[Failure]) -> str:
    """The ranked tables in Markdown."""
    lines = [f"Reference: {summary.reference}", "", "| dataset | nearest models |", "| --- | --- |"]
    for e in summary.population:
        if e.kind == "dataset":
            near = summary.nearest("dataset", e.subject, "model", 3)
            lines.append(f"| {e.subject} | {', '.join('{candidate} {score:.2f}'.format(**r) for r in near)} |")
    lines += ["", "| model | nearest dataset |", "| --- | --- |"]
    for e in summary.population:
        if e.kind == "model":
            near = summary.nearest("model", e.subject, "dataset", 1)
            lines.append(f"| {e.subject} | {', '.join('{candidate} {score:.2f}'.format(**r) for r in near)} |")
    if failures:
        lines += ["", "| failed | stage | reason |", "| --- | --- | --- |"]
        lines += [f"| {f.subject} | {f.stage} | {f.reason.replace('|', '/').replace(chr(10), ' ')} |" for f in failures]
    return "\n".join(lines)
