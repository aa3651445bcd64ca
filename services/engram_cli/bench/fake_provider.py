"""A local embedding server speaking Voyage's and OpenAI's wire formats, with faults on demand.

In a test: ``async with FakeProvider() as fake: fake.script("status", status=503)``. On its own:
``python -m engram_cli.bench.fake_provider --port 8090``, then ``POST /_script`` with a fault as
JSON, ``POST /_clear``, and ``GET /_requests`` for the counters.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import random
import sys
import time
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from engram_cli.bench import fake_replies as replies
from engram_cli.bench.fake_faults import Fault, FaultKind, Script
from engram_cli.bench.fake_http import read_request, send
from engram_cli.bench.fake_latency import Latency
from engram_cli.bench.fake_limits import RateLimit
from engram_cli.bench.fake_replies import Reply

_LATENCY: Final = "seconds over each answer: 0.05, uniform:0.02:0.2 or lognormal:0.05:0.5"


@dataclass(slots=True)
class Requests:
    """What has been asked for so far.

    Attributes:
        calls: requests for embeddings, answered in whatever way.
        texts: texts in them.
        tokens: tokens in those that were answered 200.
        by_status: replies by HTTP status; 0 counts hangs and resets.
        open_now: requests being answered; most_open: the most there were at once.
        connections: TCP connections accepted.
        last: the last request's JSON body; last_headers: its headers, names in lower case.
    """

    calls: int = 0
    texts: int = 0
    tokens: int = 0
    by_status: dict[int, int] = field(default_factory=dict)
    open_now: int = 0
    most_open: int = 0
    connections: int = 0
    last: dict[str, Any] = field(default_factory=dict)
    last_headers: dict[str, str] = field(default_factory=dict)


class FakeProvider:
    """An embedding server on 127.0.0.1; equal texts get equal vectors, in every process.

    Args:
        dimensions: length of the vectors when a request names none.
        poison: any request with a text that contains this is answered 400.
        latency_s: time taken over each answer, in seconds or as a distribution of them.
        api_key: when set, any other key is answered 401.
        limit: what is above it is answered 429.
        port: TCP port, 0 for a free one.
        seed: of the latencies drawn; the same seed draws the same ones.
    """

    def __init__(
        self,
        dimensions: int = 1024,
        *,
        poison: str | None = None,
        latency_s: float | Latency = 0.0,
        api_key: str | None = None,
        limit: RateLimit | None = None,
        port: int = 0,
        seed: int = 0,
    ) -> None:
        self.dimensions = dimensions
        self.poison = poison
        self.latency_s = latency_s
        self.api_key = api_key
        self.limit = limit
        self.requests = Requests()
        self._port = port
        self._script = Script()
        self._chance = random.Random(seed)  # noqa: S311 - latencies, not secrets
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Base URL, ending in ``/v1``."""
        return f"http://127.0.0.1:{self._port}/v1"

    async def start(self) -> None:
        """Listen; afterwards ``url`` is known."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and cut every connection, hanging ones too."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def script(self, kind: FaultKind, **options: Any) -> None:
        """Queue a fault (see ``Fault`` for the options); faults apply in order, one a request."""
        self._script.add(kind, **options)

    def clear(self) -> None:
        """Answer rightly from now on."""
        self._script.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in a task
        self._connections.add(task)
        self.requests.connections += 1
        try:
            while await self._answer_one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass  # the client left or is not speaking HTTP
        except asyncio.CancelledError:
            pass  # stop() ends this task; raising would be logged by the stream server
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection is done with."""
        request = await read_request(reader)
        if request is None:
            return False
        path, headers, body = request
        if path.startswith("/_"):
            reply = self._control(path, body)
        else:
            reply = await self._embeddings(path, headers, json.loads(body))
        return await send(writer, reply)

    def _control(self, path: str, body: bytes) -> Reply:
        if path == "/_script":
            self.script(**json.loads(body))
        elif path == "/_clear":
            self.clear()
        elif path != "/_requests":
            return replies.error(404, "no such control")
        return replies.as_json(200, dataclasses.asdict(self.requests))

    async def _embeddings(
        self, path: str, headers: dict[str, str], request: dict[str, Any]
    ) -> Reply:
        seen = self.requests
        seen.calls += 1
        seen.texts += len(request["input"])
        seen.last, seen.last_headers = request, headers
        seen.open_now += 1
        seen.most_open = max(seen.most_open, seen.open_now)
        fault = self._script.next(request["input"])
        try:
            await asyncio.sleep(self._taken_s() + (fault.after_s if fault else 0.0))
            reply = self._reply(path, headers, request, fault)
        finally:
            seen.open_now -= 1
        seen.by_status[reply.status] = seen.by_status.get(reply.status, 0) + 1
        seen.tokens += replies.tokens_of(request) if reply.status == 200 else 0
        return reply

    def _taken_s(self) -> float:
        latency = self.latency_s
        return latency.draw_s(self._chance) if isinstance(latency, Latency) else latency

    def _reply(
        self, path: str, headers: dict[str, str], request: dict[str, Any], fault: Fault | None
    ) -> Reply:
        refusal = self._refusal(path, headers, request)
        if refusal is not None:
            return refusal
        if fault is None:
            return replies.right(request, self.dimensions)
        return replies.faulty(fault, request, self.dimensions)

    def _refusal(self, path: str, headers: dict[str, str], request: dict[str, Any]) -> Reply | None:
        if path != "/v1/embeddings":
            return replies.error(404, "Not found")
        if self.api_key and headers.get("authorization") != f"Bearer {self.api_key}":
            # As careless as a real server can be: nothing of this may reach a log.
            return replies.error(401, f"Bad key {headers.get('authorization')}")
        tokens = replies.tokens_of(request)
        if self.limit and (wait := self.limit.refuses(tokens, time.monotonic())):
            told = wait if self.limit.announced else None
            return replies.error(429, "Too many requests or tokens", told)
        if self.poison and any(self.poison in text for text in request["input"]):
            return replies.error(400, f"Refused: {request['input']}")
        return None


async def _run(fake: FakeProvider) -> None:
    async with fake:
        print(fake.url, flush=True)
        await asyncio.Event().wait()


def main(arguments: list[str] | None = None) -> None:
    """Run the server until it is interrupted; its URL is the first line of stdout."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dimensions", type=int, default=1024)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=Latency.parse, default=Latency(), help=_LATENCY)
    parser.add_argument("--seed", type=int, default=0, help="of the latencies")
    parser.add_argument("--poison", help="a text with this in it is answered 400")
    parser.add_argument("--requests", type=int, help="answered 429 above so many in a window")
    parser.add_argument("--tokens", type=int, help="answered 429 above so many in a window")
    parser.add_argument("--window", type=float, default=60.0, help="its length in seconds")
    parser.add_argument("--limits-of", metavar="MODEL", help="those Voyage documents, tier 1")
    parser.add_argument("--silent", action="store_true", help="429 without Retry-After")
    given = parser.parse_args(arguments)
    options = {"poison": given.poison, "latency_s": given.latency, "port": given.port}
    fake = FakeProvider(given.dimensions, limit=_limit(given), seed=given.seed, **options)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(fake))


def _limit(given: argparse.Namespace) -> RateLimit | None:
    limit = RateLimit.documented(given.limits_of) if given.limits_of else None
    if given.requests is not None and given.tokens is not None:
        limit = RateLimit(given.requests, given.tokens, given.window)
    return replace(limit, announced=not given.silent) if limit else None


if __name__ == "__main__":
    main(sys.argv[1:])
