"""The group commit: many requests' memories in one transaction, each answered by itself."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from engram.domain.arrival import Arriving, Decision
from engram.errors import EngramError, Fault
from engram.storage import idempotency
from engram.storage.connection import Connection, Pool, about
from engram.storage.contention import until_won
from engram.storage.idempotency import Answer, Key, Saved
from engram.storage.queries import statement
from engram.storage.storing import store_all

# What Postgres refuses although the decoder let it pass: such an item must fail alone.
_DATA_ERRORS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)


# Not frozen, as Arriving: one is made for each item.
@dataclass(slots=True)
class Outcome:
    """What became of one item.

    Attributes:
        decision: the rule's verdict, None when Postgres refused the item.
        refusal: why it was refused.
    """

    item: Arriving
    decision: Decision | None
    refusal: Fault | None = None

    @property
    def answered_by(self) -> UUID:
        """The memory that answers for the item."""
        if self.decision is None or self.decision.kind in ("insert", "absorb"):
            return self.item.id
        return self.decision.target.id if self.decision.target else self.item.id


Render = Callable[[Connection, Sequence[Outcome]], Awaitable[Answer | EngramError]]


@dataclass(frozen=True, slots=True)
class Write:
    """One request: its items, its key, and how its answer is made.

    Attributes:
        render: makes the answer inside the transaction, so that it can be saved with the work.
        request_sha256: tells a repeated request from a reused key.
    """

    workspace: UUID
    items: tuple[Arriving, ...]
    actor: str
    render: Render
    key: str | None = None
    request_sha256: bytes = b""


async def write_batch(
    pool: Pool, writes: Sequence[Write], now: datetime
) -> list[Answer | EngramError]:
    """Store requests together and return the answer of each, in order.

    When the data of one is refused by Postgres, the batch is halved until that one stands alone;
    a request of many items then loses only the item.

    Raises:
        UnavailableError: Postgres cannot be reached; nothing was stored, or (connection lost at
            the commit itself) it is unknown: an idempotency key makes trying again safe.
    """
    try:
        return await until_won(lambda: _transact(pool, writes, now, careful=False))
    except _DATA_ERRORS:
        if len(writes) == 1:
            return await until_won(lambda: _transact(pool, writes, now, careful=True))
    middle = len(writes) // 2
    left = await write_batch(pool, writes[:middle], now)
    return left + await write_batch(pool, writes[middle:], now)


async def rehearse(pool: Pool, write: Write) -> Answer:
    """Return the answer a request would get, and change nothing.

    Raises:
        EngramError: what it would be refused with.
    """
    answer = await until_won(lambda: _rehearse_once(pool, replace(write, key=None)))
    if isinstance(answer, EngramError):
        raise answer
    return answer


async def _rehearse_once(pool: Pool, write: Write) -> Answer | EngramError:
    try:
        async with about(pool, [write.workspace]) as connection:
            outcomes = await _store(connection, [write], datetime.now(UTC), careful=True)
            # Raised here, inside: that is what rolls the transaction back.
            raise _RehearsedError(  # noqa: TRY301 - see above
                await write.render(connection, outcomes)
            )
    except _RehearsedError as rehearsed:
        return rehearsed.answer


class _RehearsedError(Exception):
    """Rolls a rehearsal back and carries its answer out."""

    def __init__(self, answer: Answer | EngramError) -> None:
        super().__init__()
        self.answer = answer


async def _transact(
    pool: Pool, writes: Sequence[Write], now: datetime, *, careful: bool
) -> list[Answer | EngramError]:
    async with about(pool, {write.workspace for write in writes}) as connection:
        settled = await _settled(connection, writes)
        live = [write for write in writes if _leads(write, writes) and _key(write) not in settled]
        outcomes = iter(await _store(connection, live, now, careful=careful))
        fresh: dict[int, Answer | EngramError] = {}
        for write in live:
            own = [next(outcomes) for _ in write.items]
            fresh[id(write)] = await write.render(connection, own)
        await _keep(connection, live, fresh)
    by_key: dict[Key | None, Answer | EngramError] = {_key(w): fresh[id(w)] for w in live}
    return [
        fresh[id(write)] if id(write) in fresh else _repeated(write, writes, settled, by_key)
        for write in writes
    ]


def _key(write: Write) -> Key | None:
    return Key(write.workspace, write.key) if write.key is not None else None


def _leads(write: Write, writes: Sequence[Write]) -> bool:
    # Two requests of one batch may share a key: the first does the work.
    if write.key is None:
        return True
    return next(other for other in writes if _key(other) == _key(write)) is write


async def _settled(connection: Connection, writes: Sequence[Write]) -> dict[Key | None, Saved]:
    requests: dict[Key, bytes] = {}
    for write in writes:
        if key := _key(write):
            requests.setdefault(key, write.request_sha256)
    settled: dict[Key | None, Saved] = {}
    if requests:
        settled.update((await idempotency.claim(connection, requests)).items())
    return settled


def _repeated(
    write: Write,
    writes: Sequence[Write],
    settled: dict[Key | None, Saved],
    by_key: dict[Key | None, Answer | EngramError],
) -> Answer | EngramError:
    key = _key(write)
    if key in settled:
        return settled[key].answer_to(write.request_sha256)
    leader = next(other for other in writes if _key(other) == key)
    if leader.request_sha256 != write.request_sha256:
        return idempotency.reused()
    answer = by_key[key]
    if isinstance(answer, Answer):
        return Answer(answer.status, answer.body, replayed=True)
    return answer


async def _keep(
    connection: Connection, live: Sequence[Write], fresh: dict[int, Answer | EngramError]
) -> None:
    keep: dict[Key, Answer] = {}
    refused: list[Key] = []
    for write in live:
        answer, key = fresh[id(write)], _key(write)
        if key and isinstance(answer, Answer):
            keep[key] = answer
        elif key:
            refused.append(key)
    if keep:
        await idempotency.save(connection, keep)
    if refused:
        await idempotency.release(connection, refused)


async def _store(
    connection: Connection, writes: Sequence[Write], now: datetime, *, careful: bool
) -> list[Outcome]:
    pairs = [(item, write.actor) for write in writes for item in write.items]
    if not pairs:
        return []
    await _lock_namespaces(connection, [item for item, _ in pairs])
    if careful:
        return await _store_carefully(connection, pairs, now)
    return await _store_all(connection, pairs, now)


async def _store_carefully(
    connection: Connection, pairs: Sequence[tuple[Arriving, str]], now: datetime
) -> list[Outcome]:
    try:
        async with connection.transaction():
            return await _store_all(connection, pairs, now)
    except _DATA_ERRORS as error:
        if len(pairs) == 1:
            # Postgres's message may quote the row: its name is all that may be told.
            fault = Fault("", "refused_by_store", f"Postgres refused it ({type(error).__name__})")
            return [Outcome(pairs[0][0], None, fault)]
    middle = len(pairs) // 2
    left = await _store_carefully(connection, pairs[:middle], now)
    return left + await _store_carefully(connection, pairs[middle:], now)


async def _lock_namespaces(connection: Connection, items: Sequence[Arriving]) -> None:
    names = sorted({(item.workspace, item.memory.namespace) for item in items})
    columns = [workspace for workspace, _ in names], [name for _, name in names]
    if await connection.fetchval(statement("write", "lock_namespaces"), *columns) < len(names):
        await connection.execute(statement("write", "ensure_namespaces"), *columns)
        await connection.fetchval(statement("write", "lock_namespaces"), *columns)


async def _store_all(
    connection: Connection, pairs: Sequence[tuple[Arriving, str]], now: datetime
) -> list[Outcome]:
    decisions = await store_all(connection, pairs, now)
    return [Outcome(item, decision) for (item, _), decision in zip(pairs, decisions, strict=True)]
