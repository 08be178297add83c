"""What can be wrong with a study's prompts beside their fields: templates, verbalizers, labels that no dataset has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from fute.config import PromptConfig, Study
from fute.did_you_mean import did_you_mean, listed
from fute.errors import ConfigError
from fute.llm.prompts import Template, refuse_variables
from fute.llm.verbalizer import Verbalizer


def prompt_problems(study: Study) -> Iterator[str]:
    for prompt in study.prompts:
        checks: list[Callable[[], object]] = [
            partial(Template, prompt.template, prompt.id),
            partial(refuse_variables, prompt.system, "system", prompt.id),
            partial(refuse_variables, prompt.follow_up, "follow_up", prompt.id),
        ]
        if prompt.answer == "label":
            checks.append(partial(Verbalizer, prompt.verbalizer, prompt.id, parse=prompt.parse))
        for check in checks:
            try:
                check()
            except ConfigError as exc:
                yield str(exc)
        if prompt.answer == "label":
            yield from _unknown_labels(prompt, study)


def _unknown_labels(prompt: PromptConfig, study: Study) -> Iterator[str]:
    """Of a prompt for a dataset whose labels the study names, those of its labels that the dataset does not have."""
    names = next((d.label_names for d in study.datasets if d.id == prompt.task), None) or []
    for label in prompt.verbalizer:
        if names and label not in names:
            hint = did_you_mean(label, names) or "."
            yield (
                f"prompt {prompt.id}: its verbalizer has the unknown label {label!r}{hint} "
                f"Dataset {prompt.task} has: {listed(names)}"
            )
