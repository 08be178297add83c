"""What a module of tasks takes from Prefect, once our lines go to its log, in whatever process imports the tasks.

What only reads, `fute check` above all, does without: Prefect takes longer to import than a plan to make.
"""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.logs import send_to_prefect

__all__ = ["NO_CACHE", "task"]

send_to_prefect()
