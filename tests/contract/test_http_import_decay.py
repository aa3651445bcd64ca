"""What an export says about reading is stored: decay goes on from there, not from the import."""

import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.store import Store, open_store

EXPORT = Path(__file__).parents[1] / "data/exports/agentmemory-0.9.29-export/input.json.gz"
READ_AT = datetime(2026, 11, 20, 18, 38, 16, 582_000, tzinfo=UTC)


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


def body() -> bytes:
    return gzip.decompress(EXPORT.read_bytes())


async def test_access_logs_of_an_export_become_the_decay_state_of_its_memories(
    store: Store,
) -> None:
    answer = await store.client.post("/v1/memories/import", content=body())
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert (report["format"], report["received"]) == ("agentmemory", 9)
    assert (report["imported"], report["superseded"], report["failed"]) == (8, 1, 0)
    rows = await store.sql.fetch(
        "SELECT external_id, access_count, last_accessed_at, reinforced_at, importance, expires_at"
        " FROM engram.memory WHERE workspace = $1",
        store.workspace,
    )
    read = [row for row in rows if row["access_count"]]
    assert [row["external_id"] for row in read] == ["mem_mwpbo1dp_5c7dce620a7d"]
    assert read[0]["access_count"] == 1
    # Importing reinforces unless the export brought access logs.
    assert read[0]["last_accessed_at"] == read[0]["reinforced_at"] == READ_AT
    assert {round(row["importance"], 3) for row in rows} == {0.7, 0.8}
    assert sum(row["expires_at"] is not None for row in rows) == 1


async def test_importing_it_again_adds_nothing(store: Store) -> None:
    for _ in range(2):
        answer = await store.client.post("/v1/memories/import", content=body())
    assert answer.json()["duplicates"] == 9
    assert await store.count() == 9
