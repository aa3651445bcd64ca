"""What a sweep finds of two memories and leaves to a person: proposals to merge, and conflicts."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from engram.errors import ConflictError
from engram.storage.connection import Connection
from engram.storage.merging import Cause
from engram.storage.queries import statement
from engram.storage.records import as_time

Kind = Literal["proposal", "conflict"]
_OTHER: dict[Kind, Kind] = {"proposal": "conflict", "conflict": "proposal"}
_OWN: dict[Kind, str] = {"proposal": "merge_id", "conflict": "before"}
Versioned = tuple[UUID, int]
Pair = tuple[UUID, UUID]


@dataclass(frozen=True, slots=True)
class Finding:
    """Two memories, in the versions that were compared; the order of the two does not matter.

    Attributes:
        cosine: of their vectors.
        reason: a word, such as ``unexplained`` or ``number``.
        evidence: what the guard said of the two, as JSON; it goes when either is deleted.
        survivor: of a proposal, which of the two would answer for both; None leaves it open.
    """

    one: Versioned
    other: Versioned
    cosine: float
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    survivor: UUID | None = None

    @property
    def ordered(self) -> tuple[Versioned, Versioned]:
        """The two by their ids: the key under which they are kept."""
        return (self.one, self.other) if self.one < self.other else (self.other, self.one)

    @property
    def pair(self) -> Pair:
        """Their ids, ascending."""
        (low, _), (high, _) = self.ordered
        return low, high


async def record(
    connection: Connection, kind: Kind, cause: Cause, found: Sequence[Finding], now: datetime
) -> int:
    """Keep proposals or conflicts; return how many are new, or new in these versions.

    A pair of which a memory has changed or gone is passed over, and so is one that is settled.
    What stood open of the other kind about a pair is withdrawn.

    Args:
        connection: in a READ COMMITTED transaction that sees the workspace.
        kind: of all of them.
        cause: the run that found them.
        found: each pair at most once.
        now: when.
    """
    held = await connection.fetch(
        statement("finding", "hold"),
        cause.workspace,
        sorted({memory for one in found for memory in one.pair}),
    )
    current = {(row["id"], row["version"]) for row in held}
    kept = [one for one in found if current >= set(one.ordered)]
    decided = await settled(connection, cause.workspace, [one.ordered for one in kept])
    kept = [one for one in kept if one.pair not in decided]
    if not kept:
        return 0
    columns = _columns(kept)
    pairs = columns["low"], columns["high"]
    await connection.execute(_sql(kind, "withdraw"), cause.workspace, *pairs)
    given = [*columns.values(), cause.rule_version, cause.run_id, now]
    return len(await connection.fetch(_sql(kind, "record"), cause.workspace, *given))


def _columns(found: Sequence[Finding]) -> dict[str, list[Any]]:
    columns: defaultdict[str, list[Any]] = defaultdict(list)
    for one in found:
        (low, low_version), (high, high_version) = one.ordered
        row = {
            "id": uuid7(), "low": low, "high": high, "low_version": low_version,
            "high_version": high_version, "cosine": one.cosine, "reason": one.reason,
            "evidence": dict(one.evidence), "survivor": one.survivor,
        }  # fmt: skip
        for name, value in row.items():
            columns[name].append(value)
    return columns


async def settled(
    connection: Connection, workspace: UUID, pairs: Sequence[tuple[Versioned, Versioned]]
) -> set[Pair]:
    """Return those pairs, ids ascending, that a person has decided on, in these very versions.

    Rejected proposals, resolved conflicts, and what was merged and then undone: nothing of that is
    merged, proposed or reported again until one of the texts changes.

    Args:
        connection: sees the workspace.
        workspace: of all of them.
        pairs: two memories each with their versions, in any order; a few thousand at a time.
    """
    ordered = [(min(pair), max(pair)) for pair in pairs]
    rows = await connection.fetch(
        statement("finding", "settled"),
        workspace,
        [low for (low, _), _ in ordered],
        [high for _, (high, _) in ordered],
        [version for (_, version), _ in ordered],
        [version for _, (_, version) in ordered],
    )
    return {(row["low"], row["high"]) for row in rows}


async def page(
    connection: Connection,
    workspace: UUID,
    kind: Kind,
    *,
    state: str,
    namespace: str | None,
    after: UUID,
    limit: int,
) -> list[dict[str, Any]]:
    """Return up to ``limit`` findings above the id ``after``, oldest first, in their public shape.

    Args:
        connection: sees the workspace.
        workspace: whose findings.
        kind: which of the two.
        state: ``open`` ones only as long as they can be decided.
        namespace: only of this one.
        after: where the page before ended.
        limit: most findings returned.
    """
    rows = await connection.fetch(_sql(kind, "page"), workspace, after, state, namespace, limit)
    return [described(row, kind) for row in rows]


async def find(
    connection: Connection, workspace: UUID, kind: Kind, finding_id: UUID
) -> asyncpg.Record | None:
    """Return the row of a finding with both memories, None when there is none."""
    return await connection.fetchrow(_sql(kind, "show"), workspace, finding_id)


def described(row: asyncpg.Record, kind: Kind) -> dict[str, Any]:
    """Return the public shape of a row of `find`."""
    memories = [_memory(row, side) for side in ("low", "high")]
    shown = {
        "id": str(row["id"]),
        "state": row["state"],
        "stale": is_stale(row),
        "namespace": row["namespace"],
        "cosine": round(row["cosine"], 6),
        "reason": row["reason"],
        "guard": row["evidence"],
        "rule_version": row["rule_version"],
        "run_id": _text(row["run_id"]),
        "memories": memories,
        "created_at": as_time(row["created_at"]),
        "decided_at": as_time(row["decided_at"]),
        "decided_by": row["decided_by"],
    }
    if kind == "proposal":
        return {**shown, "survivor": _text(row["survivor"]), "merge_id": _text(row["merge_id"])}
    return {**shown, "newer": str(newer(row)), "kept": _text(row["survivor"])}


def is_stale(row: asyncpg.Record) -> bool:
    """Say whether one of the two is no longer live, or says something else by now."""
    return any(
        row[f"{side}_state"] != "active" or row[f"{side}_now"] != row[f"{side}_version"]
        for side in ("low", "high")
    )


def newer(row: asyncpg.Record) -> UUID:
    """Return which of the two got its text later; of equal times the one stored later."""
    later = (row["low_said_at"], row["low"]) > (row["high_said_at"], row["high"])
    found: UUID = row["low"] if later else row["high"]
    return found


def stale(memory: str = "One of the two memories") -> ConflictError:
    """Return the error for a decision on what is no longer as it was found."""
    return ConflictError(
        "finding_stale",
        f"{memory} has changed or gone since this was found.",
        cure="Look at both again; the next sweep compares them anew.",
    )


def decided_already(state: str) -> ConflictError:
    """Return the error for a second, different decision."""
    return ConflictError(
        "already_decided",
        f"This has been decided already: {state}.",
        cure="Undo the merge, or the resolution, to decide again.",
    )


def _memory(row: asyncpg.Record, side: str) -> dict[str, Any]:
    return {
        "id": str(row[side]),
        "content": row[f"{side}_content"],
        "version": row[f"{side}_version"],
        "current_version": row[f"{side}_now"],
        "state": row[f"{side}_state"],
        "pinned": row[f"{side}_pinned"],
        "importance": row[f"{side}_importance"],
        "said_at": as_time(row[f"{side}_said_at"]),
    }


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)


def _sql(kind: Kind, name: str) -> str:
    # Names come from the two kinds, never from input.
    sql = statement("finding", name).replace("{columns}", statement("finding", "columns"))
    sql = sql.replace("{findings}", f"engram.{kind}").replace("{own}", _OWN[kind])
    return sql.replace("{others}", f"engram.{_OTHER[kind]}")
