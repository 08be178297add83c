"""A conversation as the text that a model in this process reads, by its own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from fute.errors import ModelError

Messages = Sequence[dict[str, str]]
PROBE = "fute asks whether this text is read."


def rendered(tokenizer: Any, messages: Messages, name: str) -> str:
    """The conversation with the beginning of an answer. A model without system turns gets that text at the head of the
    question: some templates refuse such a turn, others pass over it and say nothing.

    Raises:
        ModelError: the template cannot be filled in, or passes over a turn of the user or of the assistant.
    """
    try:
        try:
            text, unread = _rendered(tokenizer, messages)
        except TemplateError:
            unread = {"system"}
        if "system" in unread:
            text, unread = _rendered(tokenizer, _without_system(messages))
    except TemplateError as exc:
        raise ModelError(f"{name}: its chat template cannot be filled in: {exc}") from exc
    if unread:
        raise ModelError(
            f"{name}: its chat template passes over what the {' and the '.join(sorted(unread))} says, so the model "
            "would not read it; give the tokenizer of a model that is made for such conversations"
        )
    return text


def _rendered(tokenizer: Any, messages: Messages) -> tuple[str, set[str]]:
    """The text, and the roles of turns that do not get into it: another content would give the same text."""

    def render(turns: Messages) -> str:
        return str(tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))

    text = render(messages)
    others = ([*messages[:i], {**turn, "content": PROBE}, *messages[i + 1 :]] for i, turn in enumerate(messages))
    return text, {
        turn["role"]
        for turn, other in zip(messages, others, strict=True)
        if turn["content"].strip() and render(other) == text
    }


def _without_system(messages: Messages) -> Messages:
    first = "\n".join([m["content"] for m in messages if m["role"] == "system"] + [""])
    rest = [dict(message) for message in messages if message["role"] != "system"]
    rest[0]["content"] = first + rest[0]["content"]
    return rest
