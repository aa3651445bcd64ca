"""R30: after services were killed at work, what Prometheus would read equals what SQL counts."""

import asyncio
from pathlib import Path

import pytest

from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from tests.support.cluster import Cluster, cluster
from tests.support.wait import eventually

SPACE = "hashing:ngram-1@64"
# Counts are taken every 15 seconds; a machine under load takes its time.
READ_S = 60

STATES = "SELECT state, count(*) FROM engram.memory GROUP BY state"
SPACES = """
SELECT CASE WHEN v.version = m.version THEN 'current' WHEN f.dead THEN 'dead' ELSE 'pending' END,
       count(*)
FROM engram.memory m
LEFT JOIN engram_vec.space_1 v ON v.memory_id = m.id
LEFT JOIN engram.embedding_failure f ON f.memory_id = m.id AND f.version = m.version
WHERE m.state = 'active' GROUP BY 1
"""
LETTERS = """
SELECT (SELECT count(*) FROM engram.embedding_failure WHERE dead AND discarded_at IS NULL)
     + (SELECT count(*) FROM engram.dead_letter)
"""
QUEUED = "SELECT coalesce(sum(cardinality(ids)), 0) FROM engram.bulk_batch"


async def shown(store: Cluster) -> dict[str, float]:
    """Return the counts of stock that the curator shows."""
    read = {
        f"memories {state}": ("memories", {"state": state})
        for state in ("active", "merged", "deleted", "archived", "superseded", "staged")
    }
    read |= {
        f"space {state}": ("space_memories", {"space": SPACE, "state": state})
        for state in ("current", "pending", "dead")
    }
    read["dead letters"] = ("dead_letters_waiting", {})
    read["outbox"] = ("outbox_lines", {})
    read["bulk"] = ("bulk_waiting_memories", {})
    return {
        name: await store.metric("curator", f"engram_{metric}", **labels)
        for name, (metric, labels) in read.items()
    }


async def counted(store: Cluster) -> dict[str, float]:
    """Return the same by plain SQL."""
    states, spaces = dict(await store.fetch(STATES)), dict(await store.fetch(SPACES))
    return {
        **{
            f"memories {state}": states.get(state, 0)
            for state in ("active", "merged", "deleted", "archived", "superseded", "staged")
        },
        **{f"space {state}": spaces.get(state, 0) for state in ("current", "pending", "dead")},
        "dead letters": await store.fetchval(LETTERS),
        "outbox": await store.fetchval("SELECT count(*) FROM engram.outbox"),
        "bulk": await store.fetchval(QUEUED),
    }


async def read_anew(store: Cluster) -> None:
    """Wait until both tiers of stock were read after now."""
    now = float(await store.fetchval("SELECT extract(epoch FROM now())"))

    async def both() -> bool:
        tiers = [
            await store.metric("curator", "engram_stock_counted_timestamp_seconds", tier=tier)
            for tier in ("quick", "counted")
        ]
        # The count begins after its tier's turn: a second reading is of what is there now.
        return min(tiers) > now + 1

    await eventually(both, READ_S, 0.5)


async def chaos(store: Cluster, kills: int, memories: int) -> None:
    """Send memories, change and delete some, while ingest and the embedder are killed in turn."""

    async def send() -> None:
        await store.post_many([f"memory {number}" for number in range(memories)])
        for number, memory_id in enumerate(list(store.ledger.accepted)[: memories // 4]):
            if number % 2:
                await store.ledger.delete(store.client, memory_id)
            else:
                await store.ledger.change(store.client, memory_id, f"changed {number}")

    sending = asyncio.create_task(send())
    for _ in range(kills):
        await store.restart("embedder")
        await store.restart("ingest")
    await sending


async def held_against_sql(store: Cluster, kills: int, memories: int) -> None:
    await chaos(store, kills, memories)
    # Nobody embeds these for now: the figures are equal all the same.
    await store.kill9("embedder")
    await store.post_many(["waits", "waits too"])
    await eventually(lambda: outbox_empty(store), 30)
    await read_anew(store)
    assert await shown(store) == await counted(store)
    assert (await counted(store))["space pending"] >= 2
    await store.start("embedder")
    await store.settled()
    await eventually(lambda: outbox_empty(store), 30)
    await read_anew(store)
    figures = await shown(store)
    assert figures == await counted(store)
    assert figures["memories active"] == figures["space current"] == len(store.ledger.accepted)
    assert figures["memories deleted"] == len(store.ledger.deleted)
    assert figures["outbox"] == figures["bulk"] == figures["space pending"] == 0
    waiting = await store.metric("curator", "engram_lane_ack_pending_messages")
    assert waiting + await store.metric("curator", "engram_lane_pending_messages") == 0


async def outbox_empty(store: Cluster) -> bool:
    return bool(await store.fetchval("SELECT count(*) = 0 FROM engram.outbox"))


@pytest.mark.timeout(240)
async def test_metrics_equal_sql_after_kills(
    postgres_server: PostgresServer, nats_server: NatsServer, tmp_path: Path
) -> None:
    async with cluster(postgres_server, nats_server, tmp_path) as store:
        await held_against_sql(store, kills=2, memories=200)


@pytest.mark.chaos
async def test_metrics_equal_sql_after_many_kills(
    postgres_server: PostgresServer, nats_server: NatsServer, tmp_path: Path
) -> None:
    async with cluster(postgres_server, nats_server, tmp_path) as store:
        await held_against_sql(store, kills=10, memories=2_000)
