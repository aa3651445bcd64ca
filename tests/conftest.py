"""Fixtures every test may ask for: a migrated database, a NATS server, and ones to break."""

from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

from engram_cli.runtime.nats import NatsServer
from engram_cli.runtime.postgres import PostgresServer
from tests.support import servers
from tests.support.memory_disk import use_memory_for_temporary_files

use_memory_for_temporary_files()
# Its tracebacks show every variable of every frame, and take seconds for it.
structlog.configure(
    [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
)


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[PostgresServer]:
    """One server per pytest process; ask for ``database_url`` instead of using it directly."""
    with servers.shared_postgres() as server:
        yield server


@pytest.fixture
async def database_name(shared_postgres: PostgresServer) -> AsyncIterator[str]:
    """Name of this test's own freshly migrated database."""
    async with servers.cloned_database(shared_postgres) as name:
        yield name


@pytest.fixture
def database_url(shared_postgres: PostgresServer, database_name: str) -> str:
    """DSN of this test's own freshly migrated database, as the login role ``engram``."""
    return shared_postgres.dsn(database_name)


@pytest.fixture
def superuser_url(shared_postgres: PostgresServer, database_name: str) -> str:
    """DSN of the same database as ``database_url``, as the superuser."""
    return shared_postgres.superuser_dsn(database_name)


@pytest.fixture
async def nats_url() -> AsyncIterator[str]:
    """Address of this test's own, empty NATS server with JetStream."""
    async with servers.private_nats() as server:
        yield server.nats_url


@pytest.fixture
async def nats_server() -> AsyncIterator[NatsServer]:
    """A NATS server of this test's own with a synced store: ``kill9()``, ``restart()``."""
    async with servers.private_nats(durable=True) as server:
        yield server


@pytest.fixture
async def postgres_server() -> AsyncIterator[PostgresServer]:
    """A durable PostgreSQL of this test's own, migrated: ``kill9()``, ``restart()``."""
    async with servers.private_postgres() as server:
        yield server
