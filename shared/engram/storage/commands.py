"""Updates and deletes of one ingest command in one transaction, once however often it comes."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from engram.errors import EngramError, NotFoundError
from engram.storage import idempotency
from engram.storage.changing import change_memory, delete_memory, unknown_memory
from engram.storage.connection import Connection, Pool, about
from engram.storage.contention import until_won
from engram.storage.idempotency import Answer, Key
from engram.storage.queries import statement

Target = UUID | tuple[str, str]
Changes = Sequence[tuple[Target, Mapping[str, Any] | None]]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An input put aside because it cannot be done.

    Attributes:
        workspace: None when the subject names none.
        payload: the message or the item, for a person to look at and replay.
    """

    kind: str
    workspace: UUID | None
    subject: str
    code: str
    detail: str
    payload: bytes


Refusals = list[EngramError | None]
Settle = Callable[[Connection, Refusals], Awaitable[None]]
Keep = Callable[[Connection, Sequence[DeadLetter]], Awaitable[None]]


class NeverKnownError(NotFoundError):
    """The name a change gives was never that of a memory, so its text may be kept."""


async def apply_changes(
    pool: Pool,
    key: Key,
    sha256: bytes,
    changes: Changes,
    settle: Settle,
    *,
    actor: str,
    now: datetime,
) -> Refusals:
    """Apply changes (None deletes) in ascending id; return what each was refused with.

    A command that was applied before is not applied again: every change is reported as done.

    Args:
        pool: of the API role.
        key: names the command.
        sha256: of the command.
        changes: what to change, or None to delete.
        settle: writes the dead letters of what was refused, in the same transaction.
        actor: who asked for it.
        now: the moment of writing.
    """

    async def attempt() -> Refusals:
        async with about(pool, [key.workspace]) as connection:
            saved = (await idempotency.claim(connection, {key: sha256})).get(key)
            if saved is None:
                refused = await _apply_all(connection, key.workspace, changes, actor=actor, now=now)
                await idempotency.save(connection, {key: Answer(200, b"")})
            elif isinstance(again := saved.answer_to(sha256), EngramError):
                refused = [again] * len(changes)
            else:
                return [None] * len(changes)
            await settle(connection, refused)
        return refused

    return await until_won(attempt)


async def _apply_all(
    connection: Connection,
    workspace: UUID,
    changes: Changes,
    *,
    actor: str,
    now: datetime,
) -> Refusals:
    targets = [await _resolve(connection, workspace, target) for target, _ in changes]
    refused: Refusals = [None] * len(changes)
    for position in sorted(range(len(changes)), key=lambda at: (targets[at] or UUID(int=0), at)):
        refused[position] = await _apply(
            connection,
            workspace,
            targets[position],
            changes[position][1],
            actor=actor,
            now=now,
        )
    return refused


async def _resolve(connection: Connection, workspace: UUID, target: Target) -> UUID | None:
    if isinstance(target, UUID):
        return target
    found: UUID | None = await connection.fetchval(
        statement("write", "memory_of_external_id"), workspace, *target
    )
    return found


async def _apply(
    connection: Connection,
    workspace: UUID,
    memory_id: UUID | None,
    changes: Mapping[str, Any] | None,
    *,
    actor: str,
    now: datetime,
) -> EngramError | None:
    if memory_id is None:
        return _never_known()
    try:
        if changes is None:
            await delete_memory(
                connection,
                workspace,
                memory_id,
                if_version=None,
                actor=actor,
                now=now,
            )
        else:
            await change_memory(
                connection,
                workspace,
                memory_id,
                changes,
                if_version=None,
                actor=actor,
                now=now,
            )
    except EngramError as error:
        # Refused before anything was written; the other changes go on.
        return error
    return None


def _never_known() -> NeverKnownError:
    # From outside the same answer as for every id that is unknown.
    known = unknown_memory()
    return NeverKnownError(known.code, known.detail, cure=known.cure)


async def bury(pool: Pool, letters: Sequence[DeadLetter]) -> None:
    """Write dead letters; the pool is the worker's, since a workspace may be unknown."""
    async with pool.acquire() as connection:
        await bury_with(connection, letters)


async def bury_with(connection: Connection, letters: Sequence[DeadLetter]) -> None:
    """Write dead letters in the transaction of what was done beside them."""
    if not letters:
        return
    await connection.executemany(
        statement("write", "insert_dead_letter"),
        [
            (uuid7(), one.kind, one.workspace, one.subject, one.code, one.detail, one.payload)
            for one in letters
        ],
    )


async def workspace_exists(pool: Pool, workspace: UUID) -> bool:
    """Say whether there is such a workspace; the pool is the worker's."""
    async with pool.acquire() as connection:
        return bool(await connection.fetchval(statement("write", "workspace_exists"), workspace))
