"""A NATS server under deploy/nats/secure.conf: TLS, and a login for each role."""

import contextlib
import os
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import nats
from nats.aio.client import Client

from engram_cli.runtime.binaries import nats_server
from engram_cli.runtime.children import Child, ChildSpec, start_child
from engram_cli.runtime.ports import Ports
from tests.meta.checkout import ROOT
from tests.support.servers import open_folder
from tests.support.wait import eventually


@dataclass
class SecuredNats:
    """A running server.

    Attributes:
        folder: stands for the root of the container: ``etc/nats`` and ``run/secrets`` are below.
    """

    folder: Path
    port: int
    child: Child

    @property
    def secrets(self) -> Path:
        """Where the container would find its secrets."""
        return self.folder / "run/secrets"

    @property
    def ca_bundle(self) -> Path:
        """What services trust."""
        return self.secrets / "ca_bundle"

    def log_text(self) -> str:
        """Return everything the server has logged; refusals are called violations there."""
        return self.child.log_text()

    def url(self, user: str) -> str:
        """Return the address with the login of a role."""
        password = (self.secrets / f"{user}_password").read_text()
        return f"tls://{user}:{password}@127.0.0.1:{self.port}"

    def tls(self) -> ssl.SSLContext:
        """Return a context that trusts our own authority only."""
        return ssl.create_default_context(cafile=str(self.secrets / "ca_certificate"))

    async def connect(self, user: str) -> tuple[Client, list[str]]:
        """Connect as a role, and collect what the server refuses it."""
        refused: list[str] = []

        async def note(error: Exception) -> None:
            refused.append(str(error).lower())

        client = await nats.connect(
            self.url(user), tls=self.tls(), error_cb=note, inbox_prefix=f"_INBOX.{user}"
        )
        return client, refused

    async def allow_publisher(self, workspace: str) -> None:
        """Do what docs/deploy.md says: name the workspace, and have the server read it."""
        make_secrets(self.secrets, "--workspace", workspace)
        before = self.log_text().count("Reloaded")
        self.child.send(signal.SIGHUP)
        await eventually(lambda: self.log_text().count("Reloaded") > before)


def make_secrets(folder: Path, *options: str) -> None:
    """Run the script that a person runs."""
    script = ROOT / "deploy/compose/make-secrets.sh"
    subprocess.run(["/bin/sh", str(script), *options, str(folder)], check=True, capture_output=True)


@contextlib.asynccontextmanager
async def secured_nats() -> AsyncIterator[SecuredNats]:
    """Yield a server of one test's own, its paths and ports moved and nothing else changed."""
    ports = Ports()
    with open_folder("engram-test-secured-") as folder:
        make_secrets(folder / "run/secrets")
        port = ports.keep()
        config = folder / "etc/nats/secure.conf"
        config.parent.mkdir(parents=True)
        config.write_text(_moved(folder, port, ports.keep()))
        child = start_child(
            ChildSpec(
                name="nats",
                argv=(str(nats_server()), "-c", str(config)),
                log_path=folder / "nats.log",
                env={"PATH": os.environ.get("PATH", "")},
                cwd=folder,
            )
        )
        server = SecuredNats(folder, port, child)
        try:
            await eventually(lambda: _ready(server), 30)
            yield server
        finally:
            await child.stop(signal.SIGTERM, 10)
            ports.release()


def _moved(folder: Path, port: int, http_port: int) -> str:
    text = (ROOT / "deploy/nats/secure.conf").read_text()
    for ours, its in (
        ('"/run/secrets/', f'"{folder}/run/secrets/'),
        ('"/data"', f'"{folder}/data"'),
        ("http_port: 8222", f'http: "127.0.0.1:{http_port}"'),
        ("port: 4222", f'listen: "127.0.0.1:{port}"'),
    ):
        assert ours in text
        text = text.replace(ours, its)
    return text


def _ready(server: SecuredNats) -> bool:
    log = server.log_text()
    assert server.child.running(), log
    return "Server is ready" in log


async def told(refused: list[str], what: str) -> bool:
    """Wait until the server has refused something in these words."""
    return await eventually(lambda: any(what in one for one in refused))
