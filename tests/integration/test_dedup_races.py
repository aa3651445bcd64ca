"""R15, the merge part: memories are erased and edited at each step of the dedup sweep."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest

from engram.storage import changing, deduplicating, merging
from engram.storage.connection import about
from engram_curator.dedup import work_once
from engram_curator.dedup_batch import Batch
from tests.support.comparers import comparing
from tests.support.store import Store, open_store
from tests.support.sweeping import LEASE, add, embed, finish, like, show, start, sweep
from tests.support.wait import eventually

# Three that say one thing, and two that say another: a survivor and members, in two groups.
TEXTS = ("Bob plays chess.", "bob plays chess", "Bob plays chess!", "Ann sails.", "ann sails")
VECTORS = [like(1), like(1, 0.98, 1), like(1, 0.97, 2), like(9), like(9, 0.98, 1)]
STEPS = ("planned", "read", "compared", "stored", "merged")
EDITED = "Bob gave up chess."
Change = Callable[[], Awaitable[None]]


@pytest.fixture
async def store(database_url: str, nats_url: str, superuser_url: str) -> AsyncIterator[Store]:
    async with open_store(
        database_url, nats_url, "hashing@64", superuser_url=superuser_url
    ) as opened:
        yield opened


@dataclass
class Told:
    """What the client was told: the only thing that the checks go by."""

    store: Store
    texts: dict[UUID, str] = field(default_factory=dict)
    deleted: set[UUID] = field(default_factory=set)

    async def erase(self, memory: UUID) -> None:
        answer = await self.store.client.delete(f"/v1/memories/{memory}")
        assert answer.status_code == 204, answer.text
        self.deleted.add(memory)

    async def edit(self, memory: UUID) -> None:
        """Edit a memory; one that was absorbed meanwhile refuses it."""
        answer = await self.store.client.patch(f"/v1/memories/{memory}", json={"content": EDITED})
        if answer.status_code == 409:
            assert answer.json()["code"] == "merged_memory"
        else:
            assert answer.status_code == 200, answer.text
            self.texts[memory] = EDITED

    async def check(self) -> None:
        """See nothing revived, nothing stale, nothing lost."""
        rows = await self.store.sql.fetch("SELECT id, state, content, version, merged_into "
                                          "FROM engram.memory")  # fmt: skip
        found = {row["id"]: row for row in rows}
        vectors = await self.store.sql.fetch("SELECT memory_id, version FROM engram_vec.space_1")
        for memory in self.deleted:
            assert (found[memory]["state"], found[memory]["content"]) == ("deleted", "")
        for row in vectors:
            memory = found[row["memory_id"]]
            assert memory["state"] == "active"
            # A vector of an older text is there until the next one comes; search passes it over.
            assert row["version"] <= memory["version"]
        for memory, text in self.texts.items():
            row = found[memory]
            if row["state"] != "deleted":
                assert row["content"] == text
            if row["state"] == "merged":
                # Absorbed by what says the same, never for a text that it no longer has.
                assert text != EDITED
                assert found[row["merged_into"]]["state"] == "active"
        await self._absorbed_as_compared()

    async def _absorbed_as_compared(self) -> None:
        stale = await self.store.sql.fetchval(
            "SELECT count(*) FROM engram.merge_member b "
            "JOIN engram.merge g ON g.workspace = b.workspace AND g.id = b.merge_id "
            "JOIN engram.memory m ON m.id = b.memory_id AND m.state = 'merged' "
            "WHERE b.undone_by IS NULL AND b.version <> m.version"
        )
        assert stale == 0
        orphans = await self.store.sql.fetchval(
            "SELECT count(*) FROM engram.memory m JOIN engram.memory s ON s.id = m.merged_into "
            "WHERE m.state = 'merged' AND s.state = 'deleted'"
        )
        assert orphans == 0


@contextlib.contextmanager
def at(step: str, change: Change) -> Iterator[None]:
    """Do something once, in a session of its own, when the sweep has come to a step."""
    done: list[str] = []

    async def once() -> None:
        if not done:
            done.append(step)
            await change()

    texts, record, apply, close = (
        deduplicating.texts, Batch._record, Batch._apply, Batch._close
    )  # fmt: skip

    async def read(*args: Any) -> Any:
        await once()
        async for page in texts(*args):
            yield page

    async def compared(self: Batch, *args: Any) -> Any:
        await once()
        return await record(self, *args)

    async def stored(self: Batch, *args: Any) -> Any:
        await once()
        return await apply(self, *args)

    async def merged(self: Batch, *args: Any) -> Any:
        await once()
        return await close(self, *args)

    patches: dict[str, Any] = {
        "read": patch.object(deduplicating, "texts", read),
        "compared": patch.object(Batch, "_record", compared),
        "stored": patch.object(Batch, "_apply", stored),
        "merged": patch.object(Batch, "_close", merged),
    }
    with patches[step]:
        yield
    assert done == [step]


async def raced(store: Store, step: str, change: Change) -> dict[str, Any]:
    """Run a sweep into which a change comes at a step."""
    run = await start(store, max_share=1)
    if step == "planned":
        async with comparing() as comparer:
            assert await work_once(store.service, comparer, LEASE)
        assert await store.sql.fetchval("SELECT count(*) FROM engram.dedup_task") == 1
        await change()
        return await finish(store, run["id"])
    with at(step, change):
        return await finish(store, run["id"])


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("step", STEPS)
async def test_what_is_erased_at_a_step_of_the_sweep_stays_erased(
    store: Store, step: str, which: int
) -> None:
    ids = await add(store, TEXTS, VECTORS)
    told = Told(store, dict(zip(ids, TEXTS, strict=True)))
    run = await raced(store, step, lambda: told.erase(ids[which]))
    assert run["state"] == "done", run
    await told.check()
    states = dict(await store.sql.fetch("SELECT id, state FROM engram.memory"))
    if step == "merged" and which == 0:
        # The survivor was erased after the merge, so what it had absorbed went with it.
        assert [states[one] for one in ids[:3]] == ["deleted"] * 3
    else:
        assert await _settles(store, told, ids) == {"Bob": 1, "Ann": 1}


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("step", STEPS)
async def test_what_is_edited_at_a_step_of_the_sweep_is_never_merged_by_its_old_text(
    store: Store, step: str, which: int
) -> None:
    ids = await add(store, TEXTS, VECTORS)
    told = Told(store, dict(zip(ids, TEXTS, strict=True)))
    run = await raced(store, step, lambda: told.edit(ids[which]))
    assert run["state"] == "done", run
    await told.check()
    found = await _settles(store, told, ids)
    assert found["Ann"] == 1
    # Edited before it was absorbed, it stands by itself; the others still become one.
    assert found["Bob"] == (1 if step == "merged" else 2)


async def _settles(store: Store, told: Told, ids: list[UUID]) -> dict[str, int]:
    """Sweep once more, after everything has its vector, and count what is active."""
    rows = await store.sql.fetch("SELECT id, content FROM engram.memory WHERE state = 'active'")
    changed = [row["id"] for row in rows if row["content"] == EDITED]
    await embed(store, changed, [like(5)] * len(changed))
    await sweep(store, max_share=1)
    await told.check()
    rows = await store.sql.fetch("SELECT content FROM engram.memory WHERE state = 'active'")
    said = [row["content"][:3].capitalize() for row in rows]
    assert len(ids) >= len(said)
    return {name: said.count(name) for name in ("Bob", "Ann")}


@pytest.mark.parametrize("verb", ["erase", "edit"])
async def test_the_sweep_waits_for_a_change_under_way_and_looks_again(
    store: Store, verb: str
) -> None:
    ids = await add(store, TEXTS, VECTORS)
    run = await start(store, max_share=1)
    waiting: list[asyncio.Task[Any]] = []

    async def held() -> None:
        locked = asyncio.Event()
        waiting.append(asyncio.create_task(_changes(store, verb, ids[1], locked)))
        await asyncio.wait_for(locked.wait(), 10)

    with at("stored", held):
        ended = await finish(store, run["id"])
    await waiting[0]
    assert ended["state"] == "done", ended
    row = await store.sql.fetchrow("SELECT state, content FROM engram.memory WHERE id = $1", ids[1])
    assert tuple(row) == (("deleted", "") if verb == "erase" else ("active", "Bob rows."))
    assert (ended["merged"], sum(ended["counts"].get(f"left_{why}", 0)
                                 for why in ("gone", "changed"))) == (1, 1)  # fmt: skip


async def _changes(store: Store, verb: str, memory: UUID, locked: asyncio.Event) -> None:
    """Hold a change open until somebody waits for it, then commit it."""
    now = datetime.now(UTC)
    async with about(store.service.pool, [store.workspace]) as connection:
        if verb == "erase":
            await changing.delete_memory(
                connection, store.workspace, memory, if_version=None, actor="x", now=now
            )
        else:
            await changing.change_memory(
                connection, store.workspace, memory, {"content": "Bob rows."}, if_version=None,
                actor="x", now=now,
            )  # fmt: skip
        locked.set()
        await eventually(lambda: _somebody_waits(store), 10, 0.01)


async def _somebody_waits(store: Store) -> bool:
    return bool(
        await store.sql.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
            "AND datname = current_database()"
        )
    )


@pytest.mark.parametrize("which", [0, 1])
async def test_an_erasure_that_waits_for_the_sweeps_merge_erases_after_it(
    store: Store, which: int
) -> None:
    ids = await add(store, TEXTS, VECTORS)
    told, apply = Told(store, dict(zip(ids, TEXTS, strict=True))), merging.apply_groups
    erasing: list[asyncio.Task[None]] = []

    async def merged(*args: Any) -> Any:
        outcomes = await apply(*args)
        if not erasing:
            erasing.append(asyncio.create_task(told.erase(ids[which])))
            await eventually(lambda: _somebody_waits(store), 10, 0.01)
        return outcomes

    run = await start(store, max_share=1)
    with patch.object(merging, "apply_groups", merged):
        await finish(store, run["id"])
    await erasing[0]
    assert (await show(store, run["id"]))["merged"] == 3
    await told.check()
    states = dict(await store.sql.fetch("SELECT id, state FROM engram.memory"))
    gone = [states[one] for one in ids[:3]].count("deleted")
    assert gone == (3 if which == 0 else 1)
