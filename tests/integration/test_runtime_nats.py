"""The embedded NATS server: loopback only, one per store, its streams surviving a kill."""

import asyncio
import json
import os
import socket

import nats
import pytest

from engram.errors import UnavailableError
from engram_cli.runtime.nats import NatsServer
from tests.support.servers import listening_addresses, open_folder


async def test_acknowledged_messages_survive_kill_9_and_the_port_stays(nats_server):
    port = nats_server.port
    connection = await nats.connect(nats_server.nats_url)
    await connection.jetstream().add_stream(name="kept", subjects=["kept"])
    for number in range(20):
        await connection.jetstream().publish("kept", str(number).encode())
    await connection.close()
    nats_server.kill9()
    await nats_server.wait()
    await nats_server.start()
    assert nats_server.port == port
    connection = await nats.connect(nats_server.nats_url)
    info = await connection.jetstream().stream_info("kept")
    assert info.state.messages == 20
    await connection.close()


async def test_it_listens_on_loopback_only_and_asks_for_the_password(nats_server):
    assert listening_addresses(nats_server.port) == {"127.0.0.1"}
    reader, writer = await asyncio.open_connection("127.0.0.1", nats_server.port)
    assert (await reader.readline()).startswith(b"INFO ")
    writer.write(b'CONNECT {"user": "engram", "pass": "wrong", "verbose": true}\r\n')
    assert await reader.readline() == b"-ERR 'Authorization Violation'\r\n"
    writer.close()
    await writer.wait_closed()


async def test_its_configuration_and_password_are_private(nats_server):
    home = nats_server.data_dir / "nats"
    for name in ("server.conf", "password"):
        assert (home / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("ephemeral", [False, True])
async def test_only_an_ephemeral_store_acknowledges_before_it_is_on_the_disk(ephemeral):
    with open_folder() as folder:
        server = NatsServer(folder, ephemeral=ephemeral)
        await server.start()
        await server.stop()
        config = json.loads((folder / "nats" / "server.conf").read_text())
    assert config["jetstream"].get("sync_interval") == (None if ephemeral else "always")


async def test_two_servers_never_share_a_store(nats_server, monkeypatch):
    monkeypatch.setattr("engram_cli.runtime.nats._ORPHAN_PATIENCE_S", 0.05)
    with pytest.raises(UnavailableError) as refused:
        await NatsServer(nats_server.data_dir).start()
    assert refused.value.code == "data_dir_locked"
    assert f"process {os.getpid()}" in refused.value.detail
    assert str(nats_server.data_dir) in refused.value.detail


async def test_a_busy_port_is_refused_with_its_number_and_a_cure():
    with open_folder() as folder, socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UnavailableError) as refused:
            await NatsServer(folder, port).start()
    assert refused.value.code == "port_busy"
    assert str(port) in refused.value.detail
    assert "--nats-port 0" in refused.value.cure
