"""A loopback endpoint that costs next to nothing: fixed latency, one fixed answer, an event loop of its own process.

    python benchmarks/llm_endpoint.py 0.05        # prints its port, then serves until its standard input closes

It speaks just enough HTTP/1.1 for a client that keeps its connections open. What it costs would be taken from what is
measured, so it looks at nothing but where a request ends.
"""

from __future__ import annotations

import asyncio
import json
import math
import resource
import sys
import time

WORDS = [("positive", 0.8), *((f"word{i}", 0.2 / 19) for i in range(19))]  # as many as an endpoint gives at most


def answer() -> bytes:
    """A chat completion of one token with 20 log-probabilities, as a whole HTTP response."""
    entries = [{"token": word, "logprob": math.log(p), "bytes": list(word.encode())} for word, p in WORDS]
    body = json.dumps(
        {
            "id": "benchmark",
            "object": "chat.completion",
            "created": 0,
            "model": "benchmark",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "positive", "refusal": None},
                    "logprobs": {"content": [{**entries[0], "top_logprobs": entries}], "refusal": None},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 60, "completion_tokens": 1, "total_tokens": 61},
        }
    ).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Counts:
    """What the server saw: requests, and how many it was holding at once, at most."""

    requests = 0
    in_flight = 0
    most_in_flight = 0

    def report(self) -> bytes:
        used = resource.getrusage(resource.RUSAGE_SELF)
        told = {
            "requests": self.requests,
            "most_in_flight": self.most_in_flight,
            "cpu_s": used.ru_utime + used.ru_stime,
            "clock_s": time.perf_counter(),
        }
        body = json.dumps(told).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class Connection(asyncio.Protocol):
    def __init__(self, latency_s: float, reply: bytes, counts: Counts) -> None:
        self._latency_s, self._reply, self._counts = latency_s, reply, counts
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._received) < end + 4 + length:
                return
            self._received = self._received[end + 4 + length :]
            if head.startswith(b"get"):
                self._transport.write(self._counts.report())  # type: ignore[attr-defined]
                continue
            counts = self._counts
            counts.requests += 1
            counts.in_flight += 1
            counts.most_in_flight = max(counts.most_in_flight, counts.in_flight)
            if self._latency_s:
                self._loop.call_later(self._latency_s, self._send)
            else:
                self._send()

    def _send(self) -> None:
        self._counts.in_flight -= 1
        self._transport.write(self._reply)  # type: ignore[attr-defined]


async def serve(latency_s: float) -> None:
    reply, counts = answer(), Counts()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(latency_s, reply, counts), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await loop.run_in_executor(None, sys.stdin.read)  # until whoever started it goes away


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
