"""Compression bombs are refused by the processes of a real ingest, whose memory stays flat."""

import contextlib
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from engram_cli.bench.rss_child import peak_bytes
from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from tests.support.cluster import Cluster, cluster
from tests.support.wait import eventually

# Bytes that a bomb holds: the short form runs in `make test`, the full in `make test-chaos`.
SHORT, FULL = 200_000_000, 20_000_000_000
GROWTH_BYTES = 64_000_000
PARSING_BYTES = 160_000_000
_PIECE = 10_000_000
_COUNT = "SELECT count(*) FROM engram.memory"


@pytest.fixture
async def running(
    postgres_server: PostgresServer, nats_server: NatsServer, tmp_path: Path
) -> AsyncIterator[Cluster]:
    """Ingest as a process on servers of this test's own."""
    async with cluster(postgres_server, nats_server, tmp_path, ("ingest",)) as everything:
        yield everything


def members(before: bytes, piece: bytes, times: int) -> bytes:
    """A gzip file of many members: as large as one likes, and quickly made."""
    return gzip.compress(before) + gzip.compress(piece) * times


def bombs(size_bytes: int) -> Iterator[tuple[str, bytes]]:
    times = size_bytes // _PIECE
    yield "one element", members(b'{"content": "', b"x" * _PIECE, times)
    yield "blanks", members(b"", b" " * _PIECE, times)
    yield "brackets", members(b"", b"[" * _PIECE, times)
    yield "equal items", members(b"", b'{"content": "x"}\n' * (_PIECE // 17), times)
    good = b"".join(json.dumps({"content": f"fact {n}"}).encode() + b"\n" for n in range(1_000))
    yield "after good items", members(good, b'{"content": "x"}\n' * (_PIECE // 17), times)
    packed = members(b'{"content": "', b"x" * _PIECE, times)
    for name, archive in (("zip", _zip(packed)), ("tar", _tar(packed))):
        yield f"{name} of gzip", archive
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive_file:
        for number in range(min(times, 500)):
            archive_file.writestr(f"{number}.json", b" " * _PIECE)
    yield "zip", data.getvalue()


def _zip(content: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a.json.gz", content)
    return data.getvalue()


def _tar(content: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        entry = tarfile.TarInfo("a.json.gz")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


async def error_of(running: Cluster, location: str) -> dict[str, Any]:
    """Wait for the end of a job and return why it failed; the process that read it stays small."""
    peaks = [0]

    async def ended() -> dict[str, Any] | None:
        peaks.extend(parsing_peaks(running))
        job: dict[str, Any] = (await running.client.get(location)).json()
        return None if job["state"] in ("queued", "running") else job

    job = await eventually(ended, 600, 0.02)
    assert job["state"] == "failed", job
    assert max(peaks) < PARSING_BYTES, f"parsing took {max(peaks):,} bytes"
    error: dict[str, Any] = job["error"]
    return error


def parsing_peaks(running: Cluster) -> Iterator[int]:
    pid = running.services["ingest"].pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError, ValueError):
            yield peak_bytes(int(child))


async def refused(running: Cluster, size_bytes: int) -> None:
    pid = running.services["ingest"].pid
    assert pid is not None
    await running.client.post("/v1/memories/import", content=b'{"content": "warm"}')
    # A body of this size in plain text: what any import may take.
    plain = b'{"content": "warm", "metadata": {"a": "' + b"y" * 15_000 + b'"}}\n'
    await running.client.post("/v1/memories/import", content=plain * 400, timeout=60)
    before, held = peak_bytes(pid), await running.fetchval(_COUNT)
    for name, bomb in bombs(size_bytes):
        answer = await running.client.post("/v1/memories/import", content=bomb, timeout=300)
        said = answer.json()
        assert answer.status_code in (202, 413), (name, answer.text)
        if answer.status_code == 202:
            said = await error_of(running, answer.headers["location"])
        assert said["code"] == "compression_bomb", (name, said)
        grown = peak_bytes(pid) - before
        assert grown < GROWTH_BYTES, f"{name}: ingest grew by {grown:,} bytes"
    assert await running.fetchval(_COUNT) == held


@pytest.mark.timeout(300)
async def test_bombs_of_200_mb_are_refused_within_flat_memory(running: Cluster) -> None:
    await refused(running, SHORT)


@pytest.mark.chaos
@pytest.mark.timeout(3000)
async def test_bombs_of_20_gb_are_refused_within_flat_memory(running: Cluster) -> None:
    await refused(running, FULL)
