"""A small OpenAI-compatible endpoint on loopback, for the demo and the tests. There is no language model behind it.

It speaks enough of the protocol for a real client: POST /v1/chat/completions (with logprobs and top_logprobs),
GET /v1/models, GET /health. Answers come from a function; by default from the stand-in of `examples.demo.standin`, a
sentence encoder. It says so wherever the protocol has a place for it: model name, system fingerprint, /health.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .standin import MODEL_NAME, StandIn

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 1_000_000
MAX_TOP_LOGPROBS = 20

Answerer = Callable[[str, str | None], list[tuple[str, float]]]
"""(prompt, system text) -> (word, probability), most probable first."""


class DemoEndpoint:
    """Runs in threads of this process, on 127.0.0.1, as long as the `with` block.

    Args:
        answer: called by several threads at once; None: the stand-in, loaded on entering.
        model: the name that it gives itself.
        about: what is behind it, for /health.
        port: 0: a free one.
    """

    def __init__(
        self,
        answer: Answerer | None = None,
        *,
        model: str = MODEL_NAME,
        about: str = "a sentence encoder (all-MiniLM-L6-v2) that picks one of the options in the prompt; no LLM",
        port: int = 0,
    ) -> None:
        self._answer = answer
        self.model = model
        self.about = about
        self.port = port
        self.handlers: dict[str, Callable[[Exchange, dict[str, Any]], None]] = {
            "/v1/chat/completions": self.handle_chat
        }
        self._server: _Server | None = None

    @property
    def base_url(self) -> str:
        if self._server is None:
            raise RuntimeError("the endpoint is not running; use it in a with statement")
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> DemoEndpoint:
        if self._answer is None:
            self._answer = StandIn()
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="demo-endpoint", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def handle_chat(self, exchange: Exchange, request: dict[str, Any]) -> None:
        """Answer one request for a chat completion. Tests replace this to misbehave."""
        exchange.reply(*self.chat(request))

    def chat(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and body for a chat request."""
        try:
            messages = [(message["role"], message["content"]) for message in request["messages"]]
            prompt = "\n".join(content for role, content in messages if role != "system")
            system = "\n".join(content for role, content in messages if role == "system") or None
            n_top = int(request.get("top_logprobs") or 0)
        except (KeyError, TypeError, ValueError) as exc:
            return 400, _error(f"no chat request: {type(exc).__name__} {exc}")
        if request.get("stream"):
            return 400, _error("streaming is not supported; leave stream out")
        if not 0 <= n_top <= MAX_TOP_LOGPROBS:
            return 400, _error(f"top_logprobs is {n_top}; give 0 to {MAX_TOP_LOGPROBS}")
        assert self._answer is not None  # set on entering
        words = self._answer(prompt, system)
        return 200, self._completion(request, prompt, words, n_top)

    def _completion(
        self, request: dict[str, Any], prompt: str, words: list[tuple[str, float]], n_top: int
    ) -> dict[str, Any]:
        entries = [
            # Rounded, so that the text of the answer does not hang on the last bit of a float.
            {"token": word, "logprob": round(math.log(max(p, 1e-30)), 6), "bytes": list(word.encode())}
            for word, p in words
        ]
        logprobs = {"content": [{**entries[0], "top_logprobs": entries[:n_top]}], "refusal": None}
        n_prompt = len(prompt.split())
        return {
            "id": "standin",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.model,
            "system_fingerprint": f"{self.model}: {self.about}",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": words[0][0], "refusal": None},
                    "logprobs": logprobs if request.get("logprobs") else None,
                    "finish_reason": "stop",
                }
            ],
            # Words, not tokens: there is no tokenizer of a language model here.
            "usage": {"prompt_tokens": n_prompt, "completion_tokens": 1, "total_tokens": n_prompt + 1},
        }


class Exchange(BaseHTTPRequestHandler):
    """One connection. HTTP/1.1, so that clients can keep it open."""

    protocol_version = "HTTP/1.1"
    server_version = "fute-demo"
    # Header and body in one packet, sent at once: else each answer waits 40 ms for an acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        endpoint = self.server.endpoint
        if self.path == "/health":
            self.reply(200, {"status": "ok", "model": endpoint.model, "about": endpoint.about})
        elif self.path == "/v1/models":
            entry = {"id": endpoint.model, "object": "model", "created": 0, "owned_by": "fute"}
            self.reply(200, {"object": "list", "data": [entry]})
        else:
            self.reply(404, _error(f"nothing at {self.path}"))

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_REQUEST_BYTES:
            self.close_connection = True  # its body stays unread
            self.reply(413, _error(f"give a Content-Length of at most {MAX_REQUEST_BYTES}"))
            return
        body = self.rfile.read(int(length))
        handle = self.server.endpoint.handlers.get(self.path)
        if handle is None:
            self.reply(404, _error(f"nothing at {self.path}"))
            return
        try:
            request = json.loads(body)
        except ValueError:
            self.reply(400, _error("the request is not JSON"))
            return
        if not isinstance(request, dict):
            self.reply(400, _error("the request is not a JSON object"))
            return
        handle(self, request)

    def reply(self, status: int, payload: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self.send(status, json.dumps(payload).encode(), "application/json", headers)

    def send(self, status: int, body: bytes, content_type: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # many clients may connect in the same moment

    def __init__(self, endpoint: DemoEndpoint) -> None:
        self.endpoint = endpoint
        super().__init__(("127.0.0.1", endpoint.port), Exchange)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that went away; its traceback on the terminal would only frighten.
        logger.debug("connection from %s ended", client_address, exc_info=True)


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": None}}
