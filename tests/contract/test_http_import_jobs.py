"""Imports as jobs by HTTP: told how far they are, why items failed, ended, undone, kept apart."""

import asyncio
import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.support.runners import take_over
from tests.support.store import Store, client_of, open_store
from tests.support.wait import eventually

COUNTS = ("imported", "updated", "duplicates", "superseded", "skipped", "failed")
ROUTE = "/v1/memories/import"


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(
        database_url,
        nats_url,
        superuser_url=superuser_url,
        import_jobs_limit=2,
        import_max_bytes=20_000_000,
        import_max_items=5_000,
    ) as opened:
        yield opened


def lines(count: int, start: int = 0, **fields: Any) -> bytes:
    items = (
        {"content": f"fact number {n}", "user_id": f"u{n % 3}", "external_id": str(n), **fields}
        for n in range(start, start + count)
    )
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


async def begin(store: Store, body: bytes, **params: str) -> str:
    answer = await store.client.post(ROUTE, content=body, params=params)
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


async def job_at(store: Store, location: str) -> dict[str, Any]:
    job: dict[str, Any] = (await store.client.get(location)).json()
    assert job["received"] == sum(job[name] for name in COUNTS)
    return job


async def ended(store: Store, location: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        job = await job_at(store, location)
        return None if job["state"] in ("queued", "running") else job

    return await eventually(look, 30)


async def do(store: Store, body: bytes, **params: str) -> dict[str, Any]:
    return await ended(store, await begin(store, body, **params))


async def holding(store: Store) -> Callable[[], None]:
    """Keep jobs from beginning, until the returned function is called."""
    released = asyncio.Event()

    async def held() -> bool:
        await released.wait()
        return await work()

    work = await take_over(store, held)
    return released.set


async def test_a_job_says_how_far_it_is_and_why_items_failed(store: Store) -> None:
    body = lines(600) + b"nonsense\n" + lines(600, 600) + b'{"content": ""}\n'
    location = await begin(store, body)
    job = await ended(store, location)
    assert (job["state"], job["format"], job["strategy"]) == ("done", "native", "skip")
    assert (job["received"], job["imported"], job["failed"]) == (1202, 1200, 2)
    assert job["by_namespace"] == {"user:u0": 400, "user:u1": 400, "user:u2": 400}
    assert job["started_at"] <= job["finished_at"]
    answer = await store.client.get(f"{location}/errors")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    first, second = (json.loads(line) for line in answer.text.splitlines())
    assert list(first) == ["line", "index", "external_id", "code", "pointer", "detail"]
    assert (first["line"], first["index"], first["code"]) == (601, 600, "malformed_json")
    assert (second["line"], second["index"], second["code"]) == (1202, 1201, "empty")
    listed = (await store.client.get("/v1/imports")).json()
    assert [one["id"] for one in listed["items"]] == [job["id"]]
    await eventually(lambda: store.sql.fetchval("SELECT count(*) = 0 FROM engram.import_chunk"))


async def test_a_job_tells_how_many_of_its_memories_are_embedded(
    database_url: str, nats_url: str
) -> None:
    async with open_store(database_url, nats_url, embedder=True) as store:
        await store.post("not of the import")
        location = await begin(store, lines(700))

        async def embedded() -> bool:
            job = await job_at(store, location)
            return job["embedded"] == 700 and job["pending"] == 0 and job["eta_s"] == 0

        await eventually(embedded, 30)


async def test_a_cancelled_job_stops_and_what_it_stored_stays(store: Store) -> None:
    release = await holding(store)
    location = await begin(store, lines(3_000))
    assert (await job_at(store, location))["state"] == "queued"
    answer = await store.client.post(f"{location}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    release()
    assert (await store.client.post(f"{location}/cancel")).json()["state"] == "cancelled"
    assert await store.count() == 0
    done = await do(store, lines(600))
    answer = await store.client.post(f"/v1/imports/{done['id']}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "import_ended")


async def test_a_workspace_has_a_limit_of_open_jobs_that_is_said_clearly(store: Store) -> None:
    release = await holding(store)
    first = await begin(store, lines(600))
    second = await begin(store, lines(600, 600))
    assert (await job_at(store, second))["ahead"] == 1
    answer = await store.client.post(ROUTE, content=lines(600, 1200))
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_imports")
    assert answer.headers["retry-after"]
    small = await store.client.post(ROUTE, content=lines(3, 5000))
    assert small.status_code == 200
    release()
    assert (await ended(store, first))["imported"] == 600
    assert (await ended(store, second))["imported"] == 600


async def test_a_body_above_the_limit_is_refused_and_nothing_of_it_stays(store: Store) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b'{"content": "x"}\n' * 10_000

    for content in (b"x" * 20_000_001, endless()):
        answer = await store.client.post(ROUTE, content=content)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert await store.count() == 0
    assert (await store.client.get("/v1/imports")).json()["items"] == []
    await eventually(lambda: store.sql.fetchval("SELECT count(*) = 0 FROM engram.import_job"))
    assert await store.sql.fetchval("SELECT count(*) FROM engram.import_chunk") == 0


async def test_more_items_than_allowed_end_the_import_with_the_reason(store: Store) -> None:
    job = await do(store, lines(5_001))
    assert (job["state"], job["error"]["code"]) == ("failed", "too_many_items")
    assert (job["received"], await store.count()) == (5_000, 5_000)


async def test_a_bomb_is_refused_wherever_it_hides_and_nothing_is_stored(store: Store) -> None:
    blast = b'{"content": "' + b"x" * 60_000_000 + b'"}'
    for bomb in (gzip.compress(blast), gzip.compress(lines(1_000) + blast)):
        answer = await store.client.post(ROUTE, content=bomb)
        assert (answer.status_code, answer.json()["code"]) == (413, "compression_bomb")
    assert await store.count() == 0


async def test_more_text_than_bytes_is_a_job(store: Store) -> None:
    # A twentieth of its size when packed: far from a bomb.
    words = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(900)]
    items = [{"content": f"{word} " * 15 + " ".join(words[n : n + 30]) * 10, "user_id": "u"}
             for n, word in enumerate(words)]  # fmt: skip
    body = gzip.compress(b"".join(json.dumps(item).encode() + b"\n" for item in items))
    assert len(body) < 4_000_000
    job = await do(store, body)
    assert (job["state"], job["imported"]) == ("done", 900)


async def test_a_damaged_file_ends_where_it_is_damaged(store: Store) -> None:
    items = [{"content": f"fact {n}"} for n in range(700)]
    job = await do(store, json.dumps(items).encode()[:-200])
    assert (job["state"], job["error"]["code"]) == ("failed", "malformed_json")
    assert 0 < job["imported"] == await store.count() < 700


async def test_the_same_key_makes_one_job_and_another_body_is_refused(store: Store) -> None:
    headers = {"Idempotency-Key": "one"}
    answers = [await store.client.post(ROUTE, content=lines(600), headers=headers) for _ in "ab"]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].headers["location"] == answers[1].headers["location"]
    assert answers[1].headers["idempotency-replayed"] == "true"
    other = await store.client.post(ROUTE, content=lines(601), headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    await ended(store, answers[0].headers["location"])
    assert len((await store.client.get("/v1/imports")).json()["items"]) == 1
    await eventually(lambda: store.sql.fetchval("SELECT count(*) = 1 FROM engram.import_job"))


async def test_jobs_of_another_workspace_do_not_exist(store: Store) -> None:
    job = await do(store, lines(600), strategy="replace")
    _, key = await store.other_workspace()
    async with client_of(store.app, key) as other:
        assert (await other.get("/v1/imports")).json()["items"] == []
        for method, rest in (("GET", ""), ("GET", "/errors"), ("POST", "/cancel"),
                             ("POST", "/restore")):  # fmt: skip
            for name in (job["id"], "nonsense"):
                answer = await other.request(method, f"/v1/imports/{name}{rest}")
                assert (answer.status_code, answer.json()["code"]) == (404, "import_not_found")


@pytest.mark.parametrize("strategy", ["skip", "merge", "replace"])
@pytest.mark.parametrize("count", [20, 700])
async def test_a_second_import_adds_nothing_and_a_dry_run_says_so_before(
    store: Store, strategy: str, count: int
) -> None:
    everything = (
        "SELECT (SELECT jsonb_agg(m ORDER BY id) FROM engram.memory m)::text, "
        "(SELECT count(*) FROM engram.memory_alias), (SELECT count(*) FROM engram.memory_revision)"
    )
    body = lines(count, source="mem0") + b'{"content": "same", "user_id": "u"}\n' * 3
    for dry_run in ("true", "false", "true", "false"):
        before = await store.sql.fetchrow(everything)
        answer = await store.client.post(
            ROUTE, content=body, params={"strategy": strategy, "dry_run": dry_run}
        )
        report = answer.json()
        if answer.status_code == 202:
            report = await ended(store, answer.headers["location"])
        fresh = before[0] is None
        assert [report[name] for name in COUNTS] == (
            [count + 1, 0, 2, 0, 0, 0] if fresh else [0, 0, count + 3, 0, 0, 0]
        )
        after = await store.sql.fetchrow(everything)
        assert tuple(after) == tuple(before) or (fresh and dry_run == "false")
    assert await store.count("active") == count + 1
    assert await store.count("merged") == 2
    assert await store.count("archived") + await store.count("staged") == 0


async def test_a_small_replacement_says_how_many_it_archived_and_how_to_undo_it(
    store: Store,
) -> None:
    async def report(body: bytes, **params: str) -> dict[str, Any]:
        answer = await store.client.post(ROUTE, content=body, params=params)
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    first = await report(lines(3), strategy="replace")
    assert first["archived"] == 0
    dry = await report(lines(2, start=2), strategy="replace", dry_run="true")
    real = await report(lines(2, start=2), strategy="replace")
    assert (dry["archived"], real["archived"]) == (2, 2)
    assert (await job_at(store, f"/v1/imports/{real['import_id']}"))["archived"] == 2
    undone = await store.client.post(f"/v1/imports/{real['import_id']}/restore")
    assert undone.status_code == 200, undone.text
    assert await store.count("active") == 3
    for strategy in ("skip", "merge"):
        assert not {"archived", "import_id"} & set(await report(lines(1), strategy=strategy))
