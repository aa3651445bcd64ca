"""The embedder's side of the store: what wants a vector, the guarded write, the failures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from engram.domain.memory import content_hash, fold_hash
from engram.storage.columns import filled_columns
from engram.storage.connection import Connection
from engram.storage.halves import to_wire
from engram.storage.outbox import Announcement, announce
from engram.storage.queries import over_vectors, statement

MemoryId = tuple[UUID, UUID]
_BEFORE_ALL = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Text:
    """A text to embed, as it was when it was read.

    Attributes:
        first_at: when it failed for the first time; None of one that has not.
        may_repeat: another live memory of the workspace may say the same; False when none does.
    """

    workspace: UUID
    id: UUID
    version: int
    content: str
    attempts: int
    first_at: datetime | None = None
    may_repeat: bool = True


@dataclass(frozen=True, slots=True)
class Failure:
    """What is written down when a text could not be embedded.

    Attributes:
        attempts: attempts consumed so far, this one included if it counts.
        dead: no further attempt is made by itself.
    """

    text: Text
    attempts: int
    error_class: str
    error: str
    next_attempt: datetime
    dead: bool


async def wanting(connection: Connection, ids: Sequence[MemoryId], space: int) -> list[Text]:
    """Return those of these live memories that lack a current vector and are due."""
    if not ids:
        return []
    sql = over_vectors("embed", "wanting", space)
    return [Text(*row) for row in await connection.fetch(sql, *filled_columns(ids), space)]


async def due(
    connection: Connection, space: int, after: UUID, limit: int
) -> tuple[list[Text], UUID, int]:
    """Claim memories whose next attempt is due, for a minute.

    Args:
        connection: in a transaction of the worker role.
        space: id of the space.
        after: the workspace served last; behind the last one it begins again at the first.
        limit: most memories.

    Returns:
        Their texts, the workspace after which the next claim goes on, and how many were claimed:
        some may be gone by now.
    """
    sql = statement("embed", "due")
    claimed = await connection.fetch(sql, space, limit, after)
    if not claimed and after != _BEFORE_ALL:
        claimed = await connection.fetch(sql, space, limit, _BEFORE_ALL)
    if not claimed:
        return [], _BEFORE_ALL, 0
    rows = await connection.fetch(
        over_vectors("embed", "texts", space),
        [row["workspace"] for row in claimed],
        [row["memory_id"] for row in claimed],
        [row["attempts"] for row in claimed],
    )
    first_at = {(row["workspace"], row["memory_id"]): row["first_at"] for row in claimed}
    found = [replace(Text(*row), first_at=first_at[row["workspace"], row["id"]]) for row in rows]
    live = {(text.workspace, text.id) for text in found}
    gone = [key for row in claimed if (key := (row["workspace"], row["memory_id"])) not in live]
    if gone:
        await _clear_failures(connection, gone, space)
    return found, max(row["workspace"] for row in claimed), len(claimed)


async def failed(connection: Connection, ids: Sequence[MemoryId], space: int) -> set[MemoryId]:
    """Return those of these memories that have a failure in this space, waiting or dead."""
    rows = await connection.fetch(
        statement("embed", "failed"), [w for w, _ in ids], [i for _, i in ids], space
    )
    return {(row["workspace"], row["id"]) for row in rows}


async def twins(
    connection: Connection, texts: Sequence[Text], space: int
) -> dict[tuple[UUID, bytes], tuple[NDArray[np.float16], int]]:
    """Return current vectors of equal texts in the same workspace, by (workspace, sha256).

    Beside each vector stands the number of the model that made it.
    """
    hashes = [content_hash(text.content) for text in texts]
    rows = await connection.fetch(
        over_vectors("embed", "twins", space),
        [text.workspace for text in texts],
        [fold_hash(text.content) for text in texts],
        hashes,
    )
    return {
        (row["workspace"], row["content_sha256"]): (row["embedding"].to_numpy(), row["model"])
        for row in rows
    }


async def store_vectors(
    connection: Connection,
    texts: Sequence[Text],
    vectors: NDArray[np.float32] | NDArray[np.float16],
    space: int,
    now: datetime,
    models: Sequence[int] = (),
) -> set[MemoryId]:
    """Write vectors under guard and announce them; return the memories that took theirs.

    A memory missing from the answer changed, was deleted or had a newer vector: nothing is wrong.

    Args:
        connection: in a transaction of the worker role.
        texts: what was embedded, each memory at most once.
        vectors: (n, d), finite, of positive norm, in the order of ``texts``.
        space: id of the space they belong to.
        now: time of the announcement.
        models: number of the model that made each (``domain/spaces``); empty is the space's own.
    """
    made_by = models or [0] * len(texts)
    rows = [(t.workspace, t.id, t.version, n) for t, n in zip(texts, made_by, strict=True)]
    stored = await connection.fetch(
        over_vectors("embed", "store", space), *filled_columns(rows), to_wire(vectors), space
    )
    if not stored:
        return set()
    taken = {(row["workspace"], row["memory_id"]) for row in stored}
    await _clear_failures(connection, sorted(taken), space)
    await announce(connection, (Announcement("embedded", *row) for row in stored), now)
    return taken


async def defer(connection: Connection, texts: Sequence[Text], space: int) -> int:
    """Make due again what did not take its vector because its namespace is being cut over.

    Memories that changed meanwhile, or have their vector, are left as they are.

    Args:
        connection: in a transaction of the worker role.
        texts: what was embedded and not stored.
        space: id of the space.

    Returns:
        How many wait; no attempt is counted for them.
    """
    ordered = sorted(texts, key=lambda text: text.id)
    rows = await connection.fetch(
        over_vectors("embed", "defer", space),
        [text.workspace for text in ordered],
        [text.id for text in ordered],
        [text.version for text in ordered],
        [text.attempts for text in ordered],
        space,
    )
    return len(rows)


async def _clear_failures(connection: Connection, ids: Sequence[MemoryId], space: int) -> None:
    await connection.execute(statement("embed", "clear_failures"), *filled_columns(ids), space)


async def record_failures(connection: Connection, failures: Sequence[Failure], space: int) -> None:
    """Write down what could not be embedded, for the memory's version that was tried."""
    await connection.execute(
        statement("embed", "record_failures"),
        [f.text.workspace for f in failures],
        [f.text.id for f in failures],
        [f.text.version for f in failures],
        [f.attempts for f in failures],
        [f.error_class for f in failures],
        [f.error for f in failures],
        [f.next_attempt for f in failures],
        [f.dead for f in failures],
        space,
    )
