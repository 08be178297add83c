"""What a module of tasks takes from Prefect, once our lines go to its log, in whatever process imports the tasks.

What only reads, `fute check` above all, does without: Prefect takes longer to import than a plan to make.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging.configuration import ensure_logging_setup

__all__ = ["NO_CACHE", "task"]

# A file of flows names its logger in full: run by a worker, it is loaded by its path, and `__name__` is Prefect's.
PACKAGES = ("flows", "tasks", "fute", "storage")


class OfRuns(logging.Handler):
    """Gives to Prefect's handlers the lines of runs; of any other they would warn that it belongs to none."""

    def __init__(self, handlers: Sequence[logging.Handler]) -> None:
        super().__init__()
        self._handlers = list(handlers)

    def emit(self, record: logging.LogRecord) -> None:
        if FlowRunContext.get() or TaskRunContext.get():
            for handler in self._handlers:
                handler.handle(record)


def send_to_prefect() -> None:
    """Treat our loggers as Prefect treats its own: the level of PREFECT_LOGGING_LEVEL, and the handler of its API.

    Prefect itself does the second for the loggers that PREFECT_LOGGING_EXTRA_LOGGERS names, and the first for none:
    they would keep to warnings. A level that somebody has set stays.
    """
    ensure_logging_setup()  # what is copied below stands there from then on
    extra = logging.getLogger("prefect.extra")
    for package in PACKAGES:
        logger = logging.getLogger(package)
        if logger.level == logging.NOTSET:
            logger.setLevel(extra.level)
        if not any(isinstance(handler, OfRuns) for handler in logger.handlers):
            logger.addHandler(OfRuns(extra.handlers))


send_to_prefect()
