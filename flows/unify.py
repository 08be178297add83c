"""Unify: every space of the study in one frame, with its neighbours."""

from __future__ import annotations

import logging

from prefect import flow

from flows.run_names import run_name
from flows.session import open_session
from flows.surrogate import surrogate
from tasks.accuracies import expect_accuracies
from tasks.embed import EmbeddingRef
from tasks.run import Run
from tasks.surrogate import SpaceRef
from tasks.unify import Unified, unify_space

log = logging.getLogger("flows.unify")


@flow(name="unify", flow_run_name=run_name)
def unify(
    study: str,
    run: Run | None = None,
    spaces: list[SpaceRef] | None = None,
    embedded: list[EmbeddingRef] | None = None,
) -> list[Unified]:
    """Bring each space into its frame, rank neighbours, and say how often models will be right on its datasets.

    Args:
        study: path of the study file.
        run: the run that this stage belongs to; none when it runs alone.
        spaces: what the surrogate stage left; none when this stage runs alone.
        embedded: what the embed stage made or found; none when this stage runs alone, and then each subject is ranked
            as it was last, or as it was embedded since.
    """
    with open_session(study, "unify", run) as session:
        spaces = spaces or surrogate(study, session.run)
        with session.stage("unify"):
            unified = [unify_space(session.run, s, session.study.unify, embedded) for s in spaces]
            for space, result in zip(spaces, unified, strict=True):
                result.failures = expect_accuracies(session.run, space, embedded)
                session.failures += result.failures
        for space, result in zip(spaces, unified, strict=True):
            log.info(
                "unify: %s, %d subjects, frame: %s%s",
                space.method.method,
                result.subjects,
                result.frame,
                f" ({result.note})" if result.note else "",
            )
        return unified
