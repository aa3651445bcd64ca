"""Every field of a batch is stored as it was sent, whether its items agree in it or not."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.store import Store, open_store

FULL: dict[str, Any] = {
    "agent_id": "bot", "session_id": "s", "app_id": "app", "metadata": {"a": [1, 1.0, True, "x"]},
    "categories": ["a,b", 'c"d'], "importance": 0.9, "pinned": True, "source": "crm",
    "expires_at": "2999-01-01T00:00:00+00:00", "valid_until": "2998-01-01T00:00:00+00:00",
    "created_at": "2020-01-01T00:00:00+00:00", "updated_at": "2021-01-01T00:00:00+00:00",
    "last_accessed_at": "2022-01-01T00:00:00+00:00", "access_count": 7, "state": "archived",
}  # fmt: skip
OTHER: dict[str, Any] = {
    "metadata": {"a": [1.0, 1, True, "x"]}, "importance": 1, "pinned": False, "source": "x",
    "namespace": "team:b", "access_count": 0,
}  # fmt: skip
BATCHES = {
    "all alike": [FULL] * 3,
    "all bare": [{}] * 3,
    "one differs at the end": [FULL, FULL, OTHER],
    "one differs in the middle": [OTHER, FULL, OTHER],
    "one bare first": [{}, FULL, FULL],
    "one bare last": [FULL, FULL, {}],
    "a single one": [FULL],
}

COMPARED = ("content", "metadata", "categories", "importance", "pinned", "source", "agent_id",
            "access_count", "state")  # fmt: skip


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


async def exported(store: Store) -> dict[str, dict[str, Any]]:
    rows = await store.sql.fetch(
        "SELECT external_id, row_to_json(m)::text AS record FROM engram.memory m"
    )
    return {row["external_id"]: json.loads(row["record"]) for row in rows}


async def test_a_batch_stores_what_each_of_its_items_stores_alone(store: Store) -> None:
    for batch in BATCHES.values():
        items = [
            {"content": f"fact {n}", "external_id": str(n), "user_id": "u", **fields}
            for n, fields in enumerate(batch)
        ]
        await send(store, items)
        together = await taken_out(store)
        for item in items:
            await send(store, [item])
        alone = await taken_out(store)
        assert set(together) == {item["external_id"] for item in items}
        for external_id, record in together.items():
            assert told(record) == told(alone[external_id])
            sent = items[int(external_id)]
            assert {name: record[name] for name in COMPARED if name in sent} == {
                name: sent[name] for name in COMPARED if name in sent
            }


async def taken_out(store: Store) -> dict[str, dict[str, Any]]:
    records = await exported(store)
    for table in ("memory_alias", "memory"):
        await store.sql.execute(f"DELETE FROM engram.{table}")
    return records


def told(record: dict[str, Any]) -> str:
    """Return all but what each writing decides anew; as text, so that 1, 1.0 and true differ."""
    given = FULL.keys() & {"created_at", "updated_at"} if record["agent_id"] else set()
    own = {"id", "created_at", "updated_at", "versioned_at", "versioned_by"} - given
    if record["last_accessed_at"] is None:
        own.add("reinforced_at")
    return json.dumps({key: value for key, value in record.items() if key not in own})


async def send(store: Store, items: list[dict[str, Any]]) -> None:
    answer = await store.client.post("/v1/memories/import", json=items)
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert report["received"] == len(items) == report["imported"] + report["superseded"], report
