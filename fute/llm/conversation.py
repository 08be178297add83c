"""How a prompt asks about one input (directly, after reasoning, or several times), and what its answers come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fute.config import EndpointConfig, PromptConfig
from fute.errors import ConfigError
from fute.llm.endpoint import request_fields, service_of
from fute.llm.parse import refuses
from fute.llm.prompts import Template, refuse_variables
from fute.llm.providers import PROVIDERS
from fute.llm.types import Answer, ChatRequest, Message
from fute.llm.verbalizer import Reading, Verbalizer, after_thinking, why_declined

Ask = Callable[[ChatRequest], Answer]


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How answers are drawn.

    Attributes:
        temperature: 0: the most probable answer.
        max_answer_tokens: of the answer, at most.
        max_reasoning_tokens: of the reasoning before it, at most; for prompts with `cot`.
        samples: answers to the same question.
    """

    temperature: float = 0.0
    max_answer_tokens: int = 8
    max_reasoning_tokens: int = 512
    samples: int = 1

    def __post_init__(self) -> None:
        if self.samples > 1 and self.temperature <= 0:
            raise ConfigError(
                f"samples is {self.samples} at temperature 0, where all answers are the same; "
                "set a temperature above 0, or take samples out"
            )


@dataclass(frozen=True)
class Reply:
    """What came of one input.

    Attributes:
        reading: label probabilities, or why there are none; for free text the probabilities are always None.
        text: the free text; None where a label was asked for, or where there is none.
        answers: all that were given on the way, for counting.
    """

    reading: Reading
    answers: tuple[Answer, ...]
    text: str | None = None


class Conversation:
    """One prompt at one endpoint. Asks nothing by itself: the answers come from a function.

    Raises:
        ConfigError: the template or the verbalizer is wrong, or the settings contradict each other.
    """

    def __init__(self, prompt: PromptConfig, endpoint: EndpointConfig, decoding: Decoding) -> None:
        if prompt.answer == "text" and decoding.samples > 1:
            raise ConfigError(f"prompt {prompt.id}: of free text one answer is taken; take samples out")
        self._prompt = prompt
        self._endpoint = endpoint
        self._decoding = decoding
        self._template = Template(prompt.template, prompt.id)
        refuse_variables(prompt.system, "system", prompt.id)
        refuse_variables(prompt.follow_up, "follow_up", prompt.id)
        self._fields = request_fields(endpoint)
        self._provider = PROVIDERS[endpoint.api]
        self.verbalizer = (
            None if prompt.answer == "text" else Verbalizer(prompt.verbalizer, prompt.id, parse=prompt.parse)
        )
        self.needs_pair = self._template.needs_pair

    def opening(self, text: str, pair: str | None = None) -> ChatRequest:
        """The first request about an input: for the answer, or, with `cot`, for the reasoning."""
        system = [Message("system", self._prompt.system)] if self._prompt.system else []
        messages = (*system, Message("user", self._template.render(text, pair)))
        if self._prompt.cot:
            return self._request(messages, self._decoding.max_reasoning_tokens)
        return self._asking_for_answer(messages)

    def repeated(self, opening: ChatRequest) -> list[ChatRequest]:
        """The opening, once for each sample."""
        return [opening, *(replace(opening, sample=sample) for sample in range(1, self._decoding.samples))]

    def follow_up(self, opening: ChatRequest, reasoning: Answer) -> ChatRequest | None:
        """The request for the answer, given the reasoning; None if there is no reasoning to go on from."""
        text = after_thinking(reasoning).text.strip()
        if reasoning.refused or refuses(text) or not text:
            return None
        return self._asking_for_answer(
            (
                *opening.messages,
                Message("assistant", text),
                Message("user", self._prompt.follow_up or self._usual_follow_up()),
            ),
            sample=opening.sample or 0,
        )

    def follow_up_without_reasoning(self, opening: ChatRequest) -> ChatRequest:
        """The request for the answer before the reasoning is known, with next to nothing in its place."""
        return self.follow_up(opening, Answer("?")) or opening

    def hold(self, ask: Ask, text: str, pair: str | None = None) -> Reply:
        """Ask everything about one input."""
        answers: list[Answer] = []
        last: list[Answer] = []
        for request in self.repeated(self.opening(text, pair)):
            answer = ask(request)
            answers.append(answer)
            if self._prompt.cot:
                follow_up = self.follow_up(request, answer)
                if follow_up is None:
                    # Without its reasoning the model would be another one: a refusal or silence is then the answer.
                    answer = _without_words(answer)
                else:
                    answer = ask(follow_up)
                    answers.append(answer)
            last.append(answer)
        return self._reply(tuple(answers), last)

    def _reply(self, answers: tuple[Answer, ...], last: list[Answer]) -> Reply:
        if self.verbalizer is not None:
            several = self._decoding.samples > 1
            return Reply(self.verbalizer.read_samples(last) if several else self.verbalizer.read(last[0]), answers)
        answer = after_thinking(last[0])
        text = answer.text.strip()
        if answer.refused or refuses(text):
            return Reply(Reading(None, why_declined(answer)), answers)
        return Reply(Reading(None, "text" if text else "empty"), answers, text or None)

    def _asking_for_answer(self, messages: tuple[Message, ...], *, sample: int = 0) -> ChatRequest:
        wanted: dict[str, Any] = {}
        if self.verbalizer is not None and self._endpoint.logprobs and self._decoding.samples == 1:
            if self._provider.scores_words:
                wanted = {"candidates": self.verbalizer.words}
            else:
                wanted = {"top_logprobs": self._provider.top_logprobs}
        return self._request(messages, self._decoding.max_answer_tokens, sample=sample, **wanted)

    def _request(self, messages: tuple[Message, ...], max_tokens: int, **wanted: Any) -> ChatRequest:
        fields = self._fields
        if self._endpoint.max_tokens_field != "max_tokens":
            fields = {"max_tokens": None, self._endpoint.max_tokens_field: max_tokens, **fields}
        return ChatRequest(
            service=service_of(self._endpoint),
            base_url=self._endpoint.address,
            model=self._endpoint.model,
            messages=messages,
            temperature=self._decoding.temperature,
            max_tokens=max_tokens,
            api=self._endpoint.api,
            extra=fields,
            **{"sample": 0, "top_logprobs": None, **wanted},
        )

    def _usual_follow_up(self) -> str:
        if self.verbalizer is None:
            return "Now write the final text only."
        first_words = [words[0] for words in self._prompt.verbalizer.values()]
        return f"So what is the answer? Answer with one of these words only: {', '.join(first_words)}."


def _without_words(answer: Answer) -> Answer:
    """The refusal in an answer, if it is one, and nothing that could be read as a label."""
    refused = not answer.refused and refuses(after_thinking(answer).text)
    return Answer("", finish_reason="refusal" if refused else answer.finish_reason)
