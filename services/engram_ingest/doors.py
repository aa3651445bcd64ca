"""What every door of ingest shares: pools, the committer, spaces, and how a request is written."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from engram.domain.arrival import Arriving, Strategy, arriving
from engram.domain.memory import NewMemory
from engram.errors import ConflictError, EngramError
from engram.serving.process import Service
from engram.storage import records
from engram.storage.changing import change_memory, delete_memory, taken_external_id, unknown_memory
from engram.storage.connection import Connection, Pool, about
from engram.storage.contention import until_won
from engram.storage.idempotency import Answer
from engram.storage.ids import new_id
from engram.storage.spaces import read_space
from engram.storage.writing import Outcome
from engram_ingest.authentication import Authenticator
from engram_ingest.committer import Committer
from engram_ingest.import_embedding import Embedding
from engram_ingest.import_runner import ImportRunner

_WAIT_S = 30.0
_FIRST_LOOK_S = 0.005
_LOOK_S = 0.1


@dataclass(slots=True)
class Doors:
    """Everything a route or a command needs.

    Attributes:
        service: the process; its pool is the worker's.
        pool: of the API role, under row-level security.
        runner: works on import jobs.
        embedding: counts how far their memories are embedded.
    """

    service: Service
    pool: Pool
    committer: Committer
    authenticator: Authenticator
    runner: ImportRunner
    embedding: Embedding = field(default_factory=Embedding)

    def arriving(
        self, workspace: UUID, memories: Sequence[NewMemory], strategy: Strategy
    ) -> tuple[Arriving, ...]:
        """Give new memories their ids, hashes and times."""
        now = datetime.now(UTC)
        return tuple(arriving(workspace, new_id(), m, strategy, now) for m in memories)

    async def change(
        self,
        workspace: UUID,
        memory_id: UUID,
        changes: dict[str, Any],
        if_version: int | None,
        actor: str,
    ) -> records.Record:
        """Apply a checked patch and return the record.

        Raises:
            EngramError: as `change_memory`.
        """

        async def attempt() -> records.Record:
            async with about(self.pool, [workspace]) as connection:
                await change_memory(
                    connection,
                    workspace,
                    memory_id,
                    changes,
                    if_version=if_version,
                    actor=actor,
                    now=datetime.now(UTC),
                )
                return await self.record(connection, workspace, memory_id)

        record = await until_won(attempt)
        self.service.relay.wake()
        return record

    async def erase(
        self, workspace: UUID, memory_id: UUID, if_version: int | None, actor: str
    ) -> None:
        """Delete a memory everywhere.

        Raises:
            EngramError: as `delete_memory`.
        """

        async def attempt() -> None:
            async with about(self.pool, [workspace]) as connection:
                await delete_memory(
                    connection,
                    workspace,
                    memory_id,
                    if_version=if_version,
                    actor=actor,
                    now=datetime.now(UTC),
                )

        await until_won(attempt)
        self.service.relay.wake()

    async def shown(self, workspace: UUID, memory_id: UUID) -> records.Record:
        """Return one record, read again when its space was released meanwhile.

        Raises:
            NotFoundError: unknown, deleted, or of another workspace.
        """

        async def attempt() -> records.Record:
            async with about(self.pool, [workspace]) as connection:
                return await self.record(connection, workspace, memory_id)

        return await until_won(attempt)

    async def record(
        self, connection: Connection, workspace: UUID, memory_id: UUID
    ) -> records.Record:
        """Return one record.

        Raises:
            NotFoundError: unknown, deleted, or of another workspace.
        """
        # The pointer may differ by namespace, which only the record tells: asked for the default
        # first, and again in the rare case that its namespace reads elsewhere.
        space = await read_space(connection, workspace, None)
        found = await records.by_ids(connection, workspace, [memory_id], space)
        if memory_id not in found:
            raise unknown_memory()
        record = found[memory_id]
        own = await read_space(connection, workspace, record["namespace"])
        if own != space:
            record = (await records.by_ids(connection, workspace, [memory_id], own))[memory_id]
        return record

    async def answer_created(
        self, connection: Connection, outcomes: Sequence[Outcome]
    ) -> Answer | EngramError:
        """Render the answer of a request that creates one memory."""
        outcome = outcomes[0]
        decision = outcome.decision
        if decision is None:
            return refused(outcome)
        if decision.kind == "insert":
            record = records.new_record(outcome.item, None)
            return Answer(201, orjson.dumps(record), memory_id=outcome.item.id)
        if decision.kind == "clash":
            return taken_external_id()
        if decision.kind == "deleted":
            return deleted_external_id()
        record = await self.record(connection, outcome.item.workspace, outcome.answered_by)
        body = orjson.dumps({**record, "folded": True})
        return Answer(200, body, memory_id=outcome.answered_by)

    async def wait_embedded(self, workspace: UUID, ids: Sequence[UUID]) -> bool:
        """Wait until these memories have vectors, at most 30 s; whether they have."""
        deadline = asyncio.get_running_loop().time() + _WAIT_S
        pause = _FIRST_LOOK_S

        async def left() -> int:
            async with about(self.pool, [workspace]) as connection:
                return await records.not_embedded(connection, workspace, ids)

        while True:
            if not await until_won(left):
                return True
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(pause)
            pause = min(_LOOK_S, pause * 1.5)


def refused(outcome: Outcome) -> ConflictError:
    """Return the error for an item that Postgres refused although it passed the decoder."""
    detail = outcome.refusal.detail if outcome.refusal else "the store refused it"
    return ConflictError(
        "refused_by_store",
        f"The memory was not stored: {detail}.",
        cure="Report this with the request id; the decoder should have said why.",
    )


def deleted_external_id() -> ConflictError:
    """Return the error for an external id whose memory was deleted."""
    return ConflictError(
        "external_id_deleted",
        "The memory with this source and external_id was deleted.",
        cure="Use another external_id; what was deleted does not come back by itself.",
    )
