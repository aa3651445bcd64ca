"""Create, change, delete, merge and undo in any order, held against a history without the undone.

The model knows no undo: it goes through everything that happened again, and leaves out what was
undone. So an undo must come to the same as if the merge had never been.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from uuid_utils.compat import uuid7

from engram.errors import ConflictError
from engram.storage import changing, keys, merging, undoing
from engram.storage.connection import Connection, about
from tests.support.merging import Workspace, open_workspace

START = datetime(2026, 1, 1, tzinfo=UTC)
COMPARED = (
    "content", "version", "state", "merged_into", "importance", "access_count", "created_at",
    "reinforced_at", "last_accessed_at", "expires_at", "updated_at",
)  # fmt: skip
OF_TOMBSTONES = ("content", "version", "state", "merged_into", "updated_at")
PLACES = st.integers(0, 30)

Row = dict[str, Any]
Member = tuple[UUID, UUID]


@dataclass
class Model:
    """Everything that happened, as functions over rows; those of merges ask what was undone."""

    happened: list[Callable[[dict[UUID, Row]], None]] = field(default_factory=list)
    merges: dict[UUID, tuple[UUID, tuple[UUID, ...]]] = field(default_factory=dict)
    undone: set[Member] = field(default_factory=set)

    def rows(self) -> dict[UUID, Row]:
        rows: dict[UUID, Row] = {}
        for step in self.happened:
            step(rows)
        return rows

    def create(self, memory: UUID, row: Row) -> None:
        self.happened.append(lambda rows: rows.update({memory: dict(row)}))

    def change(self, memory: UUID, at: datetime, **values: Any) -> None:
        def step(rows: dict[UUID, Row]) -> None:
            rows[memory].update(values, updated_at=at)
            if "content" in values:
                rows[memory]["version"] += 1
                rows[memory]["reinforced_at"] = at

        self.happened.append(step)

    def access(self, memory: UUID, at: datetime, times: int) -> None:
        def step(rows: dict[UUID, Row]) -> None:
            rows[memory]["access_count"] += times
            rows[memory].update(last_accessed_at=at, reinforced_at=at)

        self.happened.append(step)

    def erase(self, memories: set[UUID], at: datetime) -> None:
        def step(rows: dict[UUID, Row]) -> None:
            for memory in memories:
                version = rows[memory]["version"] + 1
                rows[memory].update(
                    state="deleted", content="", merged_into=None, version=version, updated_at=at
                )

        self.happened.append(step)

    def merge(self, merge: UUID, survivor: UUID, members: tuple[UUID, ...], at: datetime) -> None:
        def step(rows: dict[UUID, Row]) -> None:
            absorbed = [one for one in members if (merge, one) not in self.undone]
            if not absorbed:
                return
            everyone = [rows[one] for one in (survivor, *absorbed)]
            accessed = [one["last_accessed_at"] for one in everyone if one["last_accessed_at"]]
            ends = [one["expires_at"] for one in everyone]
            rows[survivor].update(
                importance=max(one["importance"] for one in everyone),
                access_count=sum(one["access_count"] for one in everyone),
                created_at=min(one["created_at"] for one in everyone),
                reinforced_at=max(one["reinforced_at"] for one in everyone),
                last_accessed_at=max(accessed, default=None),
                expires_at=None if None in ends else max(ends),
                updated_at=at,
            )
            for one in absorbed:
                rows[one].update(state="merged", merged_into=survivor, updated_at=at)

        self.merges[merge] = survivor, members
        self.happened.append(step)

    def family(self, memory: UUID) -> set[UUID]:
        found = {memory}
        for merge, (survivor, members) in self.merges.items():
            if survivor == memory:
                for member in members:
                    if (merge, member) not in self.undone:
                        found |= self.family(member)
        return found


class Machine(RuleBasedStateMachine):
    """Does the same to the store and to the model; both must look the same after every step."""

    runner: asyncio.Runner
    store: Workspace

    @initialize()
    def begin(self) -> None:
        self.model = Model()
        self.clock = START
        self.made = 0
        workspace = self.runner.run(self._workspace())
        self.store = Workspace(self.store.pool, workspace, self.store.sql)

    async def _workspace(self) -> UUID:
        await self.store.sql.execute("SET ROLE engram_worker")
        try:
            return await keys.ensure_workspace(self.store.sql, uuid7().hex, 1)
        finally:
            await self.store.sql.execute("RESET ROLE")

    def _now(self) -> datetime:
        self.clock += timedelta(seconds=1)
        return self.clock

    def _new(self) -> float:
        # No value comes twice: setting a field to what it is already cannot be told from nothing.
        self.made += 1
        return ((self.made * 7919) % 10007 + 1) / 10008

    def _in(self, *states: str) -> list[UUID]:
        return [one for one, row in self.model.rows().items() if row["state"] in states]

    def _do(self, work: Callable[[Connection, datetime], Any]) -> tuple[Any, datetime]:
        now = self._now()

        async def run() -> Any:
            async with about(self.store.pool, [self.store.id]) as connection:
                return await work(connection, now)

        return self.runner.run(run()), now

    @rule(ends=st.booleans(), accesses=st.integers(0, 3))
    def create(self, ends: bool, accesses: int) -> None:
        value = self._new()
        fields: dict[str, Any] = {"importance": value}
        if ends:
            fields["expires_at"] = f"20{60 + self.made % 30}-01-01T00:00:00Z"
        memory = self.runner.run(self.store.add(f"text {value}", **fields))
        self.runner.run(
            self.store.sql.execute(
                "UPDATE engram.memory SET access_count = $2 WHERE id = $1", memory, accesses
            )
        )
        row = self.runner.run(self.store.one(memory))
        self.model.create(memory, {name: row[name] for name in COMPARED})

    @precondition(lambda self: self._in("active", "merged"))
    @rule(place=PLACES, what=st.sampled_from(["content", "importance", "expires_at"]))
    def change(self, place: int, what: str) -> None:
        alive = self._in("active", "merged")
        memory, value = alive[place % len(alive)], self._new()
        changes = {
            "content": {"content": f"text {value}"},
            "importance": {"importance": value},
            "expires_at": {"expires_at": START + timedelta(days=9000 + self.made)},
        }[what]

        async def work(connection: Connection, now: datetime) -> None:
            await changing.change_memory(
                connection, self.store.id, memory, changes, if_version=None, actor="m", now=now
            )

        if what == "content" and self.model.rows()[memory]["state"] == "merged":
            with pytest.raises(ConflictError):
                self._do(work)
            return
        _, now = self._do(work)
        self.model.change(memory, now, **changes)

    @precondition(lambda self: self._in("active"))
    @rule(place=PLACES, times=st.integers(1, 3))
    def access(self, place: int, times: int) -> None:
        alive = self._in("active")
        memory = alive[place % len(alive)]

        async def work(connection: Connection, now: datetime) -> None:
            await connection.execute(
                "UPDATE engram.memory SET access_count = access_count + $2, last_accessed_at = $3, "
                "reinforced_at = $3 WHERE id = $1", *(memory, times, now)
            )  # fmt: skip

        _, now = self._do(work)
        self.model.access(memory, now, times)

    @precondition(lambda self: len(self._in("active")) > 1)
    @rule(place=PLACES, size=st.integers(1, 3))
    def merge(self, place: int, size: int) -> None:
        alive = self._in("active")
        turned = alive[place % len(alive) :] + alive[: place % len(alive)]
        survivor, *members = turned[: size + 1]

        async def work(connection: Connection, now: datetime) -> merging.Applied:
            group = await self.store.group(survivor, *members)
            cause = merging.Cause(self.store.id, "m")
            return await merging.apply_group(connection, cause, group, now)

        done, now = self._do(work)
        assert done.merge_id is not None
        self.model.merge(done.merge_id, survivor, tuple(members), now)

    @precondition(lambda self: self._in("active", "merged"))
    @rule(place=PLACES)
    def delete(self, place: int) -> None:
        alive = self._in("active", "merged")
        memory = alive[place % len(alive)]
        family = self.model.family(memory) & set(alive)

        async def work(connection: Connection, now: datetime) -> int:
            return await changing.delete_memory(
                connection, self.store.id, memory, if_version=None, actor="m", now=now
            )

        gone, now = self._do(work)
        assert gone == len(family)
        self.model.erase(family, now)

    @precondition(lambda self: self.model.merges)
    @rule(place=PLACES, how=st.sampled_from(["merge", "member", "two merges"]))
    def undo(self, place: int, how: str) -> None:
        merges = list(self.model.merges)
        chosen = [merges[place % len(merges)]]
        if how == "two merges":
            chosen = list({*chosen, merges[(place + 1) % len(merges)]})
        members = [(merge, one) for merge in chosen for one in self.model.merges[merge][1]]
        member = members[place % len(members)][1] if how == "member" else None

        async def work(connection: Connection, now: datetime) -> undoing.Undone:
            return await undoing.undo_merges(
                connection, self.store.id, chosen, actor="m", now=now, member=member
            )

        live = self.model.rows()
        wanted = {one for one in members if member in (None, one[1])} - self.model.undone
        done, _ = self._do(work)
        assert {memory for memory, _ in done.restored} == {
            memory for _, memory in wanted if live[memory]["state"] == "merged"
        }
        self.model.undone |= wanted

    @invariant()
    def looks_the_same(self) -> None:
        if not hasattr(self, "model"):
            return
        real, rows = self.runner.run(self.store.dump()), self.model.rows()
        assert real.keys() == rows.keys()
        for memory, row in rows.items():
            names = OF_TOMBSTONES if row["state"] == "deleted" else COMPARED
            assert {name: real[memory][name] for name in names} == {
                name: row[name] for name in names
            }
        assert self.runner.run(self.store.embedded()) <= set(self._in("active"))


def test_an_undo_is_as_if_the_merge_had_never_been(database_url: str, superuser_url: str) -> None:
    with asyncio.Runner() as runner:
        context = open_workspace(database_url, superuser_url)
        store = runner.run(context.__aenter__())

        class Bound(Machine):
            pass

        Bound.runner, Bound.store = runner, store
        try:
            run_state_machine_as_test(
                Bound,
                settings=settings(
                    max_examples=40,
                    stateful_step_count=16,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    database=None,
                ),
            )
        finally:
            runner.run(context.__aexit__(None, None, None))
