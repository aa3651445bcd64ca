"""Whatever the bytes: a clear 4xx, never a 5xx, and what was accepted before stays."""

import asyncio
import gzip
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.store import Store, open_store

ROUTES = ("/v1/memories", "/v1/memories/search", "/v1/memories/context", "/v1/keys")
DEEP = 100_000


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        await opened.post("accepted before")
        yield opened
        assert (await opened.client.get("/v1/memories")).json()["items"][0][
            "content"
        ] == "accepted before"


def text(inside: bytes) -> bytes:
    return b'{"content":' + inside + b',"query":"x","name":"x"}'


BAD_JSON = [
    *(b"", b" ", b"{", b"nonsense", b"{'content':'x'}", b'{"content":"x",}', b"\xff", b"\0"),
    *(text(b'"\xff"'), text(b'"\xc3\x28"'), text(b'"\xed\xa0\x80"')),
    *(text(b'"a\\u0000b"'), text(b'"a\0b"'), text(b'"\\ud800"'), text(b'"\\udc00\\ud800"')),
    *(text(b"NaN"), text(b"Infinity"), text(b"-Infinity"), text(b"1e400"), text(b"1e130000")),
    *(text(b"9" * 30), text(b"-9223372036854775809"), text(b"18446744073709551616")),
    *(b"[" * DEEP, b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    text(b'"x","metadata":' + b'{"a":' * 1000 + b"12345678901234567890" + b"}" * 1000),
    text(b'"x","metadata":' + b"[" * 1500 + b"]" * 1500),
    b'{"content":"x"} {"content":"y"}',
]
INVALID = [
    *(b"null", b"7", b'"x"', b"[]", b"{}", b"true", b"1e308", b'[{"content":"x"}]'),
    *(text(b"null"), text(b"7"), text(b"[]"), text(b"{}"), text(b"true")),
    *(text(b'""'), text(b'" \\n\\t "'), text(b'"' + b"x" * 32_769 + b'"')),
    text(b'"' + b" " * 70_000 + b'x"'),
    text(b'"x","metadata":{"a":"' + b"x" * 17_000 + b'"}'),
    text(b'"x","metadata":' + b'{"a":' * 17 + b"1" + b"}" * 17),
    text(b'"x","metadata":[]'),
    text(b'"x","categories":["' + b'a","' * 51 + b'a"]'),
    text(b'"x","user_id":"a\\nb"'),
    text(b'"x","user_id":"' + b"x" * 249 + b'"'),
    text(b'"x","namespace":"' + b"x" * 257 + b'"'),
    text(b'"x","importance":1.0000001'),
    text(b'"x","importance":-0.0'),
    text(b'"x","importance":true'),
    text(b'"x","expires_at":"0001-01-01T00:00:00+23:59"'),
    text(b'"x","created_at":"2026-01-01"'),
    text(b'"x","nonsense":1'),
]


async def test_json_that_cannot_be_read_is_400_on_every_route(store: Store) -> None:
    made = (await store.client.get("/v1/memories")).json()["items"][0]["id"]
    for body in BAD_JSON:
        for route in ROUTES:
            answer = await store.client.post(route, content=body)
            assert answer.status_code == 400, (route, body[:80], answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["cure"]
        answer = await store.client.patch(f"/v1/memories/{made}", content=body)
        assert answer.status_code == 400, (body[:80], answer.text)
    assert await store.count() == 1


async def test_json_that_breaks_a_rule_is_422(store: Store) -> None:
    made = (await store.client.get("/v1/memories")).json()["items"][0]["id"]
    for body in INVALID:
        for answer in (
            await store.client.post("/v1/memories", content=body),
            await store.client.patch(f"/v1/memories/{made}", content=body),
        ):
            assert answer.status_code == 422, (body[:80], answer.text)
            assert answer.json()["errors"]
            assert "pointer" in answer.json()["errors"][0]
    assert await store.count() == 1


async def test_the_largest_memory_that_fits_is_stored_byte_for_byte(store: Store) -> None:
    for content in ("x" * 32_768, "😀" * 32_768, " " * 30_000 + "e\u0301\u200b\ufeff" + "\n"):
        record = await store.post(
            content,
            namespace="é" * 256,
            user_id="😀" * 248,
            external_id=f"{ord(content[0]):x}" + "😀" * 500,
            source="😀" * 64,
            metadata={"n": [18446744073709551615, -9223372036854775808, 1e308, 5e-324]},
            categories=["😀" * 128] * 50,
        )
        shown = await store.client.get(f"/v1/memories/{record['id']}")
        assert shown.json()["content"] == content
        assert shown.json()["metadata"] == record["metadata"]


async def test_compressed_bodies_are_415(store: Store) -> None:
    body = gzip.compress(b'{"content":"x"}')
    for encoding in ("gzip", "br", "GZIP", "gzip, identity"):
        for route in (*ROUTES, "/v1/memories/import"):
            answer = await store.client.post(
                route, content=body, headers={"Content-Encoding": encoding}
            )
            assert (answer.status_code, answer.json()["code"]) == (415, "compressed_body")
    plain = await store.client.post(
        "/v1/memories", content=b'{"content":"x"}', headers={"Content-Encoding": "Identity"}
    )
    assert plain.status_code == 201


async def test_a_body_over_a_megabyte_is_413_however_it_is_sent(store: Store) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100_000

    for content in (b" " * 1_100_000, chunks()):
        answer = await store.client.post("/v1/memories", content=content)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def raw(address: tuple[str, int], data: bytes) -> bytes:
    """Send bytes as they are and return all that comes back."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(data)
    writer.write_eof()
    async with asyncio.timeout(10):
        got = await reader.read()
    writer.close()
    return got


async def test_a_content_length_that_lies_is_never_a_5xx(store: Store) -> None:
    body = b'{"content":"x"}'
    head = b"POST /v1/memories HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "
    head += store.key.encode()
    async with store.listening() as address:
        for length in (b"5", b"999", b"-1", b"x", b"1e9", b"9" * 30, b"\xb2", b"15, 16", b""):
            answer = await raw(
                address, head + b"\r\nContent-Length: " + length + b"\r\n\r\n" + body
            )
            assert not answer or answer.split(b" ")[1].startswith(b"4"), (length, answer)
        both = head + b"\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        answer = await raw(address, both)
        assert not answer or answer.split(b" ")[1].startswith(b"4")
    assert await store.count() == 1


async def test_a_client_that_sends_too_slowly_is_408_and_cut_off(store: Store) -> None:
    store.app.state.body_patience_s = 0.2
    head = f"POST /v1/memories HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {store.key}\r\n"
    async with store.listening() as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(head.encode() + b'Content-Length: 100\r\n\r\n{"content":')
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"slow_client"' in answer
    assert await store.count() == 1


async def test_an_import_that_trickles_in_is_408(store: Store) -> None:
    store.app.state.body_patience_s = 0.1

    async def trickle() -> AsyncIterator[bytes]:
        yield b"["
        await asyncio.Event().wait()

    answer = await store.client.post("/v1/memories/import", content=trickle())
    assert (answer.status_code, answer.json()["code"]) == (408, "slow_client")


def rss_bytes(pid: int, field: str = "VmHWM") -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise AssertionError(field)


_SERVER = """
import asyncio, json, sys
from tests.support.store import open_store

async def main():
    async with open_store(*sys.argv[1:]) as store, store.listening() as address:
        warm = await store.post("warm")
        print(json.dumps([*address, store.key]), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


async def test_a_hundred_megabyte_body_is_refused_without_taking_memory(
    database_url: str, nats_url: str
) -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _SERVER, database_url, nats_url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout
    line = b""
    while not line.startswith(b"["):
        line = await child.stdout.readline()
    host, port, key = json.loads(line)
    before = rss_bytes(child.pid)
    head = f"POST /v1/memories HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    chunk = b" " * 1_000_000
    for announced in (True, False):
        reader, writer = await asyncio.open_connection(host, port)
        if announced:
            writer.write(head.encode() + b"Content-Length: 100000000\r\n\r\n")
        else:
            writer.write(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(100):
            writer.write(chunk if announced else b"f4240\r\n" + chunk + b"\r\n")
            await writer.drain()
        async with asyncio.timeout(20):
            status = await reader.readline()
        assert status.startswith(b"HTTP/1.1 413")
        writer.close()
    grown = rss_bytes(child.pid) - before
    assert child.stdin
    child.stdin.close()
    assert await child.wait() == 0
    assert grown <= 64 * 1024**2


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["2026-01-01T00:00:00Z", "user:a", "email", "\0", "a" * 300]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["content", "query", "namespace", "filters", "AND", "OR", "NOT", "metadata", "limit",
             "user_id", "eq", "in", "gt", "contains", "categories", "memories", "results", "id",
             "created_at", "importance", "rank", "min_score", "max_tokens", "format"]
        ) | st.text(max_size=4),
        inner,
        max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip
shaped = st.fixed_dictionaries(
    {"content": st.just("x") | anything, "query": st.just("x")},
    optional=dict.fromkeys(("filters", "metadata", "namespace", "limit", "user_id"), anything),
)


async def test_no_json_whatever_makes_any_route_fail(store: Store) -> None:
    made = (await store.client.get("/v1/memories")).json()["items"][0]["id"]
    bodies: list[Any] = []

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(anything | shaped | st.lists(shaped, max_size=3))
    def collect(body: Any) -> None:
        bodies.append(body)

    collect()
    for body in bodies:
        sent = json.dumps(body).encode()
        for route in (*ROUTES, "/v1/memories/import"):
            answer = await store.client.post(route, content=sent)
            assert answer.status_code < 500, (route, sent, answer.text)
        if not isinstance(body, dict) or "content" not in body:
            answer = await store.client.patch(f"/v1/memories/{made}", content=sent)
            assert answer.status_code < 500, (sent, answer.text)
