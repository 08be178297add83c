"""The tests' own LLM endpoint: answers for real, counts what it was asked, and misbehaves when told to.

    with LlmServer(answer=by_first_word) as server:
        server.misbehave(too_many_requests(retry_after="1"), times=2)
        ...
        assert server.asked["some prompt"] == 1

Without an answerer it serves ../shared/answerer where that is present (a small network that follows prompts), else the
stand-in of the demo. Counting is the server's, so "asked once" is not the client's word.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import random
import re
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.demo.endpoint import Answerer, DemoEndpoint, Exchange
from examples.demo.standin import StandIn

Fault = Callable[[Exchange, dict[str, Any]], bool]
"""Handles one request in some wrong way; True if nothing more is to be sent."""


def shared_folder() -> Path:
    """The folder with shared data, beside the checkout or where FUTE_SHARED says; it may not exist."""
    return Path(os.environ.get("FUTE_SHARED") or Path(__file__).resolve().parents[2] / "shared")


class LlmServer(DemoEndpoint):
    """An endpoint under a test's control: OpenAI's chat and completions, and Anthropic's messages.

    All counts are final before the client can see the answer.

    Attributes:
        asked: prompt -> how often it was asked, misbehaviour included.
        answered: prompts that were answered in full, in order.
        requests, headers, paths: what was asked, as it came.
        most_in_flight: requests that were being handled at once, at most.
    """

    def __init__(self, answer: Answerer | None = None, *, latency_s: float = 0.0) -> None:
        super().__init__(answer or default_answerer(), model="test-model", about="the tests' own endpoint")
        self.asked: Counter[str] = Counter()
        self.answered: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.most_in_flight = 0
        self.latency_s = latency_s
        self.handlers = dict.fromkeys(PROTOCOLS, self._handle)
        self._in_flight = 0
        self._faults: deque[Fault] = deque()
        self._changes: list[tuple[int, Answerer]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> LlmServer:
        super().__enter__()
        return self

    @property
    def n_requests(self) -> int:
        return sum(self.asked.values())

    def misbehave(self, fault: Fault, times: int = 1) -> None:
        """Handle the next requests in this wrong way."""
        with self._lock:
            self._faults.extend([fault] * times)

    def change_answers(self, answer: Answerer, after: int = 0) -> None:
        """Another model behind the same name: from the request on that comes after so many more."""
        with self._lock:
            self._changes.append((self.n_requests + after, answer))

    def _handle(self, exchange: Exchange, request: dict[str, Any]) -> None:
        protocol = PROTOCOLS[exchange.path]
        prompt = protocol.prompt(request)
        with self._lock:
            while self._changes and self.n_requests >= self._changes[0][0]:
                self._answer = self._changes.pop(0)[1]
            answer = self._answer
            self.asked[prompt] += 1
            self.paths.append(exchange.path)
            self.requests.append(request)
            self.headers.append({name.lower(): value for name, value in exchange.headers.items()})
            number = len(self.requests)
            fault = self._faults.popleft() if self._faults else None
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        reply = None
        try:
            if self.latency_s:
                time.sleep(self.latency_s)
            if fault is not None and fault(exchange, request):
                return
            assert answer is not None  # given to __init__
            reply = protocol.reply(self, request, _drawn(answer, request, number))
        finally:
            with self._lock:  # before the client can know: its next request may come while this thread still sends
                self._in_flight -= 1
                if reply is not None:
                    self.answered.append(prompt)
        exchange.reply(*reply)
        exchange.wfile.flush()


# ------------------------------------------------------------------------------------------------------------ protocols


Reply = tuple[int, dict[str, Any]]


@dataclass(frozen=True)
class Protocol:
    """How one path is spoken: which prompt is counted, and the reply of an answerer to a request."""

    prompt: Callable[[dict[str, Any]], str]
    reply: Callable[[LlmServer, dict[str, Any], Answerer], Reply]


def _last_message(request: dict[str, Any]) -> str:
    return request["messages"][-1]["content"]


def _chat(server: LlmServer, request: dict[str, Any], answer: Answerer) -> Reply:
    return DemoEndpoint(answer, model=server.model, about=server.about).chat(request)


def _completion(server: LlmServer, request: dict[str, Any], answer: Answerer) -> Reply:
    """The older protocol. The answer is one token with a blank before it, as after a prompt."""
    prompt, n_top, room = request["prompt"], request.get("logprobs"), request.get("max_tokens", 16)
    if n_top is not None and not 0 <= n_top <= 5:
        return 400, {"error": {"message": f"logprobs is {n_top}; give 0 to 5", "type": "invalid_request_error"}}
    tokens: list[str] = []
    own: list[float | None] = []
    tops: list[dict[str, float]] = []
    if request.get("echo"):
        for i, token in enumerate(prompt_tokens(prompt)):
            tokens.append(token)
            own.append(None if i == 0 else prompt_token_logprob(token))
            tops.append({} if i == 0 else {token: prompt_token_logprob(token)})
    if room > 0:
        words = [(f" {word}", round(math.log(max(p, 1e-30)), 6)) for word, p in answer(prompt, None)]
        tokens.append(words[0][0])
        own.append(words[0][1])
        tops.append(dict(words[: n_top or 1]))
    offsets = [sum(map(len, tokens[:i])) for i in range(len(tokens))]
    logprobs = {"tokens": tokens, "token_logprobs": own, "top_logprobs": tops, "text_offset": offsets}
    choice = {
        "index": 0,
        "text": "".join(tokens),
        "logprobs": None if n_top is None else logprobs,
        "finish_reason": "stop" if room else "length",
    }
    usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": int(room > 0)}
    return 200, {"object": "text_completion", "model": server.model, "choices": [choice], "usage": usage}


def _message(server: LlmServer, request: dict[str, Any], answer: Answerer) -> Reply:
    """Anthropic's: the system text stands apart, an answer is a list of blocks, and max_tokens must be given."""
    if "max_tokens" not in request or any(m["role"] == "system" for m in request["messages"]):
        error = {"type": "invalid_request_error", "message": "max_tokens: Field required, and no system role"}
        return 400, {"type": "error", "error": error}
    prompt = "\n".join(message["content"] for message in request["messages"])
    words = answer(prompt, request.get("system"))
    return 200, {
        "type": "message",
        "role": "assistant",
        "model": server.model,
        "content": [{"type": "text", "text": words[0][0]}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": len(prompt.split()), "output_tokens": 1},
    }


PROTOCOLS = {
    "/v1/chat/completions": Protocol(_last_message, _chat),
    "/v1/completions": Protocol(lambda request: request["prompt"], _completion),
    "/v1/messages": Protocol(_last_message, _message),
}


def prompt_tokens(prompt: str) -> list[str]:
    """A prompt as this server's tokens: words, each with what stands before it."""
    return re.findall(r"\s*\S+|\s+$", prompt)


def prompt_token_logprob(token: str) -> float:
    """How probable a token of a prompt is here: every letter halves it. No language model, but easy to reckon with."""
    return -len(token) * math.log(2)


def _drawn(answer: Answerer, request: dict[str, Any], number: int) -> Answerer:
    """Above temperature 0 an answerer whose first word is drawn by its probabilities; the draw hangs on the request's
    number, so that equal questions get several answers."""
    if not request.get("temperature"):
        return answer

    def draw(prompt: str, system: str | None) -> list[tuple[str, float]]:
        words = answer(prompt, system)
        chosen = random.Random(number).choices(words, [p for _, p in words])[0]
        return [chosen, *(pair for pair in words if pair is not chosen)]

    return draw


# ------------------------------------------------------------------------------------------------------------ answerers


def by_first_word(prompt: str, system: str | None = None) -> list[tuple[str, float]]:
    """Says "positive" or "negative" by a made-up rule on the last line: as quick as an answerer can be."""
    positive = 0.8 if "good" in prompt.rpartition("\n")[2] else 0.2
    return sorted([("positive", positive), ("negative", 1 - positive)], key=lambda pair: -pair[1])


def default_answerer() -> Answerer:
    folder = shared_folder() / "answerer"
    return PromptNetwork(folder) if folder.is_dir() else StandIn()


class PromptNetwork:
    """../shared/answerer: an encoder fine-tuned on prompts with one linear layer over 45 answers."""

    def __init__(self, folder: Path) -> None:
        import torch
        from safetensors.torch import load_file
        from transformers import AutoModel, AutoTokenizer

        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        head = load_file(folder / "answer_head.safetensors")
        self._weight, self._bias = head["weight"].float(), head["bias"].float()  # (45, 384), (45,)
        self._answers: list[str] = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
        self._lock = threading.Lock()

    def __call__(self, prompt: str, system: str | None = None) -> list[tuple[str, float]]:
        with self._lock, self._torch.inference_mode():
            whole = f"{system}\n{prompt}" if system else prompt
            batch = self._tokenizer(whole, truncation=True, max_length=128, return_tensors="pt")
            states = self._model(**batch).last_hidden_state[0].mean(0)  # (384,): one text, so nothing is masked
            probabilities = (self._weight @ states + self._bias).softmax(0).tolist()
        return sorted(zip(self._answers, probabilities, strict=True), key=lambda pair: -pair[1])


# --------------------------------------------------------------------------------------------------------- misbehaviour


def status(code: int, headers: dict[str, str] | None = None, error: dict[str, Any] | None = None) -> Fault:
    def fault(exchange: Exchange, request: dict[str, Any]) -> bool:
        exchange.reply(code, {"error": error or {"message": f"made-up failure {code}"}}, headers)
        return True

    return fault


def too_many_requests(retry_after: str | None = None) -> Fault:
    return status(429, {"Retry-After": retry_after} if retry_after else None)


def echo_of_the_key(code: int) -> Fault:
    """A server that repeats the Authorization header in its error."""

    def fault(exchange: Exchange, request: dict[str, Any]) -> bool:
        sent = exchange.headers.get("Authorization", "")
        exchange.reply(code, {"error": {"message": f"cannot work with {sent}", "code": sent}})
        return True

    return fault


def text_instead(body: bytes, content_type: str = "application/json", headers: dict[str, str] | None = None) -> Fault:
    """Status 200 with a body of the test's choice: broken JSON, a web page, no choices, very much."""

    def fault(exchange: Exchange, request: dict[str, Any]) -> bool:
        exchange.send(200, body, content_type, headers)
        return True

    return fault


def compressed(body: bytes) -> Fault:
    return text_instead(gzip.compress(body), headers={"Content-Encoding": "gzip"})


def choice(content: str | None, finish_reason: str = "stop", **message: Any) -> Fault:
    """An answer of the test's choice, without log-probabilities."""
    chosen = {
        "index": 0,
        "message": {"role": "assistant", "content": content, **message},
        "finish_reason": finish_reason,
    }
    return text_instead(json.dumps({"model": "test-model", "choices": [chosen]}).encode())


def half_closed(exchange: Exchange, request: dict[str, Any]) -> bool:
    """Promises a body and closes the connection within it."""
    exchange.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"choi')
    exchange.wfile.flush()
    exchange.connection.shutdown(socket.SHUT_RDWR)
    exchange.close_connection = True
    return True


def web_page() -> Fault:
    """The page of a login or a proxy, with status 200."""
    return text_instead(b"<html><body>Please log in</body></html>", "text/html")


def broken_json() -> Fault:
    return text_instead(b'{"choices": [{"message": {"content": "posit')
