"""Prompts of a study, in Parquet, so that SQL can join them."""

from __future__ import annotations

from fute.config import PromptConfig
from tasks.engine import NO_CACHE, task
from tasks.run import Run
from tasks.study import prompt_row


@task(cache_policy=NO_CACHE, task_run_name="prompts")
def record_prompts(run: Run, prompts: list[PromptConfig]) -> None:
    store = run.open_store()
    for prompt in prompts:
        store.put_prompt(prompt_row(prompt), run.stamp)
