"""A person's decision on a proposal: accepted, the two merge; rejected, they are left in peace."""

from datetime import datetime
from uuid import UUID

import asyncpg

from engram.domain.groups import Link, settle
from engram.domain.groups import Member as Candidate
from engram.errors import ConflictError, InvalidError, NotFoundError
from engram.storage import auditing, findings
from engram.storage.connection import Connection
from engram.storage.merging import Cause, Group, Left, Member, apply_group, locked
from engram.storage.queries import statement

_STALE: tuple[Left, ...] = ("gone", "changed", "not_active", "taken")


async def accept(
    connection: Connection,
    workspace: UUID,
    proposal_id: UUID,
    *,
    survivor: UUID | None,
    actor: str,
    now: datetime,
) -> UUID:
    """Merge the two memories of a proposal and return the id of the merge.

    One that was rejected may still be accepted, and one whose merge was undone accepted again.

    Args:
        connection: in a READ COMMITTED transaction that sees the workspace.
        workspace: whose proposal.
        proposal_id: which.
        survivor: which of the two answers for both; None takes the proposed one, or else chooses
            as a sweep does.
        actor: who accepts.
        now: when.

    Raises:
        NotFoundError: there is no such proposal.
        InvalidError: the survivor is none of the two.
        ConflictError: the two are merged, or can no longer be merged.
    """
    row = await _found(connection, workspace, proposal_id)
    # Before the proposal's own row: a deletion takes them in this order, too.
    await locked(connection, workspace, (row["low"], row["high"]))
    row = await _found(connection, workspace, proposal_id)
    _check_undecided(row)
    chosen = survivor or row["survivor"] or await _choice(connection, workspace, row)
    group = _group(row, chosen)
    cause = Cause(workspace, actor, None, row["rule_version"], "accepted", by_person=True)
    outcome = await apply_group(connection, cause, group, now)
    if outcome.merge_id is None:
        raise _not_mergeable(outcome.left)
    await connection.execute(
        statement("finding", "accept"),
        *(workspace, proposal_id, now, actor, outcome.merge_id, chosen),
    )
    await _audit(connection, workspace, actor, "proposal.accepted", proposal_id)
    return outcome.merge_id


async def reject(
    connection: Connection, workspace: UUID, proposal_id: UUID, *, actor: str, now: datetime
) -> None:
    """Leave the two memories of a proposal apart; they are not proposed again as they are.

    Raises:
        NotFoundError: there is no such proposal.
        ConflictError: the two are merged.
    """
    row = await _found(connection, workspace, proposal_id)
    await locked(connection, workspace, (row["low"], row["high"]))
    _check_undecided(await _found(connection, workspace, proposal_id))
    sql = statement("finding", "reject")
    if await connection.fetchval(sql, workspace, proposal_id, now, actor) is not None:
        await _audit(connection, workspace, actor, "proposal.rejected", proposal_id)


def unknown_proposal() -> NotFoundError:
    """Return the one answer for unknown proposals and those of others."""
    return NotFoundError(
        "proposal_not_found", "There is no such proposal.", cure="List the proposals."
    )


async def _found(connection: Connection, workspace: UUID, proposal_id: UUID) -> asyncpg.Record:
    row = await findings.find(connection, workspace, "proposal", proposal_id)
    if row is None:
        raise unknown_proposal()
    return row


def _check_undecided(row: asyncpg.Record) -> None:
    # Once the merge is undone both are live again, and so is the question.
    if row["state"] == "accepted" and findings.is_stale(row):
        raise findings.decided_already("accepted")


async def _choice(connection: Connection, workspace: UUID, row: asyncpg.Record) -> UUID:
    """Return who survives of two that hold each other, as the rule of groups says."""
    both = [
        Candidate(
            one["id"], one["importance"], one["created_at"], one["reinforced_at"],
            pinned=one["pinned"],
        )
        for one in (await locked(connection, workspace, (row["low"], row["high"]))).values()
    ]  # fmt: skip
    chosen = settle(both, [Link(row["low"], row["high"], row["cosine"])])
    if chosen is None:
        raise findings.stale()
    return chosen.survivor


def _group(row: asyncpg.Record, survivor: UUID) -> Group:
    versions = {row["low"]: row["low_version"], row["high"]: row["high_version"]}
    if survivor not in versions:
        raise InvalidError(
            "not_of_the_pair",
            "The memory named is none of the two.",
            cure="Name one of the ids that the proposal or conflict shows.",
        )
    version = versions.pop(survivor)
    [(other, other_version)] = versions.items()
    member = Member(other, other_version, row["cosine"], row["evidence"])
    return Group(survivor, version, (member,))


def _not_mergeable(left: Left | None) -> ConflictError:
    if left in _STALE:
        return findings.stale()
    return ConflictError(
        "not_mergeable",
        f"The two cannot be merged ({left}).",
        cure="A pinned memory is never absorbed: unpin it, or let it survive.",
    )


async def _audit(
    connection: Connection, workspace: UUID, actor: str, action: str, subject: UUID
) -> None:
    await auditing.record(connection, auditing.Entry(workspace, actor, action, str(subject)))
