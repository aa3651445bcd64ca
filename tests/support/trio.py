"""Three NATS servers that form a cluster on loopback, each a process with a store of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import nats.errors
import nats.js.errors

from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.ports import HOST, Ports
from tests.support.servers import open_folder
from tests.support.wait import eventually

_ROOM_BYTES = 32 * 1024**3


class Member(NatsServer):
    """One server of a cluster.

    Args:
        folder: its own.
        member: its name.
        cluster_ports: of all members, by name.
    """

    def __init__(self, folder: Path, member: str, cluster_ports: dict[str, int]) -> None:
        super().__init__(folder)
        self.member = member
        self._cluster_ports = cluster_ports

    def _config(self) -> dict[str, object]:
        config = super()._config()
        jetstream = config["jetstream"]
        assert isinstance(jetstream, dict)
        # Three servers share this disk, and each would count on three quarters of what is free.
        jetstream["max_file_store"] = _ROOM_BYTES
        others = [port for name, port in self._cluster_ports.items() if name != self.member]
        return config | {
            "server_name": self.member,
            "cluster": {
                "name": "engram",
                "listen": f"{HOST}:{self._cluster_ports[self.member]}",
                "routes": [f"nats://{HOST}:{port}" for port in others],
            },
        }


class Trio:
    """The cluster.

    Attributes:
        members: the servers by name.
    """

    def __init__(self, members: dict[str, Member]) -> None:
        self.members = members

    @property
    def nats_url(self) -> str:
        """Every member's address, as ENGRAM_NATS_URL takes them."""
        return ",".join(member.nats_url for member in self.members.values())

    async def leader(self, stream: str) -> str:
        """Return the name of the member that leads a stream."""

        async def known() -> str:
            return (await self._leader(stream)) or ""

        return await eventually(known, 30, 0.1)

    async def _leader(self, stream: str) -> str | None:
        with contextlib.suppress(nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError):
            client = await nats.connect(self.nats_url.split(","), max_reconnect_attempts=1)
            try:
                info = await client.jetstream(timeout=2).stream_info(stream)
                return info.cluster.leader if info.cluster else None
            finally:
                await client.close()
        return None

    async def ready(self) -> None:
        """Wait until the members have chosen one among them who may make streams."""

        async def usable() -> bool:
            with contextlib.suppress(nats.errors.Error, nats.js.errors.Error, TimeoutError):
                client = await nats.connect(self.nats_url.split(","), max_reconnect_attempts=1)
                try:
                    await client.jetstream(timeout=2).account_info()
                    return True
                finally:
                    await client.close()
            return False

        await eventually(usable, 30, 0.1)


@contextlib.asynccontextmanager
async def nats_trio() -> AsyncIterator[Trio]:
    """Yield three servers in a cluster, each durable and free to be killed."""
    ports, names = Ports(), ("nats-1", "nats-2", "nats-3")
    cluster_ports = {name: ports.keep() for name in names}
    with open_folder("engram-test-trio-") as folder:
        members = {name: Member(folder / name, name, cluster_ports) for name in names}
        trio = Trio(members)
        try:
            # A member is ready only when most of them are there.
            await asyncio.gather(*(member.start() for member in members.values()))
            await trio.ready()
            yield trio
        finally:
            await asyncio.gather(*(member.stop() for member in members.values()))
            ports.release()
