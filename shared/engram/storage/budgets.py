"""What may be spent at a provider, kept in one row for all replicas, by the database's clock."""

from __future__ import annotations

from dataclasses import dataclass

from engram.domain.budget import (
    CUT_EVERY_S,
    DOCUMENT_FLOOR,
    MIN_SHARE,
    OWED_FOR_S,
    RECOVERY_PER_S,
    Quota,
)
from engram.domain.retry import MAX_RETRY_AFTER_S
from engram.storage.connection import Connection
from engram.storage.queries import statement


@dataclass(frozen=True, slots=True)
class Account:
    """Whose quota it is.

    Attributes:
        provider: as in a space.
        model: as in a space.
        key_sha256: the fingerprint of the key, never the key (``engram.domain.budget``).
    """

    provider: str
    model: str
    key_sha256: str

    @property
    def row(self) -> tuple[str, str, str]:
        """The key of its row."""
        return self.provider, self.model, self.key_sha256


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking: ``wait_s`` is 0 when granted; ``share`` of the rate is in use."""

    wait_s: float
    share: float


async def take(
    connection: Connection, account: Account, quota: Quota, tokens: int, *, query: bool
) -> Answer:
    """Take one call of so many tokens (``engram.domain.budget.take``)."""
    arguments = (
        *(quota.tokens_per_s, quota.requests_per_s, quota.burst_tokens, quota.burst_requests),
        quota.cost(tokens, query=query),
        *quota.reserve(query=query),
        RECOVERY_PER_S,
        *(query, DOCUMENT_FLOOR, OWED_FOR_S),
    )
    sql = statement("budget", "take")
    row = await connection.fetchrow(sql, *account.row, *arguments)
    if row is None:
        await connection.execute(statement("budget", "ensure"), *account.row)
        row = await connection.fetchrow(sql, *account.row, *arguments)
    # Gone again within a millisecond: ask again soon.
    return Answer(1.0, 1.0) if row is None else Answer(row["wait_s"], row["share"])


async def correct(connection: Connection, account: Account, quota: Quota, tokens: float) -> None:
    """Settle counted less charged tokens (``engram.domain.budget.correct``)."""
    await connection.execute(
        statement("budget", "correct"), *account.row, tokens, quota.burst_tokens
    )


async def cut(
    connection: Connection, account: Account, quota: Quota, retry_after_s: float | None
) -> float:
    """Halve the rate after a 429 (``engram.domain.budget.cut``); return the share left of it."""
    asked = retry_after_s if retry_after_s is not None and retry_after_s > 0 else 0.0
    share = await connection.fetchval(
        statement("budget", "cut"),
        *account.row,
        *(quota.tokens_per_s, quota.requests_per_s),
        *(CUT_EVERY_S, MIN_SHARE, RECOVERY_PER_S),
        min(asked, MAX_RETRY_AFTER_S),
    )
    return 1.0 if share is None else float(share)
