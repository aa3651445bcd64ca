"""What decay would archive: now, and what comes due within a week and a month."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from engram.domain.decay import allowance
from engram.storage import decay_clock, decay_settings, decaying
from engram.storage.connection import Pool, about
from engram.storage.decaying import Candidate
from engram.storage.records import as_time

_DAYS = (0, 7, 30)
_PAGE = 1_000
_SHOWN = 500


async def preview(pool: Pool, workspace: UUID, namespace: str | None) -> dict[str, Any]:
    """Return the answer of ``GET /v1/decay/preview``; changes nothing.

    Args:
        pool: of the API role.
        workspace: to look through.
        namespace: only this one; None for all.

    Raises:
        UnavailableError: Postgres cannot be reached.
    """
    async with about(pool, [workspace]) as connection:
        now, withheld_s = await decay_clock.read(connection)
        instants = [now + timedelta(days=days) for days in _DAYS]
        rules = {workspace: await decay_settings.rules_of(connection, workspace)}
        found = await decaying.survey(
            connection, rules, instants[-1], workspace=workspace, namespace=namespace
        )
        items: list[dict[str, Any]] = []
        for start in range(0, len(found), _PAGE):
            page = found[start : start + _PAGE]
            due = await decaying.count_due(connection, page, instants)
            items += (_item(one, due[one.namespace]) for one in page if one.namespace in due)
    items.sort(key=lambda item: (-item["due"], -item["due_in_30_days"], item["namespace"]))
    return {
        "now": as_time(now),
        "withheld_s": withheld_s,
        "namespaces": len(items),
        **_totals(items),
        "items": items[:_SHOWN],
    }


def _item(one: Candidate, due: Sequence[int]) -> dict[str, Any]:
    archived = min(due[0], allowance(one.active))
    return {
        "namespace": one.namespace,
        "active": one.active,
        "due": due[0],
        "archived": archived,
        "due_in_7_days": due[1],
        "due_in_30_days": due[2],
        "slowed": archived < due[0],
    }


def _totals(items: Sequence[dict[str, Any]]) -> dict[str, int]:
    names = ("due", "archived", "slowed", "due_in_7_days", "due_in_30_days")
    return {name: sum(item[name] for item in items) for name in names}
