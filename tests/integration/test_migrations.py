"""Schema and migrations: two ways to one catalog, safe at once and again, refused when newer."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from engram.errors import UnavailableError
from engram.serving.process import connected
from engram.settings import Settings
from engram.storage.migrate import current_version, expected_version, migrate, migrations
from engram_cli.runtime.postgres import PostgresServer

# Everything that two schemas could differ in, each row one text.
CATALOG = {
    "relations": """
        SELECT c.oid::regclass, c.relkind, c.relowner::regrole, c.reloptions, c.relacl,
               c.relrowsecurity, c.relforcerowsecurity
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname LIKE 'engram%'""",
    "columns": """
        SELECT a.attrelid::regclass, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
               a.attnotnull, a.attidentity, a.attstorage, a.attacl,
               pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE n.nspname LIKE 'engram%' AND a.attnum > 0 AND NOT a.attisdropped""",
    "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname LIKE 'engram%'",
    "constraints": """
        SELECT conrelid::regclass, conname, pg_get_constraintdef(k.oid), convalidated
        FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
        WHERE n.nspname LIKE 'engram%'""",
    "policies": """
        SELECT schemaname, tablename, policyname, permissive, roles, cmd, qual, with_check
        FROM pg_policies""",
    "functions": """
        SELECT pg_get_functiondef(p.oid), p.proowner::regrole, p.proacl, p.prosecdef
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname LIKE 'engram%'""",
    "schemas": "SELECT nspname, nspowner::regrole, nspacl FROM pg_namespace "
    "WHERE nspname LIKE 'engram%'",
    "triggers": "SELECT tgname, tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal",
    "version": "SELECT version, name FROM engram.schema_version",
    "extensions": "SELECT extname, extversion FROM pg_extension",
}


@pytest.fixture
async def empty_url(shared_postgres: PostgresServer) -> AsyncIterator[str]:
    """DSN of a new database without any schema of ours."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    admin = await asyncpg.connect(shared_postgres.superuser_dsn("postgres"))
    await admin.execute(f"CREATE DATABASE {name} OWNER engram TEMPLATE template1")
    inside = await asyncpg.connect(shared_postgres.superuser_dsn(name))
    await inside.execute("CREATE EXTENSION IF NOT EXISTS vector")
    await inside.close()
    yield shared_postgres.dsn(name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


async def catalog(url: str) -> dict[str, list[str]]:
    connection = await asyncpg.connect(url)
    try:
        return {
            name: sorted(str(tuple(row)) for row in await connection.fetch(sql))
            for name, sql in CATALOG.items()
        }
    finally:
        await connection.close()


async def test_the_schema_and_the_migrations_make_the_same_catalog(
    empty_url: str, database_url: str
) -> None:
    assert await migrate(empty_url, step_by_step=True) == expected_version()
    by_steps, at_once = await catalog(empty_url), await catalog(database_url)
    for name in CATALOG:
        assert by_steps[name] == at_once[name], name
    assert len(at_once["relations"]) > 40
    assert len(at_once["policies"]) > 30


async def test_migrations_are_numbered_from_one_without_a_gap() -> None:
    assert [version for version, _ in migrations()] == list(range(1, expected_version() + 1))


async def test_many_may_migrate_an_empty_database_at_once(empty_url: str) -> None:
    made = await asyncio.gather(*(migrate(empty_url, step_by_step=n % 2 == 0) for n in range(6)))
    assert set(made) == {expected_version()}


async def test_migrating_again_changes_nothing(database_url: str) -> None:
    before = await catalog(database_url)
    assert await migrate(database_url) == expected_version()
    assert await catalog(database_url) == before


async def test_rows_written_under_the_first_schema_are_there_after_the_last(
    empty_url: str, shared_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engram.storage import migrate as module

    every = migrations()
    monkeypatch.setattr(module, "migrations", lambda: every[:1])
    assert await migrate(empty_url, step_by_step=True) == 1
    superuser = shared_postgres.superuser_dsn(empty_url.rpartition("/")[2])
    connection = await asyncpg.connect(superuser)
    await connection.execute(
        "INSERT INTO engram.idempotency (workspace, key, request_sha256, status, body) "
        "VALUES (gen_random_uuid(), 'k', '', 201, 'kept')"
    )
    monkeypatch.setattr(module, "migrations", lambda: every)
    assert await migrate(empty_url) == expected_version()
    row = await connection.fetchrow("SELECT key, body FROM engram.idempotency")
    await connection.close()
    assert tuple(row) == ("k", b"kept")


async def test_a_newer_schema_is_refused_by_migration_and_by_every_service(
    database_url: str, nats_url: str
) -> None:
    login = await asyncpg.connect(database_url)
    await login.execute("INSERT INTO engram.schema_version (version, name) VALUES (999, 'new')")
    assert await current_version(login) == 999
    await login.close()
    with pytest.raises(UnavailableError) as refused:
        await migrate(database_url)
    assert refused.value.code == "schema_too_new"
    settings = Settings(database_url=database_url, nats_url=nats_url)
    with pytest.raises(UnavailableError) as stopped:
        async with connected("test", settings):
            pass
    assert stopped.value.code == "wrong_schema"


async def test_a_database_without_our_schema_tells_to_bootstrap(
    empty_url: str, nats_url: str
) -> None:
    settings = Settings(database_url=empty_url, nats_url=nats_url)
    made = await asyncpg.connect(empty_url)
    assert await current_version(made) == 0
    await made.close()
    with pytest.raises(UnavailableError) as refused:
        async with connected("test", settings):
            pass
    assert "bootstrap" in refused.value.cure


async def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(UnavailableError) as refused:
        await migrate("postgresql://engram:hunter2@127.0.0.1:1/engram")
    assert refused.value.code == "postgres_unavailable"
    assert "hunter2" not in str(refused.value)
