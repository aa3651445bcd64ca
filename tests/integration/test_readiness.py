"""Readiness tells the truth: what is wrong is named with its cure, and a provider never is."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import asyncpg
import httpx
import pytest

from engram.broker import readiness, topology
from engram.errors import UnavailableError
from engram.serving import checks
from engram.serving.checks import Recent, broker_findings, refuse_unbound, store_findings
from engram.serving.operations import Finding, operations_app
from engram.serving.pipeline import Pipeline
from engram.serving.process import connected, standard_checks
from engram.serving.watchdog import Watchdog
from engram.settings import Settings
from engram.storage import standing
from engram.storage.migrate import expected_version
from engram.storage.standing import Standing
from tests.support.store import Store, open_store
from tests.support.wait import eventually


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


async def of_broker(store: Store) -> list[Finding]:
    service = store.service
    return await broker_findings(service.broker, service.jetstream, service.spaces.active)


async def of_store(store: Store) -> list[Finding]:
    async with store.service.pool.acquire() as connection:
        return store_findings(await standing.look(connection))


async def canaries(store: Store) -> int:
    info = await store.service.jetstream.stream_info("ENGRAM_MEMORY", subjects_filter=">")
    return int((info.state.subjects or {}).get(topology.CANARY_SUBJECT, 0))


async def test_a_healthy_store_has_nothing_to_tell_and_one_canary_is_enough(store: Store) -> None:
    assert await of_store(store) == []
    assert await of_broker(store) == []
    assert await canaries(store) == 1
    assert await of_broker(store) == []
    assert await canaries(store) == 1


async def test_no_canary_is_sent_while_events_show_that_the_stream_stores(store: Store) -> None:
    await store.post("a memory")

    async def relayed() -> bool:
        return (await store.service.jetstream.stream_info("ENGRAM_MEMORY")).state.messages > 0

    await eventually(relayed)
    assert await of_broker(store) == []
    assert await canaries(store) == 0


async def test_no_consumer_is_woken_by_a_canary(store: Store) -> None:
    await readiness.send_canary(store.service.jetstream)
    lane = topology.embed_durable(1)
    info = await store.service.jetstream.consumer_info(lane.stream, lane.name)
    assert info.num_pending == 0
    watchdog = Watchdog(store.service.pool, store.service.jetstream, store.service.spaces, 1)
    assert await watchdog.look() is False
    await readiness.send_canary(store.service.jetstream)
    assert await watchdog.look() is False
    assert await watchdog.check() == ()


async def test_a_stream_that_stores_nothing_is_found_by_the_canary(store: Store) -> None:
    service = store.service
    await service.jetstream.update_stream(
        topology.StreamConfig(**{**vars(topology.MEMORY), "max_bytes": 1})
    )
    [finding] = [one for one in await of_broker(store) if one.severity == "failure"]
    assert finding.check == "canary"
    assert "restart nats-server" in finding.cure


async def test_a_filling_stream_is_told_before_it_is_full(store: Store) -> None:
    service = store.service
    await service.jetstream.publish("engram.v1.memory.embedded", b"x" * 950)
    config = {**vars(topology.MEMORY), "max_bytes": 1_050}
    await service.jetstream.update_stream(topology.StreamConfig(**config))
    [finding] = await of_broker(store)
    assert (finding.check, finding.severity) == ("stream", "warning")
    assert "ENGRAM_MEMORY (9" in finding.detail


@pytest.mark.parametrize("what", ["ENGRAM_INGEST", "ENGRAM_MEMORY", "embed-live-1"])
async def test_what_is_missing_of_the_topology_is_named(store: Store, what: str) -> None:
    jetstream = store.service.jetstream
    if what.startswith("ENGRAM"):
        await jetstream.delete_stream(what)
    else:
        await jetstream.delete_consumer("ENGRAM_MEMORY", what)
    [finding] = await of_broker(store)
    assert finding.check == "topology"
    assert what in finding.detail
    await Watchdog(store.service.pool, jetstream, store.service.spaces, 1).look()
    assert await of_broker(store) == []


async def test_what_the_watchdog_makes_good_is_a_warning_until_it_is(store: Store) -> None:
    watchdog = Watchdog(store.service.pool, store.service.jetstream, store.service.spaces, 1)
    await store.service.jetstream.delete_stream("ENGRAM_MEMORY")
    assert await watchdog.look() is True
    [finding] = await watchdog.check()
    assert (finding.check, finding.severity) == ("losses", "warning")


async def test_a_provider_that_is_down_leaves_the_service_ready(
    database_url: str, nats_url: str
) -> None:
    nobody = {"openai_base_url": "http://127.0.0.1:1/v1", "embedder": True}
    embedding = "openai:any@16"
    async with open_store(database_url, nats_url, embedding, **nobody) as store:
        await store.post("this one cannot be embedded")

        async def failed() -> bool:
            return bool(await store.sql.fetchval("SELECT count(*) FROM engram.embedding_failure"))

        await eventually(failed)
        for check in standard_checks(store.service):
            assert list(await check()) == []


async def test_a_role_above_row_security_is_a_failure_and_stops_a_start(
    store: Store, superuser_url: str
) -> None:
    sql = await asyncpg.connect(superuser_url)
    # Roles belong to the whole server, where other tests run: it is undone with the transaction.
    with contextlib.suppress(_UndoneError):
        async with sql.transaction():
            await sql.execute("ALTER ROLE engram_api BYPASSRLS")
            found = await standing.look(sql)
            raise _UndoneError
    await sql.close()
    failures = [one for one in store_findings(found) if one.severity == "failure"]
    assert [(one.check, "engram_api" in one.detail) for one in failures] == [("role", True)]
    with pytest.raises(UnavailableError) as refused:
        refuse_unbound(found)
    assert refused.value.code == "privileged_role"


class _UndoneError(Exception):
    """Rolls back."""


async def test_a_superuser_login_is_warned_of_and_does_not_close_the_service(
    store: Store, superuser_url: str, nats_url: str
) -> None:
    settings = Settings(
        database_url=superuser_url, nats_url=nats_url, embedding=store.settings.embedding
    )
    async with connected("test", settings) as service:
        [postgres, _] = standard_checks(service)
        [finding] = await postgres()
    assert (finding.check, finding.severity) == ("role", "warning")
    assert superuser_url.split("@", maxsplit=1)[0] not in finding.detail


async def test_a_restored_older_schema_is_a_failure_and_a_newer_one_a_warning(
    store: Store,
) -> None:
    await store.sql.execute("DELETE FROM engram.schema_version WHERE version > 1")
    [finding] = await of_store(store)
    assert (finding.check, finding.severity) == ("schema", "failure")
    assert "engram bootstrap" in finding.cure
    newer = expected_version() + 1
    await store.sql.execute(
        "INSERT INTO engram.schema_version (version, name) VALUES ($1, 'x')", newer
    )
    [finding] = await of_store(store)
    assert (finding.check, finding.severity) == ("schema", "warning")
    assert [f.check for f in store_findings(Standing(0))] == ["schema"]


async def test_a_database_that_takes_no_writes_is_a_failure(store: Store) -> None:
    async with store.service.pool.acquire() as connection:
        await connection.execute("SET default_transaction_read_only = on")
        try:
            [finding] = store_findings(await standing.look(connection))
        finally:
            await connection.execute("RESET default_transaction_read_only")
    assert (finding.check, finding.severity) == ("postgres", "failure")


async def test_a_vector_table_of_another_length_is_a_failure(store: Store) -> None:
    await store.sql.execute("UPDATE engram.space SET dimensions = 17")
    [finding] = await of_store(store)
    assert (finding.check, "hashing" in finding.detail) == ("space", True)


async def test_an_embedding_setting_for_no_space_here_is_told(
    store: Store, database_url: str, nats_url: str
) -> None:
    settings = Settings(database_url=database_url, nats_url=nats_url, embedding="hashing@32")
    async with connected("test", settings) as service:
        [postgres, _] = standard_checks(service)
        [finding] = await postgres()
    assert (finding.check, finding.severity) == ("space", "warning")
    assert "hashing" in finding.detail


async def test_a_warning_is_told_and_leaves_the_service_ready() -> None:
    async def check() -> list[Finding]:
        return [Finding("role", "Too much.", "Less.", "warning")]

    transport = httpx.ASGITransport(operations_app("test", [check]))
    async with httpx.AsyncClient(transport=transport, base_url="http://ops") as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["findings"][0]["severity"] == "warning"


async def test_many_who_ask_at_once_cost_one_look_and_a_slow_look_is_cut_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0

    async def look() -> Sequence[Finding]:
        nonlocal looks
        looks += 1
        return ()

    recent = Recent("postgres", look)
    await asyncio.gather(*(recent() for _ in range(50)))
    assert looks == 1

    async def never() -> Sequence[Finding]:
        await asyncio.Event().wait()
        return ()

    monkeypatch.setattr(checks, "_LIMIT_S", 0.01)
    [finding] = await Recent("nats", never)()
    assert (finding.check, "did not answer" in finding.detail) == ("nats", True)


async def test_the_picture_counts_what_sql_counts(
    database_url: str, superuser_url: str, nats_url: str
) -> None:
    async with open_store(
        database_url, nats_url, superuser_url=superuser_url, embedder=True
    ) as store:
        for number in range(7):
            await store.post(f"memory {number}")

        async def embedded() -> bool:
            return await store.sql.fetchval("SELECT count(*) FROM engram_vec.space_1") == 7

        await eventually(embedded)
        pipeline = Pipeline(store.service.pool, store.service.jetstream)

        async def drawn() -> bool:
            found = await pipeline.picture()
            [space] = found["spaces"]
            assert (found["in"]["memories"], space["vectors"]) == (7, 7)
            assert (space["live"]["pending"], space["dead"], space["retrying"]) == (0, 0, {})
            assert found["outbox"]["lines"] == 0
            assert found["in"]["stored_total"] >= 7
            assert space["written_total"] >= 7
            return True

        # Totals are of Postgres's statistics, which each connection reports within a second or so.
        await eventually(drawn, 20)
        await store.service.jetstream.delete_stream("ENGRAM_MEMORY")
        [space] = (await pipeline.picture())["spaces"]
        assert "error" in space["live"]
