"""The picture of the pipeline that ``engram status`` draws: counts, lags and totals, no tenant."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import nats.errors
import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo

from engram.broker.topology import INGEST_DURABLE, Durable, broker_unavailable, embed_durable
from engram.storage.connection import Pool, reachable
from engram.storage.pipeline import Stages, stages
from engram.storage.sweeps import Sweep

# What fails in this way waits for a person: the provider refuses us, not a text.
_REFUSAL = "auth"
_LATE = 2.0


class Pipeline:
    """Draws the pipeline from Postgres and JetStream.

    Args:
        pool: of the worker role.
        jetstream: whose consumers are asked.
    """

    def __init__(self, pool: Pool, jetstream: JetStreamContext) -> None:
        self._pool = pool
        self._jetstream = jetstream
        self._drawing = asyncio.Lock()

    async def picture(self) -> dict[str, Any]:
        """Return the picture as JSON; totals only grow, so a rate is the course of one.

        Raises:
            UnavailableError: Postgres cannot be reached.
        """
        # One at a time: many who watch share the cost of few.
        async with self._drawing, reachable(), self._pool.acquire() as connection:
            found = await stages(connection)
        commands = await self._lane(INGEST_DURABLE)
        spaces = [
            _space(row, found, await self._lane(embed_durable(row["id"])))
            for row in found.spaces
            if row["active"]
        ]
        now = datetime.now(UTC)
        return {
            "at": now.isoformat(),
            "in": {**dict(found.memories), "commands": commands},
            "outbox": dict(found.outbox),
            "spaces": spaces,
            "providers": [dict(row) for row in found.budgets],
            "dead_letters": {row["kind"]: row["letters"] for row in found.letters},
            "sweeps": [_sweep(sweep, now) for sweep in found.sweeps],
        }

    async def _lane(self, durable: Durable) -> dict[str, Any] | None:
        """Return how a durable stands, None while the broker cannot tell."""
        try:
            info = await self._jetstream.consumer_info(durable.stream, durable.name, timeout=2)
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            return {"error": broker_unavailable(error).detail}
        return _lane(info)


def _lane(info: ConsumerInfo) -> dict[str, Any]:
    pending, held = info.num_pending or 0, info.num_ack_pending or 0
    floor = info.ack_floor
    moved = floor.last_active if floor is not None else None
    waits = bool(pending or held) and moved is not None
    stalled_s = (datetime.now(UTC) - moved).total_seconds() if waits and moved else 0.0
    return {
        "pending": pending,
        "in_flight": held,
        "redelivered": info.num_redelivered or 0,
        "stalled_s": max(0.0, stalled_s),
        "done_total": floor.consumer_seq if floor is not None else 0,
    }


def _space(row: Mapping[str, Any], found: Stages, live: dict[str, Any] | None) -> dict[str, Any]:
    own = [failure for failure in found.failures if failure["space"] == row["id"]]
    retrying: dict[str, int] = {f["class"]: f["memories"] for f in own if not f["dead"]}
    return {
        "space": row["key"],
        "provider": row["provider"],
        "model": row["model"],
        "live": live,
        "bulk": {"waiting": row["bulk_waiting"], "oldest_s": row["bulk_oldest_s"]},
        "retrying": retrying,
        "refused": _REFUSAL in retrying,
        "dead": sum(f["memories"] for f in own if f["dead"]),
        "vectors": found.vectors[row["id"]],
        "written_total": row["written_total"],
    }


def _sweep(sweep: Sweep, now: datetime) -> dict[str, Any]:
    due_in_s = (sweep.next_due - now).total_seconds()
    return {
        "name": sweep.name,
        "every_s": sweep.every_s,
        "enabled": sweep.enabled,
        "running": sweep.running,
        "due_in_s": due_in_s,
        # A curator claims within seconds what is due; twice an interval means that none does.
        "late": sweep.enabled and not sweep.running and -due_in_s > _LATE * sweep.every_s,
        "last_finished": sweep.last_finished and sweep.last_finished.isoformat(),
        "last_duration_s": sweep.last_duration_s,
        "last_error": sweep.last_error,
    }
