"""Prompts of a study, in Parquet, so that SQL can join them."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from fute.config import PromptConfig
from storage.store import to_json
from tasks.run import Run


@task(cache_policy=NO_CACHE, task_run_name="prompts")
def record_prompts(run: Run, prompts: list[PromptConfig]) -> None:
    store = run.open_store()
    for prompt in prompts:
        row = {
            "id": prompt.id,
            "template": prompt.template,
            "system": prompt.system,
            "verbalizer": to_json(prompt.verbalizer),
            "cot": prompt.cot,
            "follow_up": prompt.follow_up,
            "answer": prompt.answer,
            "parse": prompt.parse,
        }
        store.put_prompt(row, run.stamp)
