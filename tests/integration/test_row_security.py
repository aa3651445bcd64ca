"""Row-level security: no setting, no answer; a workspace sees itself; no table is forgotten."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from engram.domain.spaces import parse_embedding
from engram.errors import UnavailableError
from engram.serving.process import connected
from engram.storage.connection import about, open_pool
from engram.storage.spaces import create_space
from tests.support.store import Store, open_store

# What the system keeps for itself, without any workspace.
GLOBAL = {"engram.schema_version", "engram.space", "engram.sweep", "engram.migration",
          "engram.provider_budget", "engram.decay_clock", "engram.adapter", "engram.space_model",
          "engram.vector_index"}  # fmt: skip


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


async def tenant_tables(sql: asyncpg.Connection) -> list[tuple[str, str]]:
    rows = await sql.fetch(
        "SELECT c.oid::regclass::text AS name, a.attname AS owner FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_attribute a ON a.attrelid = c.oid "
        "WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('engram', 'engram_vec') "
        "AND (a.attname = 'workspace' OR (a.attname = 'id' AND c.relname = 'workspace'))"
    )
    return sorted((row["name"], row["owner"]) for row in rows)


async def test_every_table_with_a_workspace_forces_row_security_and_has_policies(
    store: Store,
) -> None:
    tables = await tenant_tables(store.sql)
    assert len(tables) >= 20
    for name, _ in tables:
        row = await store.sql.fetchrow(
            "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = $1::regclass",
            name,
        )
        assert tuple(row) == (True, True), name
        policies = await store.sql.fetch(
            "SELECT r::regrole::text AS role, pg_get_expr(p.polqual, p.polrelid) AS rule, polcmd "
            "FROM pg_policy p, unnest(p.polroles) r WHERE p.polrelid = $1::regclass",
            name,
        )
        rules = {policy["role"]: policy["rule"] for policy in policies}
        assert set(rules) == {"engram_api", "engram_worker"}, name
        assert "engram.workspaces" in rules["engram_api"], name
    every = await store.sql.fetch(
        "SELECT c.oid::regclass::text AS name FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('engram', 'engram_vec')"
    )
    assert {row["name"] for row in every} - {name for name, _ in tables} == GLOBAL


async def test_no_role_of_ours_gets_round_row_security(store: Store) -> None:
    rows = await store.sql.fetch(
        "SELECT rolname, rolsuper, rolbypassrls, rolcanlogin FROM pg_roles "
        "WHERE rolname LIKE 'engram%'"
    )
    assert {row["rolname"] for row in rows} == {
        "engram", "engram_api", "engram_worker", "engram_vec",
    }  # fmt: skip
    assert not any(row["rolsuper"] or row["rolbypassrls"] for row in rows)
    assert [row["rolname"] for row in rows if row["rolcanlogin"]] == ["engram"]


async def filled(store: Store) -> str:
    """Put a row of two workspaces into every table that a workspace has; return the other one."""
    other, _ = await store.other_workspace()
    for name, owner in await tenant_tables(store.sql):
        if owner == "id" or name == "engram.api_key":
            continue
        columns = await store.sql.fetch(
            "SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute "
            "WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped "
            "AND attidentity = ''",
            name,
        )
        checks = {
            "state": "'active'",
            "kind": "'ingest'",
            "event": "'created'",
            "phase": "'steady'",
        }
        special = {
            "engram.merge": {"kind": "'repeat'"},
            "engram.dedup_run": {"state": "'done'"},
            "engram.decay_run": {"state": "'done'"},
            "engram.proposal": {"state": "'open'"},
            "engram.conflict": {"state": "'open'"},
            "engram.import_job": {"state": "'done'"},
            "engram.import_item": {"role": "'kept'"},
            "engram.migration_namespace": {"state": "'waiting'"},
        }
        values = {
            "uuid": "gen_random_uuid()", "uuid[]": "'{}'", "text": "'x'", "text[]": "'{}'",
            "jsonb": "'{}'", "bytea": "''", "boolean": "false", "xid8": "'1'",
            "timestamp with time zone": "now()",
        }  # fmt: skip
        row = []
        for column in columns:
            known = special.get(name, {}).get(column["attname"]) or checks.get(column["attname"])
            if column["attname"] == "workspace":
                row.append("$1")
            elif column["attname"] == "high":
                row.append("'ffffffff-ffff-ffff-ffff-ffffffffffff'")
            elif column["type"].startswith("halfvec"):
                row.append("array_fill(1, ARRAY[256])::halfvec")
            else:
                row.append(known or values.get(column["type"], "1"))
        names = ", ".join(column["attname"] for column in columns)
        for workspace in (store.workspace, other):
            await store.sql.execute(
                f"INSERT INTO {name} ({names}) VALUES ({', '.join(row)})", workspace
            )
    return str(other)


async def test_the_api_role_sees_just_the_workspaces_it_lists_in_every_table(
    store: Store, database_url: str
) -> None:
    other = await filled(store)
    async with await open_pool(database_url, "engram_api", size=1, name="test") as pool:
        for name, owner in await tenant_tables(store.sql):
            for listed in ([store.workspace], [store.workspace, other]):
                async with about(pool, listed) as connection:
                    seen = await connection.fetch(f"SELECT DISTINCT {owner} AS w FROM {name}")
                    assert {str(row["w"]) for row in seen} == {str(one) for one in listed}, name


async def test_the_api_role_writes_into_no_workspace_it_does_not_list(
    store: Store, database_url: str
) -> None:
    other = await filled(store)
    async with await open_pool(database_url, "engram_api", size=1, name="test") as pool:
        for name, owner in await tenant_tables(store.sql):
            if owner == "id" or name in ("engram.outbox", "engram.audit"):
                continue
            readable = name.startswith("engram_vec")
            async with about(pool, [store.workspace]) as connection:
                assert await connection.execute(
                    f"DELETE FROM {name} WHERE workspace = $1", other
                ) == ("DELETE 0"), name
            if readable:
                continue
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with about(pool, [store.workspace]) as connection:
                    await connection.execute(f"UPDATE {name} SET workspace = $1", other)


async def test_without_the_setting_the_api_role_gets_an_error_not_an_empty_answer(
    store: Store, database_url: str
) -> None:
    await filled(store)
    for used_before in (False, True):
        async with await open_pool(database_url, "engram_api", size=1, name="test") as pool:
            if used_before:
                async with about(pool, [store.workspace]) as connection:
                    await connection.execute("SELECT 1")
            for name, _ in await tenant_tables(store.sql):
                with pytest.raises(asyncpg.PostgresError):
                    await pool.fetch(f"SELECT * FROM {name}")


async def test_a_superusers_dsn_still_acts_under_row_security(
    superuser_url: str, nats_url: str
) -> None:
    async with open_store(superuser_url, nats_url, superuser_url=superuser_url) as store:
        await store.post("tea")
        other, _ = await store.other_workspace()
        async with await open_pool(superuser_url, "engram_api", size=1, name="test") as pool:
            assert await pool.fetchval("SELECT current_user") == "engram_api"
            async with about(pool, [other]) as connection:
                assert await connection.fetch("SELECT * FROM engram.memory") == []
            with pytest.raises(asyncpg.PostgresError):
                await pool.fetch("SELECT * FROM engram.memory")


async def test_the_owner_of_the_tables_sees_no_tenant_row(store: Store, database_url: str) -> None:
    await store.post("tea")
    login = await asyncpg.connect(database_url)
    assert await login.fetch("SELECT * FROM engram.memory") == []
    await login.close()


@pytest.mark.parametrize(
    "harm",
    [
        "CREATE TABLE engram_vec.space_7 (workspace uuid)",
        "ALTER TABLE engram_vec.space_1 NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE engram_vec.space_1 DISABLE ROW LEVEL SECURITY",
        "DROP POLICY of_workspace ON engram_vec.space_1; DROP POLICY worker ON engram_vec.space_1",
    ],
)
async def test_a_service_does_not_start_on_an_unguarded_vector_table(
    store: Store, harm: str
) -> None:
    await store.sql.execute(harm)
    with pytest.raises(UnavailableError) as refused:
        async with asyncio.timeout(10), connected("test", store.settings):
            pass
    assert refused.value.code == "unguarded_vectors"
    assert "space_" in refused.value.detail


async def test_vector_tables_belong_to_a_role_that_owns_nothing_else(
    store: Store, database_url: str
) -> None:
    login = await asyncpg.connect(database_url)
    await create_space(login, parse_embedding("hashing@16"), deterministic=True)
    await login.close()
    owners = await store.sql.fetch(
        "SELECT n.nspname, c.relowner::regrole::text AS owner FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' "
        "AND n.nspname IN ('engram', 'engram_vec') GROUP BY 1, 2"
    )
    assert {tuple(row) for row in owners} == {("engram", "engram"), ("engram_vec", "engram_vec")}
