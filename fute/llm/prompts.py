"""Prompt templates are data: `{{text}}` and its like are filled in, and nothing else ever happens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial

from fute.config import PromptConfig, Study
from fute.did_you_mean import did_you_mean, listed
from fute.errors import ConfigError, DataError
from fute.llm.verbalizer import Verbalizer

TEXT_NAMES = frozenset({"text", "premise", "question", "sentence", "sentence1"})
PAIR_NAMES = frozenset({"text_pair", "hypothesis", "context", "sentence2"})

_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_OF_OTHERS = re.compile(r"\{[%#]|(?<!\{)\{\s*(?:" + "|".join(sorted(TEXT_NAMES | PAIR_NAMES)) + r")\s*\}(?!\})")
"""What other template languages fill in or run, and here would be sent as it stands: {% if %}, {# #}, {text}."""


class Template:
    """A template, checked once.

    Args:
        source: text with {{text}} (also premise, question, sentence, sentence1) and, for pairs, {{text_pair}} (also
            hypothesis, context, sentence2).
        name: of the prompt, for messages.

    Raises:
        ConfigError: an unknown variable, an expression instead of a name, a placeholder without an end, a statement or
            a {variable} of another template language, or no text.
    """

    def __init__(self, source: str, name: str = "prompt") -> None:
        self.source = source
        self.name = name
        names = {match.group(1).strip() for match in _PLACEHOLDER.finditer(source)}
        for unknown in sorted(names - TEXT_NAMES - PAIR_NAMES):
            raise ConfigError(
                f"prompt {name}: {{{{{unknown}}}}} is no variable of a prompt; only plain names are filled in: "
                f"{', '.join(sorted(TEXT_NAMES))}; for the second text {', '.join(sorted(PAIR_NAMES))}"
            )
        if "{{" in _PLACEHOLDER.sub("", source):
            raise ConfigError(f"prompt {name}: a {{{{ in its template is never closed; write {{{{text}}}}")
        if foreign := _OF_OTHERS.search(source):
            raise ConfigError(
                f"prompt {name}: {foreign[0]} in its template would be sent as it stands; only variables in double "
                "braces are filled in, such as {{text}}, and nothing else is done"
            )
        if not names & TEXT_NAMES:
            raise ConfigError(f"prompt {name}: its template holds no {{{{text}}}}, so every input would read the same")
        self.needs_pair = bool(names & PAIR_NAMES)

    def render(self, text: str, pair: str | None = None) -> str:
        """The template with one input in it.

        Raises:
            DataError: the template wants a second text and the input has none.
        """
        if self.needs_pair and pair is None:
            raise DataError(
                f"prompt {self.name} wants a second text, but this input has none: {text[:60]!r}; "
                "use it on text pairs, or take {{text_pair}} out of its template"
            )
        second = pair or ""
        # One pass, and what is put in is not looked at again: braces in foreign text stay what they are.
        return _PLACEHOLDER.sub(lambda match: text if match.group(1).strip() in TEXT_NAMES else second, self.source)


def refuse_variables(text: str | None, field: str, name: str) -> None:
    """Raises ConfigError: a message of a prompt that is sent as it stands has a variable in it."""
    if text is not None and (found := re.search(r"\{\{.*?(\}\}|$)", text, re.DOTALL) or _OF_OTHERS.search(text)):
        raise ConfigError(
            f"prompt {name}: {found[0][:40]} in its {field} would be sent as it stands; variables are filled in in its "
            "template only"
        )


def prompt_problems(study: Study) -> Iterator[str]:
    """What can be wrong with a study's prompts beside their fields: templates, verbalizers, unknown labels."""
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
