"""Plans and verbs over HTTP: what they count, what blocks, what is refused, and by whom."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from engram.domain.spaces import parse_embedding
from engram.storage.spaces import create_space
from engram_cli.bench.fake_provider import FakeProvider
from tests.support.migrating import asked, planned
from tests.support.store import SCOPES, Store, client_of, open_store

DIMENSIONS = 32
TARGET = f"openai:local-model@{DIMENSIONS}"
NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
async def fake() -> AsyncIterator[FakeProvider]:
    """The provider of the new space."""
    async with FakeProvider(DIMENSIONS) as server:
        yield server


@pytest.fixture
async def store(
    database_url: str, superuser_url: str, nats_url: str, fake: FakeProvider
) -> AsyncIterator[Store]:
    async with open_store(
        database_url,
        nats_url,
        superuser_url=superuser_url,
        openai_base_url=fake.url,
        provider_price=2.0,
    ) as opened:
        yield opened


async def everything(store: Store) -> dict[str, Any]:
    """Return a fingerprint of every table but those that a plan may write."""
    tables = await store.sql.fetch(
        "SELECT c.oid::regclass::text AS name FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' "
        "AND n.nspname LIKE 'engram%'"
    )
    own = {"engram.migration", "engram.audit", "engram.outbox", "engram.idempotency"}
    return {
        row["name"]: await store.sql.fetchval(
            f"SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) "
            f"FROM {row['name']} t"
        )
        for row in tables
        if row["name"] not in own
    }


async def test_a_plan_counts_and_changes_nothing(store: Store, fake: FakeProvider) -> None:
    for n in range(30):
        await store.post(
            f"likes tea number {n % 20}", namespace=f"user:{n % 3}", external_id=str(n)
        )
    active = await store.count("active")
    before = await everything(store)
    plan = (await planned(store, TARGET))["plan"]
    assert await everything(store) == before
    texts = await store.sql.fetchval("SELECT count(DISTINCT content_sha256) FROM engram.memory "
                                     "WHERE state = 'active'")  # fmt: skip
    assert (plan["rows"], plan["distinct"]) == (active, texts)
    assert plan["namespaces"] == 3
    assert plan["workspaces"] == 1
    assert plan["tokens"] > 0
    assert plan["cost_usd"] == pytest.approx(plan["tokens"] * 2e-6)
    assert plan["eta_from"] == "measured"
    assert plan["blockers"] == []
    assert fake.requests.texts == 1 + min(64, active)


async def test_the_provider_counts_the_tokens_that_the_estimate_is_corrected_by(
    store: Store, fake: FakeProvider
) -> None:
    await store.post("likes tea")
    guessed = (await planned(store, TARGET, measure=False))["plan"]
    assert fake.requests.calls == 0
    counted = (await planned(store, TARGET))["plan"]
    assert counted["tokens"] == fake.requests.tokens / 2
    assert guessed["eta_s"] is None


async def test_a_text_that_the_target_has_already_is_not_counted(store: Store) -> None:
    await store.post("likes tea", namespace="user:a")
    other = await store.post("likes coffee", namespace="user:a")
    async with store.service.pool.acquire() as connection:
        made = await create_space(connection, parse_embedding(TARGET), deterministic=True)
    await store.sql.execute(
        f"INSERT INTO engram_vec.space_{made.id} (workspace, namespace, memory_id, version, "
        f"embedding) SELECT $1, 'user:a', id, 1, array_fill(1, ARRAY[{DIMENSIONS}])::halfvec "
        "FROM engram.memory WHERE id = $2::text::uuid",
        *(store.workspace, other["id"]),
    )
    plan = (await planned(store, TARGET))["plan"]
    assert (plan["rows"], plan["distinct"]) == (1, 1)


async def codes(store: Store, to: str, **fields: Any) -> list[str]:
    found = await planned(store, to, **fields)
    return [blocker["code"] for blocker in found["plan"]["blockers"]]


async def test_what_would_block_is_said_with_a_cure(store: Store, fake: FakeProvider) -> None:
    assert await codes(store, "hashing@256") == ["same_space"]
    assert await codes(store, "voyage") == ["missing_key"]
    fake.script("status", status=503, times=None)
    await store.post("likes tea")
    assert await codes(store, TARGET) == ["target_unavailable"]
    fake.clear()
    for dimensions in range(8, 15):
        async with store.service.pool.acquire() as connection:
            spec = parse_embedding(f"hashing@{dimensions}")
            await create_space(connection, spec, deterministic=True)
    assert await codes(store, TARGET) == ["too_many_spaces"]
    await store.sql.execute("UPDATE engram.migration SET phase = 'backfill' WHERE id = "
                            "(SELECT id FROM engram.migration ORDER BY id LIMIT 1)")  # fmt: skip
    assert await codes(store, "hashing@8") == ["migration_under_way"]


async def test_verbs_are_refused_with_a_reason_until_their_condition_holds(store: Store) -> None:
    plan = await planned(store, TARGET, measure=False)
    for verb, code in (
        ("verify", "wrong_phase"), ("cutover", "wrong_phase"), ("release", "wrong_phase"),
        ("rollback", "wrong_phase"), ("pause", "wrong_phase"), ("explode", "verb_not_found"),
    ):  # fmt: skip
        refused = await store.client.post(f"/v1/migrations/{plan['id']}/{verb}")
        assert refused.status_code == (404 if verb == "explode" else 409)
        assert refused.json()["code"] == code
        assert refused.json()["detail"]
    first = await asked(store, plan, "start")
    again = await asked(store, plan, "start")
    assert first["wish"] == again["wish"] == "start"
    entries = await store.sql.fetchval(
        "SELECT count(*) FROM engram.audit WHERE action = 'migration.asked'"
    )
    assert entries == 1
    busy = await store.client.post(f"/v1/migrations/{plan['id']}/verify")
    assert busy.json()["code"] == "wrong_phase"
    unknown = await store.client.post(f"/v1/migrations/{NOBODY}/start")
    assert unknown.json()["code"] == "migration_not_found"


async def test_a_plan_is_made_once_for_an_idempotency_key(store: Store) -> None:
    headers = {"Idempotency-Key": "plan-1"}
    body = {"to": TARGET, "measure": False}
    one = await store.client.post("/v1/migrations", json=body, headers=headers)
    two = await store.client.post("/v1/migrations", json=body, headers=headers)
    assert one.json()["id"] == two.json()["id"]
    other = await store.client.post("/v1/migrations", json={"to": "null"}, headers=headers)
    assert other.status_code == 422
    listed = (await store.client.get("/v1/migrations")).json()["items"]
    assert [item["id"] for item in listed] == [one.json()["id"]]


async def test_lists_go_on_where_a_page_ended(store: Store) -> None:
    made = [(await planned(store, TARGET, measure=False))["id"] for _ in range(3)]
    first = (await store.client.get("/v1/migrations", params={"limit": 2})).json()
    rest = await store.client.get(
        "/v1/migrations", params={"limit": 2, "cursor": first["next_cursor"]}
    )
    found = [item["id"] for item in first["items"] + rest.json()["items"]]
    assert found == made[::-1]


async def test_spaces_and_migrations_need_a_key_of_an_operator(store: Store) -> None:
    plan = await planned(store, TARGET, measure=False)
    key = await store.key_of(store.workspace, [SCOPES[0]])
    async with client_of(store.app, key) as client:
        for verb, path in (
            ("GET", "/v1/spaces"), ("GET", "/v1/migrations"), ("POST", "/v1/migrations"),
            ("GET", f"/v1/migrations/{plan['id']}"), ("PATCH", f"/v1/migrations/{plan['id']}"),
            ("GET", f"/v1/migrations/{plan['id']}/namespaces"),
            ("GET", f"/v1/migrations/{plan['id']}/mismatches"),
            ("POST", f"/v1/migrations/{plan['id']}/start"),
        ):  # fmt: skip
            answer = await client.request(verb, path, json={"to": TARGET})
            assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), path


async def test_spaces_are_shown_with_who_reads_them(store: Store) -> None:
    [space] = (await store.client.get("/v1/spaces")).json()["items"]
    assert space["key"] == "hashing:ngram-1@256"
    assert space["workspaces"] is None
    assert space["workspaces_reading"] == 1
    assert space["state"] == "active"


async def test_workspaces_that_are_not_known_cannot_be_chosen(store: Store) -> None:
    answer = await store.client.post("/v1/migrations", json={"to": TARGET, "workspaces": ["x"]})
    assert answer.status_code == 404
    assert answer.json()["code"] == "workspace_not_found"


async def test_an_option_that_does_not_fit_is_refused_and_one_that_does_is_kept(
    store: Store,
) -> None:
    plan = await planned(store, TARGET, measure=False)
    path = f"/v1/migrations/{plan['id']}"
    assert (await store.client.patch(path, json={"share": 0})).status_code == 422
    changed = await store.client.patch(path, json={"share": 0.25})
    assert changed.json()["options"]["share"] == 0.25
    assert changed.json()["options"]["order"] == "most_read"
