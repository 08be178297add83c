"""What a model in this process is asked to do: score words, score a prompt, write. In batches, sorted by length."""

from __future__ import annotations

import inspect
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from transformers import GenerationConfig

from fute.errors import ModelError
from fute.llm.chat_template import rendered
from fute.llm.local_weights import Weights
from fute.llm.local_words import Ids, WordTree
from fute.llm.types import ChatRequest
from fute.llm.wire import LOWEST_LOGPROB
from fute.seeding import seeded

T = TypeVar("T")

logger = logging.getLogger(__name__)

SCORED_TOKENS = 4096
"""Positions whose logits over the whole vocabulary are held at once, when prompts are scored."""

Written = tuple[str, int, bool]
"""Text, its number of tokens, and whether it ended by itself."""


def prompt_ids(weights: Weights, request: ChatRequest, room: int) -> tuple[Ids, bool]:
    """A conversation as token ids, by the model's chat template where it has one, else as plain text; and whether it
    was cut.

    Args:
        room: tokens to leave free for the answer. A prompt that does not fit loses tokens from its middle: the
            question stands at its beginning or at its end, the text between.
    """
    tokenizer = weights.tokenizer
    if getattr(tokenizer, "chat_template", None):
        text = rendered(tokenizer, [message._asdict() for message in request.messages], weights.name)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    else:
        ids = tokenizer(request.as_text)["input_ids"]
    limit = int(request.extra.get("max_prompt_tokens") or len(ids))
    if weights.positions is not None:
        limit = min(limit, weights.positions - room)
    if limit < min(2, len(ids)):
        raise ModelError(f"{weights.name} reads {weights.positions} tokens, no room for {room} of an answer")
    cut = len(ids) > limit
    if cut:
        logger.debug("%s: a prompt of %d tokens was cut to %d", weights.name, len(ids), limit)
        ids = ids[: limit // 2] + ids[len(ids) - (limit - limit // 2) :]
    if not ids:
        raise ModelError(f"{weights.name}: the prompt has no tokens")
    return tuple(ids), cut


def score_words(
    weights: Weights, prompts: Sequence[Ids], trees: Sequence[WordTree], batch_size: int
) -> list[list[float]]:
    """For each prompt the natural log-probability of each word of its tree."""
    found: list[dict[tuple[Ids, int], float]] = [{} for _ in prompts]
    rows = [(i, beginning, tokens) for i, tree in enumerate(trees) for beginning, tokens in tree.wanted.items()]
    for batch in _by_length(rows, lambda row: len(prompts[row[0]]) + len(row[1]), batch_size):
        logprobs = _next_token_logprobs(weights, [(prompts[i], beginning) for i, beginning, _ in batch])
        for (i, beginning, tokens), of_row in zip(batch, logprobs, strict=True):
            for token, value in zip(tokens, of_row[list(tokens)].tolist(), strict=True):
                found[i][beginning, token] = max(LOWEST_LOGPROB, value)
    return [tree.word_logprobs(known) for tree, known in zip(trees, found, strict=True)]


def score_prompts(weights: Weights, prompts: Sequence[Ids], batch_size: int) -> list[list[tuple[str, float]]]:
    """For each prompt its tokens with their natural log-probabilities; the first has none and counts as certain."""
    if weights.seq2seq:
        raise ModelError(f"{weights.name} reads its prompt in an encoder and does not tell how probable it is")
    scored: list[list[tuple[str, float]]] = [[] for _ in prompts]
    longest = max(len(ids) for ids in prompts)
    rows_at_once = max(1, min(batch_size, SCORED_TOKENS // longest))
    for batch in _by_length(range(len(prompts)), lambda i: len(prompts[i]), rows_at_once):
        inputs = _padded(weights, [prompts[i] for i in batch])
        with torch.inference_mode():
            logits = weights.model(**inputs, use_cache=False).logits  # (rows, length, vocabulary)
        for row, i in enumerate(batch):
            ids = torch.tensor(prompts[i], device=logits.device)
            logprobs = logits[row, : len(ids) - 1].float().log_softmax(-1).gather(1, ids[1:, None])[:, 0]
            tokens = [weights.tokenizer.decode([token]) for token in prompts[i]]
            scored[i] = list(zip(tokens, [0.0, *logprobs.tolist()], strict=True))
    return scored


def write(weights: Weights, prompts: Sequence[Ids], requests: Sequence[ChatRequest], batch_size: int) -> list[Written]:
    """What the model goes on with: the most probable token each time, or drawn where the temperature is above 0."""
    written: list[Written] = [("", 0, False)] * len(prompts)
    greedy = defaultdict(list)
    for i, request in enumerate(requests):
        if request.temperature > 0:
            # Each by itself, with a seed of its own: a draw must not hang on what is asked at the same time.
            with seeded(int(request.key[:8], 16)):
                written[i] = _generate(weights, [prompts[i]], request.max_tokens, request.temperature)[0]
        else:
            greedy[request.max_tokens].append(i)
    for max_tokens, rows in greedy.items():
        for batch in _by_length(rows, lambda i: len(prompts[i]), batch_size):
            results = _generate(weights, [prompts[i] for i in batch], max_tokens, 0.0)
            for i, result in zip(batch, results, strict=True):
                written[i] = result
    return written


def _generate(weights: Weights, prompts: Sequence[Ids], max_tokens: int, temperature: float) -> list[Written]:
    tokenizer, usual = weights.tokenizer, weights.model.generation_config
    ends = tokenizer.eos_token_id if usual.eos_token_id is None else usual.eos_token_id
    drawn = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature > 0 else {}
    # A configuration of its own: that of a checkpoint may hold penalties, beams, and cuts of improbable tokens.
    config = GenerationConfig(
        max_new_tokens=max_tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=ends,
        decoder_start_token_id=usual.decoder_start_token_id,
        bos_token_id=usual.bos_token_id,
        **{"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0, **drawn},
    )
    inputs = _padded(weights, prompts, left=not weights.seq2seq)
    with torch.inference_mode():
        output = weights.model.generate(**inputs, generation_config=config)
    begin = 1 if weights.seq2seq else inputs["input_ids"].shape[1]
    stops = set(ends) if isinstance(ends, list) else {ends}
    results = []
    for row in output[:, begin:].tolist():
        end = next((i for i, token in enumerate(row) if token in stops), len(row))
        results.append((tokenizer.decode(row[:end], skip_special_tokens=True), end, end < len(row)))
    return results


def _next_token_logprobs(weights: Weights, pairs: Sequence[tuple[Ids, Ids]]) -> Tensor:
    """(rows, vocabulary): log-probabilities of the token after each (prompt, beginning of the answer)."""
    model = weights.model
    with torch.inference_mode():
        if weights.seq2seq:
            start = model.generation_config.decoder_start_token_id
            start = model.config.decoder_start_token_id if start is None else start
            decoder = _padded(weights, [(start, *beginning) for _, beginning in pairs])["input_ids"]
            logits = model(**_padded(weights, [prompt for prompt, _ in pairs]), decoder_input_ids=decoder).logits
            last = torch.tensor([len(beginning) for _, beginning in pairs])
        else:
            inputs = _padded(weights, [(*prompt, *beginning) for prompt, beginning in pairs])
            ends = [len(prompt) + len(beginning) - 1 for prompt, beginning in pairs]
            # The head is wide: of all positions it is computed for those where some row ends.
            distinct = sorted(set(ends))
            if "logits_to_keep" in inspect.signature(model.forward).parameters:
                kept = torch.tensor(distinct, device=weights.device)
                logits = model(**inputs, use_cache=False, logits_to_keep=kept).logits
                last = torch.tensor([distinct.index(end) for end in ends])
            else:
                logits = model(**inputs, use_cache=False).logits
                last = torch.tensor(ends)
        rows = torch.arange(len(pairs), device=logits.device)
        return logits[rows, last.to(logits.device)].float().log_softmax(-1).cpu()


def _padded(weights: Weights, rows: Sequence[Sequence[int]], *, left: bool = False) -> dict[str, Tensor]:
    """Token ids and attention mask, (rows, longest)."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), weights.tokenizer.pad_token_id, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[i, place] = torch.tensor(row, dtype=torch.long)
        mask[i, place] = 1
    return {"input_ids": ids.to(weights.device), "attention_mask": mask.to(weights.device)}


def _by_length(rows: Sequence[T], length: Callable[[T], int], batch_size: int) -> Iterator[list[T]]:
    """Batches of rows, longest first, so that little is padded and too large a batch shows at once."""
    ordered = sorted(rows, key=length, reverse=True)
    for start in range(0, len(ordered), batch_size):
        yield ordered[start : start + batch_size]
