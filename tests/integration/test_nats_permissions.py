"""deploy/nats/secure.conf on a real server: what each role may do is enough, and no more."""

import contextlib
import os
import sys
from unittest.mock import patch

import asyncpg
import nats
import nats.errors
import pytest

from engram.broker import topology
from engram.errors import EngramError
from engram.events import ingest_subject
from engram.publisher import Publisher
from engram_cli.bootstrap import bootstrap
from engram_cli.bootstrap_wait import wait_until_bootstrapped
from engram_cli.runtime.ports import Ports
from engram_cli.runtime.service import ServiceProcess, ServiceSpec
from engram_cli.services import SERVICES
from tests.support import servers
from tests.support.secured import secured_nats, told
from tests.support.wait import eventually

OTHER = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
async def secured():
    async with secured_nats() as server:
        yield server


@pytest.fixture
async def store(secured, database_url, superuser_url):
    """Yield plain SQL and the workspace of a store that was bootstrapped with its own login."""
    env = {"ENGRAM_EMBEDDING": "hashing@64", "SSL_CERT_FILE": str(secured.ca_bundle)}
    with patch.dict(os.environ, env):
        await bootstrap(database_url, secured.url("bootstrap"))
    sql = await asyncpg.connect(superuser_url)
    workspace = str(await sql.fetchval("SELECT id FROM engram.workspace"))
    await secured.allow_publisher(workspace)
    yield sql, workspace
    await sql.close()


@contextlib.asynccontextmanager
async def running(secured, database_url, folder):
    """Run every service with the credentials of its role, all secrets in files."""
    ports = Ports()
    (folder / "database_url").write_text(database_url)
    services = []
    for name in SERVICES:
        (folder / f"nats_url_{name}").write_text(secured.url(name))
        ops_port = ports.keep()
        env = {
            "ENGRAM_DATABASE_URL_FILE": str(folder / "database_url"),
            "ENGRAM_NATS_URL_FILE": str(folder / f"nats_url_{name}"),
            "ENGRAM_EMBEDDING": "hashing@64",
            "ENGRAM_PORT": str(ports.keep()),
            "ENGRAM_OPS_PORT": str(ops_port),
            "SSL_CERT_FILE": str(secured.ca_bundle),
        }
        argv = (sys.executable, "-m", "engram_cli", "run", name)
        spec = ServiceSpec(name, argv, env, f"http://127.0.0.1:{ops_port}/readyz")
        services.append(ServiceProcess(spec, folder, servers.fork_server()))
    try:
        for service in services:
            await service.start()
        for service in services:
            await service.ready()
        yield
    finally:
        for service in services:
            await service.stop()
        ports.release()


def publisher(secured, workspace, **options):
    given = {"tls": secured.tls(), "inbox_prefix": "_INBOX.publisher"}
    return Publisher(secured.url("publisher"), workspace, connect_options=given, **options)


async def test_commands_become_vectors_with_the_login_of_each_role_and_nothing_is_refused(
    secured, store, database_url, tmp_path
):
    sql, workspace = store
    async with running(secured, database_url, tmp_path):
        async with publisher(secured, workspace) as sender:
            await sender.create([{"content": f"memory {number}"} for number in range(20)])

        async def embedded():
            return await sql.fetchval("SELECT count(*) FROM engram_vec.space_1") == 20

        await eventually(embedded, 30)
        client, _ = await secured.connect("embedder")
        lane = topology.embed_durable(1)

        async def acknowledged():
            info = await client.jetstream().consumer_info(lane.stream, lane.name)
            return info.num_pending == 0 and info.num_ack_pending == 0

        await eventually(acknowledged, 20)
        await client.close()
    assert "violation" not in secured.log_text().lower()


async def test_a_service_waits_for_bootstrap_with_its_own_login(secured, store, database_url):
    with patch.dict(os.environ, {"SSL_CERT_FILE": str(secured.ca_bundle)}):
        for name in SERVICES:
            await wait_until_bootstrapped(database_url, secured.url(name), name, 0)
    assert "violation" not in secured.log_text().lower()


async def test_a_publisher_reaches_its_own_workspace_and_no_other(secured, store):
    _, workspace = store
    async with publisher(secured, workspace) as sender:
        await sender.create({"content": "mine"})
    async with publisher(secured, OTHER, timeout_s=1, give_up_after_s=2) as sender:
        with pytest.raises(EngramError) as refused:
            await sender.create({"content": "yours"})
    assert refused.value.code == "nats_not_permitted"
    client, _ = await secured.connect("ingest")
    info = await client.jetstream().stream_info(str(topology.INGEST.name))
    assert info.state.messages == 1
    await client.close()


@pytest.mark.parametrize(
    "subject",
    ["engram.v1.memory.created", "engram.v1.memory.>", "engram.v1.ingest.*", ">", "_INBOX.>"]
    + [f"_INBOX.{name}.>" for name in SERVICES]
    + ["$JS.EVENT.ADVISORY.>"],
)
async def test_a_publisher_may_listen_to_its_own_inbox_only(secured, subject):
    client, refused = await secured.connect("publisher")
    await client.subscribe(subject)
    assert await told(refused, "permissions violation for subscription")
    await client.close()


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        ("publisher", "$JS.API.CONSUMER.CREATE.ENGRAM_MEMORY"),
        ("publisher", "$JS.API.CONSUMER.DURABLE.CREATE.ENGRAM_MEMORY.mine"),
        ("publisher", "$JS.API.CONSUMER.MSG.NEXT.ENGRAM_INGEST.ingest"),
        ("publisher", "$JS.API.STREAM.MSG.GET.ENGRAM_INGEST"),
        ("publisher", "$JS.API.DIRECT.GET.ENGRAM_INGEST"),
        ("publisher", "$JS.API.STREAM.PURGE.ENGRAM_INGEST"),
        ("publisher", "engram.v1.memory.created"),
        ("embedder", "$JS.API.CONSUMER.MSG.NEXT.ENGRAM_INGEST.ingest"),
        ("embedder", "$JS.API.CONSUMER.CREATE.ENGRAM_INGEST"),
        ("embedder", "$JS.API.STREAM.MSG.GET.ENGRAM_INGEST"),
        ("embedder", "$JS.API.STREAM.DELETE.ENGRAM_MEMORY"),
        ("embedder", "engram.v1.ingest.x"),
        ("ingest", "$JS.API.CONSUMER.MSG.NEXT.ENGRAM_MEMORY.embed-live-1"),
        ("ingest", "$JS.API.STREAM.DELETE.ENGRAM_INGEST"),
        ("curator", "$JS.API.CONSUMER.MSG.NEXT.ENGRAM_MEMORY.embed-live-1"),
        ("curator", "$JS.API.CONSUMER.MSG.NEXT.ENGRAM_INGEST.ingest"),
        ("curator", "$JS.API.STREAM.MSG.GET.ENGRAM_INGEST"),
        ("bootstrap", "$JS.API.CONSUMER.MSG.NEXT.ENGRAM_INGEST.ingest"),
        ("bootstrap", "engram.v1.memory.created"),
    ],
)
async def test_a_role_may_not_send_what_is_not_its_work(secured, user, subject):
    client, refused = await secured.connect(user)
    await client.publish(subject, b"{}")
    assert await told(refused, "permissions violation for publish")
    await client.close()


@pytest.mark.parametrize("user", ["bootstrap", *SERVICES])
async def test_a_role_hears_neither_messages_nor_answers_meant_for_others(secured, user):
    client, refused = await secured.connect(user)
    others = [f"_INBOX.{name}.>" for name in (*SERVICES, "publisher") if name != user]
    for number, subject in enumerate((*others, ingest_subject(OTHER), "_INBOX.>"), 1):
        await client.subscribe(subject)
        await eventually(lambda number=number: len(refused) >= number)
    assert all("permissions violation for subscription" in one for one in refused)
    await client.close()


async def test_nobody_connects_without_tls_or_without_a_login(secured):
    plain = f"nats://127.0.0.1:{secured.port}"
    for options in ({}, {"tls": secured.tls()}):
        with pytest.raises((nats.errors.Error, OSError)):
            await nats.connect(
                plain, allow_reconnect=False, max_reconnect_attempts=1, connect_timeout=2, **options
            )
