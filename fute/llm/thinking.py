"""What a reasoning model wrote for itself, taken off its answer, where a server passes it on in one text."""

from __future__ import annotations

from dataclasses import replace

from fute.llm.types import Answer

OPENS, CLOSES = "<think>", "</think>"


def after_thinking(answer: Answer) -> Answer:
    """The answer without its thinking: text and log-probabilities begin behind the closing mark.

    Thinking that was cut off by the token limit leaves nothing, so that no word in it is taken for the answer.
    """
    if CLOSES in answer.text:
        # Some chat templates write the opening mark themselves, so that only the closing one comes back.
        text = answer.text.rpartition(CLOSES)[2]
    elif answer.text.lstrip().startswith(OPENS):
        text = ""
    else:
        return answer
    if not answer.logprobs:
        return replace(answer, text=text)
    behind, written = len(answer.text) - len(text), 0
    for number, position in enumerate(answer.logprobs):
        if written >= behind:
            return replace(answer, text=text, logprobs=answer.logprobs[number:])
        written += len(position.token)
    return replace(answer, text=text, logprobs=None)
