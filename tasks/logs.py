"""Our lines in Prefect, in whatever process runs a flow or a task: in the UI beside the run, and on its console."""

from __future__ import annotations

import logging

from prefect.logging.configuration import ensure_logging_setup

# A file of flows names its logger in full: run by a worker, it is loaded by its path, and `__name__` is Prefect's.
PACKAGES = ("flows", "tasks", "fute", "storage")


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
        for handler in extra.handlers:
            logger.addHandler(handler)  # once: the same one is not added again
