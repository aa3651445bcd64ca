"""The fake provider's HTTP/1.1: requests read, replies sent whole, cut, dripped or not at all."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from engram_cli.bench.fake_replies import Reply

_MAX_BODY_BYTES: Final = 64 << 20
# Between two pieces of a drip: a byte at a time where the body is short and the time is long.
_DRIP_EVERY_S: Final = 0.01

Request = tuple[str, dict[str, str], bytes]


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Return path, headers (names in lower case) and body; None when the client is done."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        size = int(headers.get("content-length", "0"))
        if size > _MAX_BODY_BYTES:
            return None
        return first.split(" ")[1], headers, await reader.readexactly(size)
    return None


async def send(writer: asyncio.StreamWriter, reply: Reply) -> bool:
    """Send a reply as its ending says; False when the connection is done with."""
    if reply.ending == "hang":
        await asyncio.Event().wait()  # until the server stops and cancels us
    if reply.ending == "reset":
        writer.transport.abort()
        return False
    lines = [f"HTTP/1.1 {reply.status} Fake", *(f"{k}: {v}" for k, v in reply.headers.items())]
    size = len(reply.body) * (2 if reply.ending == "cut" else 1)
    lines.append(f"content-length: {size}")
    writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
    if reply.ending == "drip":
        await _drip(writer, reply.body, reply.over_s)
    else:
        writer.write(reply.body)
    await writer.drain()
    return reply.ending != "cut"


async def _drip(writer: asyncio.StreamWriter, body: bytes, over_s: float) -> None:
    """Send a body in small pieces, evenly over so many seconds."""
    clock = asyncio.get_running_loop().time
    started, sent = clock(), 0
    while sent < len(body):
        elapsed_s = clock() - started
        due = len(body) if elapsed_s >= over_s else int(len(body) * elapsed_s / over_s)
        writer.write(body[sent:due])
        await writer.drain()
        sent = max(sent, due)
        await asyncio.sleep(_DRIP_EVERY_S)
