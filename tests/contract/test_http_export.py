"""The export route: everything comes out, in pages, and goes into an empty store unchanged."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from engram.errors import UnavailableError
from engram.importers.reading import read_value
from engram.storage.connection import about
from engram.storage.keys import create_key
from engram_ingest import export as exporting_route
from tests.support.store import Store, client_of, open_store
from tests.support.wait import eventually

NEVER_OUT = {"version", "embedded"}


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few memories need several pages."""
    monkeypatch.setattr(exporting_route, "_PAGE", 3)


async def export(client: httpx.AsyncClient, **params: str) -> bytes:
    answer = await client.get("/v1/export", params=params)
    assert answer.status_code == 200, answer.text
    return answer.content


def lines(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.splitlines()]


async def filled(store: Store) -> None:
    """Store memories in every state, with every field, and one that is deleted."""
    await store.post(
        "Prefers ünicode 😀 and\nline breaks",
        user_id="alice",
        metadata={"n": 1.5, "list": [1, {"deep": None}], "big": 2**63, "text": 'a\\b"c'},
        categories=["x, y", 'quo"ted'],
        importance=0.1,
        pinned=True,
        expires_at="2040-01-01T00:00:00.000001Z",
        valid_until="2041-01-01T00:00:00+02:00",
        source="crm",
        external_id="c1",
    )
    await store.post("plain", namespace="team:x", session_id="s", app_id="a")
    first = await store.post("a repeat", external_id="r1")
    again = await store.post("a  repeat", external_id="r2")
    assert (again["merged_into"], first["id"] < again["id"]) == (first["id"], True)
    gone = await store.post("deleted")
    await store.client.delete(f"/v1/memories/{gone['id']}")
    await store.import_(
        [
            {"content": "no longer so", "namespace": "global", "state": "superseded"},
            {"content": "faded", "namespace": "global", "state": "archived", "access_count": 7,
             "last_accessed_at": "2026-01-05T00:00:00Z", "created_at": "2020-01-01T00:00:00Z",
             "updated_at": "2021-01-01T00:00:00Z"},
        ]
    )  # fmt: skip


async def apart(store: Store) -> None:
    """Make what no arrival could make: equal texts side by side, and a survivor that is younger."""
    one, two = await store.post("twin a"), await store.post("twin b")
    answer = await store.client.patch(f"/v1/memories/{two['id']}", json={"content": "twin a"})
    assert answer.status_code == 200
    old, new = await store.post("shorter"), await store.post("shorter, and longer")
    await store.sql.execute(
        "UPDATE engram.memory SET state = 'merged', merged_into = $2 WHERE id = $1::uuid",
        *(old["id"], new["id"]),
    )
    await store.sql.execute(
        "UPDATE engram.memory SET reinforced_at = '2026-02-03 04:05:06+00' WHERE id = $1::uuid",
        one["id"],
    )
    await store.sql.execute(
        "UPDATE engram.memory SET expires_at = '2026-02-03 04:05:06+00' WHERE content = 'plain'"
    )


async def test_export_into_an_empty_store_and_out_again_is_the_same_bytes(
    store: Store, small_pages: None
) -> None:
    await filled(store)
    await apart(store)
    first = await export(store.client)
    assert {line["state"] for line in lines(first)} == {
        "active", "merged", "superseded", "archived"
    }  # fmt: skip
    workspace, key = await store.other_workspace("empty")
    async with client_of(store.app, key) as other:
        answer = await other.post("/v1/memories/import", content=first)
        report = answer.json()
        assert (report["received"], report["failed"], report["skipped"]) == (10, 0, 0), report
        assert await export(other) == first
        again = (await other.post("/v1/memories/import", content=first)).json()
        assert (again["received"], again["duplicates"]) == (10, 10)
        assert await export(other) == first
    # By plain SQL: no column is lost that the document forgot to hold.
    assert await rows_of(store, workspace) == await rows_of(store, store.workspace)
    assert await export(store.client) == first


async def rows_of(store: Store, workspace: UUID) -> list[tuple[Any, ...]]:
    """Every column of every memory but those of history, its names, and who absorbed it."""
    rows = await store.sql.fetch(
        "SELECT to_jsonb(m) - ARRAY['workspace', 'version', 'versioned_at', 'versioned_by'], "
        "ARRAY(SELECT (a.source, a.external_id)::text FROM engram.memory_alias a "
        "WHERE a.workspace = m.workspace AND a.memory_id = m.id) "
        "FROM engram.memory m WHERE m.workspace = $1 AND m.state <> 'deleted' ORDER BY m.id",
        workspace,
    )
    return [tuple(row) for row in rows]


async def test_an_export_imported_where_it_came_from_adds_nothing_and_revives_nothing(
    store: Store,
) -> None:
    await filled(store)
    taken = await export(store.client)
    for line in lines(taken):
        if line["content"] in ("plain", "a repeat"):
            await store.client.delete(f"/v1/memories/{line['id']}")
    left = await export(store.client)
    report = (await store.client.post("/v1/memories/import", content=taken)).json()
    # The deleted survivor took the repeat that it had absorbed with it.
    assert (report["skipped"], report["duplicates"], report["imported"]) == (3, 3, 0)
    assert await export(store.client) == left


async def test_each_memory_comes_once_in_order_of_id_and_deleted_ones_never(
    store: Store, small_pages: None
) -> None:
    await filled(store)
    found = lines(await export(store.client))
    ids = [line["id"] for line in found]
    assert ids == sorted(set(ids))
    assert "deleted" not in {line["content"] for line in found}
    assert all(NEVER_OUT.isdisjoint(line) for line in found)
    assert len(found) == await store.count() - 1


async def test_a_namespace_exports_alone_and_embedded_is_told_on_request(store: Store) -> None:
    await filled(store)
    found = lines(await export(store.client, namespace="team:x", embedded="true"))
    assert [(line["content"], line["embedded"]) for line in found] == [("plain", False)]
    assert await export(store.client, namespace="user:nobody") == b""


async def test_a_memory_stored_while_an_export_runs_is_not_in_it(
    store: Store, small_pages: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(7):
        await store.post(f"before {n}")
    page = exporting_route.exporting.page

    async def slow(*args: Any) -> Any:
        rows = await page(*args)
        await store.post(f"meanwhile {uuid4()}")
        return rows

    monkeypatch.setattr(exporting_route.exporting, "page", slow)
    found = lines(await export(store.client))
    assert [line["content"] for line in found] == [f"before {n}" for n in range(7)]


async def test_a_page_is_asked_for_again_when_postgres_was_away(
    store: Store, small_pages: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        await store.post(f"m {n}")
    page, failed = exporting_route.exporting.page, []

    async def broken(*args: Any) -> Any:
        if len(failed) < 2:
            failed.append(1)
            raise UnavailableError("postgres_unavailable", "away")
        return await page(*args)

    monkeypatch.setattr(exporting_route, "_PAUSE_S", 0.01)
    monkeypatch.setattr(exporting_route.exporting, "page", broken)
    assert len(lines(await export(store.client))) == 4


async def test_mem0s_shape_holds_live_memories_as_mem0_lists_them(store: Store) -> None:
    await filled(store)
    body = json.loads(await export(store.client, format="mem0"))
    by_text = {item["memory"]: item for item in body["results"]}
    assert set(by_text) == {"Prefers ünicode 😀 and\nline breaks", "plain", "a repeat"}
    alice = by_text["Prefers ünicode 😀 and\nline breaks"]
    assert alice["user_id"] == "alice"
    assert (alice["expiration_date"], len(alice["hash"])) == ("2040-01-01", 32)
    assert by_text["plain"]["run_id"] == "s"
    assert by_text["plain"]["metadata"] == {"namespace": "team:x"}
    reading = read_value(body)
    assert reading.format == "mem0"
    assert [f.item and f.item["content"] for f in reading] == [i["memory"] for i in body["results"]]


async def test_agentmemorys_shape_is_read_as_its_own_export(
    store: Store, small_pages: None
) -> None:
    await filled(store)
    await store.sql.execute(
        "UPDATE engram.memory SET access_count = 3, last_accessed_at = '2026-01-05T00:00:00Z' "
        "WHERE content = 'plain'"
    )
    body = json.loads(await export(store.client, format="agentmemory"))
    assert {"version", "sessions", "memories", "summaries", "observations"} <= set(body)
    latest = {memory["content"]: memory["isLatest"] for memory in body["memories"]}
    assert latest["no longer so"] is False
    [log] = body["accessLogs"]
    assert log["count"] == 3
    assert log["memoryId"] in {memory["id"] for memory in body["memories"]}
    reading = read_value(body)
    found = {f.item["content"]: f.item for f in reading if f.item}
    assert reading.format == "agentmemory"
    assert set(found) == set(latest)
    assert found["no longer so"]["state"] == "superseded"
    assert found["plain"]["access_count"] == 3


@pytest.mark.parametrize("shape", ["native", "mem0", "agentmemory"])
async def test_an_empty_workspace_is_a_whole_document(store: Store, shape: str) -> None:
    body = await export(store.client, format=shape)
    assert body == b"" if shape == "native" else json.loads(body)


async def test_what_cannot_be_exported_is_refused_before_anything_is_sent(store: Store) -> None:
    wrong = await store.client.get("/v1/export", params={"format": "csv"})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "unknown_shape")
    wrong = await store.client.get("/v1/export", params={"namespace": " "})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_memory")


async def test_every_export_is_audited_also_one_that_was_cut_off(
    store: Store, small_pages: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(8):
        await store.post(f"memory {n}")
    await export(store.client, namespace="global")
    stuck = asyncio.Event()
    page = exporting_route.exporting.page

    async def stops(*args: Any) -> Any:
        if args[2].int:
            await stuck.wait()
        return await page(*args)

    monkeypatch.setattr(exporting_route.exporting, "page", stops)
    async with store.listening() as (host, port):
        headers = {"Authorization": f"Bearer {store.key}"}
        url = f"http://{host}:{port}/v1/export"
        async with httpx.AsyncClient() as client, client.stream("GET", url, headers=headers) as got:
            async for _ in got.aiter_bytes():
                break
        await eventually(lambda: audited(store, 2))
    cut, whole = await audited(store, 2)
    assert (cut["action"], whole["action"]) == ("export.cut_off", "export.finished")
    assert (whole["counts"]["memories"], whole["format"], whole["subject"]) == (
        8, "native", "global"
    )  # fmt: skip
    assert whole["duration_s"] >= 0
    assert whole["actor"] in store.key


async def audited(store: Store, count: int) -> list[dict[str, Any]]:
    answer = await store.client.get("/v1/audit", params={"kind": "export"})
    items: list[dict[str, Any]] = answer.json()["items"]
    assert len(items) == count
    return items


async def test_another_workspace_exports_only_its_own(store: Store) -> None:
    await filled(store)
    workspace, _ = await store.other_workspace()
    async with about(store.service.pool, [workspace]) as connection:
        reader, _ = await create_key(connection, workspace, "r", ["memories"], None, "test")
    async with client_of(store.app, reader.text) as other:
        assert await export(other) == b""
