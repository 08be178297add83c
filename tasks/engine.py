"""What a module of tasks takes from Prefect, once our lines go to its log, in whatever process imports the tasks.

What only reads, `fute check` above all, does without: Prefect takes longer to import than a plan to make.
"""

from __future__ import annotations

import logging

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging.configuration import ensure_logging_setup

__all__ = ["NO_CACHE", "task"]

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


send_to_prefect()
