"""Migrations in tests: plan, ask, and drive them in this process."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from engram.serving.process import background
from engram_migrator.driver import Driver
from tests.support.store import Store
from tests.support.wait import eventually

Migration = dict[str, Any]


@contextlib.asynccontextmanager
async def driving(store: Store) -> AsyncIterator[Driver]:
    """Run a migrator's driver on a store's service."""
    driver = Driver(store.service)
    async with background(driver.run(), store.service.spaces.run()):
        yield driver


async def planned(store: Store, to: str, **fields: Any) -> Migration:
    """Plan a migration and return it."""
    answer = await store.client.post("/v1/migrations", json={"to": to, **fields})
    assert answer.status_code == 201, answer.text
    found: Migration = answer.json()
    return found


async def asked(store: Store, migration: Migration, verb: str, **choice: Any) -> Migration:
    """Ask for a verb; the answer, which is not yet what comes of it."""
    path = f"/v1/migrations/{migration['id']}/{verb}"
    answer = await store.client.post(path, json=choice)
    assert answer.status_code == 200, answer.text
    found: Migration = answer.json()
    return found


async def shown(store: Store, migration: Migration) -> Migration:
    """Return the migration as it is now."""
    found: Migration = (await store.client.get(f"/v1/migrations/{migration['id']}")).json()
    return found


async def done(store: Store, migration: Migration, verb: str, **choice: Any) -> Migration:
    """Ask for a verb and wait until the migrator has done it; what it refuses fails the test."""
    await asked(store, migration, verb, **choice)

    async def granted() -> Migration | None:
        found = await shown(store, migration)
        assert found["error"] is None, found["error"]
        return found if found["wish"] is None else None

    found: Migration = await eventually(granted, 30, 0.05)
    return found


async def backfilled(store: Store, migration: Migration, timeout_s: float = 60.0) -> Migration:
    """Wait until every namespace is complete."""

    async def complete() -> Migration | None:
        found = await shown(store, migration)
        states = set(found["namespaces"])
        return found if states and not states & {"waiting", "backfilling"} else None

    found: Migration = await eventually(complete, timeout_s, 0.1)
    return found


async def lacking(store: Store, space: int) -> int:
    """Count by plain SQL the active memories without a current vector in a space."""
    return int(
        await store.sql.fetchval(
            f"SELECT count(*) FROM engram.memory m LEFT JOIN engram_vec.space_{space} v "
            "ON v.workspace = m.workspace AND v.memory_id = m.id "
            "WHERE m.state = 'active' AND v.version IS DISTINCT FROM m.version"
        )
    )
