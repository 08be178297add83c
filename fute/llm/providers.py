"""Who can be asked: one line for each provider, and a file that connects to it.

A new provider is a module with `connect(endpoint, api_key) -> Completer`, the innermost layer of the client, and a line
here. Nothing of it is imported before a study uses it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Provider:
    """What the rest of fute has to know before it connects.

    Attributes:
        module: with the function `connect`.
        default_base_url: where it is reached unless an endpoint says otherwise; None: an endpoint must say.
        top_logprobs: most log-probabilities of a position that it gives; None: it gives none.
        scores_words: it computes the probability of each word that a request names, exactly; nothing is generated.
        echoes: it may tell the log-probabilities of the prompt's own tokens.
        over_http: it is asked over a network, and base_url says where.
    """

    module: str
    default_base_url: str | None = None
    top_logprobs: int | None = None
    scores_words: bool = False
    echoes: bool = False
    over_http: bool = True


PROVIDERS: dict[str, Provider] = {
    "openai_chat": Provider("fute.llm.transport", top_logprobs=20),
    # OpenAI allows 5 and answers more with an error; servers that give more take `parameters: {logprobs: 20}`.
    "openai_completions": Provider("fute.llm.openai_completions", top_logprobs=5, echoes=True),
    "anthropic": Provider("fute.llm.anthropic_messages", default_base_url="https://api.anthropic.com"),
    "local": Provider("fute.llm.local", default_base_url="", scores_words=True, echoes=True, over_http=False),
}
