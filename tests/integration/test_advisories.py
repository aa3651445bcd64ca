"""What the broker gives up is counted, logged, and makes reconcile due."""

from collections.abc import AsyncIterator
from datetime import timedelta

import nats
import pytest
import structlog
from nats.js.api import AckPolicy, ConsumerConfig

from engram import metrics
from engram.serving.advisories import Advisories
from engram.serving.process import background
from engram.storage import sweeps
from tests.support.store import Store, open_store
from tests.support.wait import eventually


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    """A store that listens to advisories, with a reconcile that is not due for an hour."""
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        async with opened.service.pool.acquire() as connection:
            await sweeps.ensure_sweeps(connection, {"reconcile": timedelta(hours=1)})
        await opened.sql.execute("UPDATE engram.sweep SET next_due = now() + interval '1 hour'")
        advisories = Advisories(opened.service.pool, opened.service.broker)
        async with background(advisories.run()):
            yield opened


async def due(store: Store) -> bool:
    return bool(await store.sql.fetchval("SELECT next_due <= now() FROM engram.sweep"))


def counted(kind: str) -> float:
    return metrics.GIVEN_UP.labels(kind, "ENGRAM_MEMORY")._value.get()


@pytest.mark.parametrize("kind", ["max_deliveries", "terminated"])
async def test_a_message_that_is_given_up_makes_reconcile_due(
    store: Store, nats_url: str, kind: str
) -> None:
    before = counted(kind)
    client = await nats.connect(nats_url)
    jetstream = client.jetstream()
    config = ConsumerConfig(
        durable_name="careless", ack_policy=AckPolicy.EXPLICIT, max_deliver=1, ack_wait=30
    )
    await jetstream.add_consumer("ENGRAM_MEMORY", config)
    careless = await jetstream.pull_subscribe("", durable="careless", stream="ENGRAM_MEMORY")
    with structlog.testing.capture_logs() as logs:
        await store.post("tea")
        (message,) = await careless.fetch(1, timeout=10)
        if kind == "terminated":
            await message.term()
        else:
            await message.nak()
            # The broker notices when somebody asks for more.
            with pytest.raises(nats.errors.TimeoutError):
                await careless.fetch(1, timeout=1)
        await eventually(lambda: due(store))
    await client.close()
    assert counted(kind) == before + 1
    (line,) = [one for one in logs if one["event"] == "messages were given up by the broker"]
    assert line["log_level"] == "error"
    assert (line["kind"], line["stream"], line["consumer"]) == (kind, "ENGRAM_MEMORY", "careless")
    assert (line["messages"], line["last_sequence"]) == (1, message.metadata.sequence.stream)


async def test_other_streams_and_what_cannot_be_read_do_not_matter(
    store: Store, nats_url: str
) -> None:
    before = counted("terminated")
    client = await nats.connect(nats_url)
    subject = "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED"
    await client.publish(f"{subject}.OTHERS.c", b"{}")
    for bad in (b"", b"\xff", b"[]", b'{"stream_seq": "x"}'):
        await client.publish(f"{subject}.ENGRAM_MEMORY.c", bad)
    await eventually(lambda: counted("terminated") == before + 4)
    await eventually(lambda: due(store))
    await client.close()
