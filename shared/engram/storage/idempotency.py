"""Claims idempotency keys inside the transaction that does the work, and saves its answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from engram.errors import EngramError, InvalidError, NotFoundError
from engram.storage.connection import Connection
from engram.storage.queries import statement

# The status that the statement erase_answers leaves: the answer held what was deleted.
_ERASED = 410


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """A publisher's promise that requests with this key are one request."""

    workspace: UUID
    key: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back, and sent again when the same request is repeated.

    Attributes:
        memory_id: the memory whose record is the body; deleting it erases the saved body too.
    """

    status: int
    body: bytes
    replayed: bool = False
    memory_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """What was answered to the first request that came with a key."""

    request_sha256: bytes
    answer: Answer

    def answer_to(self, request_sha256: bytes) -> Answer | EngramError:
        """Return the answer again to the same request, and a refusal to any other."""
        if request_sha256 != self.request_sha256:
            return reused()
        return _erased() if self.answer.status == _ERASED else self.answer


async def claim(connection: Connection, requests: Mapping[Key, bytes]) -> dict[Key, Saved]:
    """Claim keys; what comes back is already decided and must not be done again.

    A claim waits for a transaction that holds the same key, so a request in flight elsewhere is
    answered like a finished one. Keys are claimed in order: unsorted claims deadlock.

    Args:
        connection: in the transaction that will do the work.
        requests: the SHA-256 of each request by its key.
    """
    keys = sorted(requests)
    won = await connection.fetch(
        statement("write", "claim_keys"),
        [key.workspace for key in keys],
        [key.key for key in keys],
        [requests[key] for key in keys],
    )
    mine = {Key(row["workspace"], row["key"]) for row in won}
    lost = [key for key in keys if key not in mine]
    return await _saved(connection, lost) if lost else {}


async def _saved(connection: Connection, keys: Sequence[Key]) -> dict[Key, Saved]:
    rows = await connection.fetch(
        statement("write", "saved_answers"),
        [key.workspace for key in keys],
        [key.key for key in keys],
    )
    return {
        Key(row["workspace"], row["key"]): Saved(
            row["request_sha256"], Answer(row["status"], row["body"], replayed=True)
        )
        for row in rows
    }


def _erased() -> NotFoundError:
    return NotFoundError(
        "memory_deleted",
        "The memory this request stored was deleted since.",
        cure="Use a new Idempotency-Key to store it again.",
    )


def reused() -> InvalidError:
    """Return the error for a key that was used with another body."""
    return InvalidError(
        "idempotency_key_reused",
        "This Idempotency-Key was used with another request.",
        cure="Use a new key for each new request.",
    )


async def save(connection: Connection, answers: Mapping[Key, Answer]) -> None:
    """Keep the answers of claimed keys, to be committed with the work itself."""
    keys = sorted(answers)
    await connection.execute(
        statement("write", "save_answers"),
        [key.workspace for key in keys],
        [key.key for key in keys],
        [answers[key].status for key in keys],
        [answers[key].body for key in keys],
        [answers[key].memory_id for key in keys],
    )


async def release(connection: Connection, keys: Sequence[Key]) -> None:
    """Give back claims whose request was refused: it may be corrected and sent again."""
    await connection.execute(
        statement("write", "release_keys"),
        [key.workspace for key in keys],
        [key.key for key in keys],
    )
