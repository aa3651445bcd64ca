"""Import jobs inside: one runner at a time, resumed to the item, staged sets that take over."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from engram.storage import importing
from engram.storage.connection import about
from engram.storage.ids import new_id
from engram.storage.importing import LeaseLostError
from engram_ingest.import_batches import FIRST_ITEMS, MAX_ITEMS, Reader, Task
from engram_ingest.import_cleanup import sweep
from engram_ingest.import_file import ChunkFile
from engram_ingest.import_options import Options
from engram_ingest.import_work import Work
from tests.support.runners import hold
from tests.support.store import Store, open_store
from tests.support.wait import eventually

ROUTE = "/v1/memories/import"
LEASE = timedelta(seconds=60)
COUNTS = ("imported", "updated", "duplicates", "superseded", "skipped", "failed")


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


@pytest.fixture
async def held(store: Store) -> Store:
    """A store whose own runner does nothing: the test is the runner."""
    await hold(store)
    return store


def item(number: int, content: str = "fact", **fields: Any) -> dict[str, Any]:
    return {"content": f"{content} {number}", "external_id": str(number), "user_id": "u", **fields}


def lines(items: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in items)


async def begin(store: Store, items: list[dict[str, Any]], **params: str) -> UUID:
    answer = await store.client.post(ROUTE, content=lines(items), params=params)
    assert answer.status_code == 202, answer.text
    return UUID(answer.json()["id"])


async def done(store: Store, items: list[dict[str, Any]], **params: str) -> dict[str, Any]:
    answer = await store.client.post(ROUTE, content=lines(items), params=params)
    location = answer.headers.get("location")
    if location is None:
        report: dict[str, Any] = answer.json()
        return report

    async def look() -> dict[str, Any] | None:
        job: dict[str, Any] = (await store.client.get(location)).json()
        return None if job["state"] in ("queued", "running") else job

    job = await eventually(look, 30)
    assert job["received"] == sum(job[name] for name in COUNTS)
    return job


async def texts(store: Store, state: str = "active") -> list[str]:
    rows = await store.sql.fetch(
        "SELECT content FROM engram.memory WHERE state = $1 ORDER BY content", state
    )
    return [row["content"] for row in rows]


async def claimed(store: Store) -> tuple[importing.Job, UUID] | None:
    holder = uuid4()
    async with store.service.pool.acquire() as connection:
        job = await importing.claim(connection, holder, LEASE)
    return (job, holder) if job else None


async def expire(store: Store) -> None:
    await store.sql.execute("UPDATE engram.import_job SET lease_until = now() - interval '1 s'")


def work_on(store: Store, job: importing.Job, holder: UUID) -> tuple[Work, ChunkFile]:
    file = ChunkFile(asyncio.get_running_loop(), store.app.state.doors.pool, job)
    task = Task(job.workspace, job.id, job.position, Options(**job.options), 1_000_000)
    return Work(store.app.state.doors.pool, job, holder, Reader(file, task, new_id), LEASE), file


async def test_two_runners_never_have_the_same_job(held: Store) -> None:
    await begin(held, [item(n) for n in range(600)])
    first, *rest = await asyncio.gather(*(claimed(held) for _ in range(8)))
    found = [claim for claim in (first, *rest) if claim]
    assert len(found) == 1
    assert await claimed(held) is None


async def test_two_jobs_of_a_workspace_run_one_after_the_other(held: Store) -> None:
    await begin(held, [item(n) for n in range(600)])
    await begin(held, [item(n) for n in range(700)])
    found = [claim for claim in await asyncio.gather(*(claimed(held) for _ in range(8))) if claim]
    assert len(found) == 1
    assert found[0][0].body_bytes == len(lines([item(n) for n in range(600)]))


async def test_a_dead_runners_job_goes_on_at_the_very_item_and_adds_up(held: Store) -> None:
    items = [item(n) for n in range(3_500)]
    items[10]["content"] = items[3_400]["content"] = ""
    job_id = await begin(held, items)
    claim = await claimed(held)
    assert claim is not None
    work, _ = work_on(held, *claim)
    batches = work.reader.batches()
    await work.store(await asyncio.to_thread(next, batches))
    await work.store(await asyncio.to_thread(next, batches))
    # It dies here. Nobody else may have the job before its lease has run out.
    assert await claimed(held) is None
    await expire(held)
    again = await claimed(held)
    assert again is not None
    assert (again[0].id, again[0].position) == (job_id, FIRST_ITEMS + MAX_ITEMS)
    second, _ = work_on(held, *again)
    rest = second.reader.batches()
    while batch := await asyncio.to_thread(next, rest, None):
        await second.store(batch)
    await second.finish()
    job = (await held.client.get(f"/v1/imports/{job_id}")).json()
    assert (job["state"], job["received"], job["imported"], job["failed"]) == (
        "done", 3_500, 3_498, 2,
    )  # fmt: skip
    stored = await held.sql.fetch("SELECT external_id, count(*) FROM engram.memory GROUP BY 1")
    assert (len(stored), {row["count"] for row in stored}) == (3_498, {1})
    errors = (await held.client.get(f"/v1/imports/{job_id}/errors")).text.splitlines()
    assert [json.loads(line)["index"] for line in errors] == [10, 3_400]


async def test_what_a_late_runner_writes_is_rolled_back(held: Store) -> None:
    await begin(held, [item(n) for n in range(2_500)])
    claim = await claimed(held)
    assert claim is not None
    late, _ = work_on(held, *claim)
    batches = late.reader.batches()
    batch = await asyncio.to_thread(next, batches)
    await expire(held)
    again = await claimed(held)
    assert again is not None
    with pytest.raises(LeaseLostError):
        await late.store(batch)
    assert await held.count() == 0
    winner, _ = work_on(held, *again)
    await winner.store(await asyncio.to_thread(next, winner.reader.batches()))
    assert await held.count() == FIRST_ITEMS


async def test_nothing_is_written_after_a_cancellation(held: Store) -> None:
    job_id = await begin(held, [item(n) for n in range(2_500)])
    claim = await claimed(held)
    assert claim is not None
    work, _ = work_on(held, *claim)
    batches = work.reader.batches()
    await work.store(await asyncio.to_thread(next, batches))
    answer = await held.client.post(f"/v1/imports/{job_id}/cancel")
    assert (answer.json()["state"], answer.json()["imported"]) == ("cancelled", FIRST_ITEMS)
    with pytest.raises(LeaseLostError):
        await work.store(await asyncio.to_thread(next, batches))
    with pytest.raises(LeaseLostError):
        await work.finish()
    assert await held.count() == FIRST_ITEMS
    await sweep(held.service.pool)
    assert await held.sql.fetchval("SELECT count(*) FROM engram.import_chunk") == 0


async def test_a_job_that_kills_its_runner_again_and_again_is_given_up(store: Store) -> None:
    real = await hold(store)
    job_id = await begin(store, [item(n) for n in range(600)])
    for _ in range(5):
        assert await claimed(store) is not None
        await expire(store)
    await real()
    job = (await store.client.get(f"/v1/imports/{job_id}")).json()
    assert (job["state"], job["error"]["code"]) == ("failed", "import_failed")


async def test_a_body_that_stopped_coming_is_swept(held: Store) -> None:
    pool, workspace, job = held.app.state.doors.pool, held.workspace, uuid4()
    async with about(pool, [workspace]) as connection:
        await importing.create(
            connection, workspace, job,
            actor="k", options=Options().as_json(), format_name=None, report={}, most=9,
        )  # fmt: skip
        await importing.append(connection, workspace, job, 0, b"[", 1)
    await sweep(held.service.pool)
    assert await held.sql.fetchval("SELECT count(*) FROM engram.import_chunk") == 1
    await held.sql.execute("UPDATE engram.import_job SET updated_at = now() - interval '1 hour'")
    await sweep(held.service.pool)
    assert await held.sql.fetchval("SELECT count(*) FROM engram.import_chunk") == 0
    async with about(pool, [workspace]) as connection:
        with pytest.raises(LeaseLostError):
            await importing.append(connection, workspace, job, 1, b"]", 2)


async def test_a_chunk_file_reads_and_seeks_like_the_body(held: Store) -> None:
    items = [item(n, "x" * 900) for n in range(2_600)]
    body = lines(items)
    await begin(held, items)
    claim = await claimed(held)
    assert claim is not None
    _, file = work_on(held, *claim)

    def compare() -> None:
        assert file.seek(0, 2) == len(body)
        for start, size in ((0, 10), (1_048_570, 20), (len(body) - 5, 50), (2_000_000, 300_000)):
            file.seek(start)
            data = b""
            while piece := file.read(size - len(data)):
                data += piece
            assert data == body[start : start + size]

    await asyncio.to_thread(compare)


# Strategies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [0, 600])
async def test_merge_changes_what_differs_and_keeps_what_was_said_before(
    store: Store, more: int
) -> None:
    padding = [item(n, "padding") for n in range(1_000, 1_000 + more)]
    old = [item(n, importance=0.9, metadata={"a": 1}) for n in range(4)]
    await done(store, old + padding)
    new = [item(0), item(1, "changed"), item(2, metadata={"a": 2}), item(9)]
    for dry_run in ("true", "false"):
        report = await done(store, new + padding, strategy="merge", dry_run=dry_run)
        assert [report[name] for name in COUNTS] == [1, 2, 1 + more, 0, 0, 0]
    rows = await store.sql.fetch(
        "SELECT m.* FROM engram.memory m WHERE external_id::int < 100 ORDER BY external_id"
    )
    assert [(r["content"], r["version"]) for r in rows] == [
        ("fact 0", 1), ("changed 1", 2), ("fact 2", 1), ("fact 3", 1), ("fact 9", 1),
    ]  # fmt: skip
    assert {r["importance"] for r in rows} == {0.9, 0.5}
    assert [r["importance"] for r in rows[:4]] == [0.9] * 4
    assert [json.loads(r["metadata"]) for r in rows[:3]] == [{"a": 1}, {"a": 1}, {"a": 2}]
    history = (await store.client.get(f"/v1/memories/{rows[1]['id']}/history")).json()["items"]
    assert [one["content"] for one in history] == ["fact 1", "changed 1"]
    said = await store.sql.fetchval(
        "SELECT count(*) FROM engram.memory_revision WHERE content = 'fact 1'"
    )
    assert said == 1


async def test_merge_changes_an_item_that_comes_twice_one_time_after_the_other(
    store: Store,
) -> None:
    report = await done(
        store, [item(1), item(1, "second"), item(1, "third"), item(1, "third")], strategy="merge"
    )
    assert [report[name] for name in COUNTS] == [1, 2, 1, 0, 0, 0]
    assert await texts(store) == ["third 1"]
    assert await store.sql.fetchval("SELECT version FROM engram.memory") == 3


async def test_merge_lets_a_repeat_speak_for_itself_again(store: Store) -> None:
    same = [item(1), {**item(2), "content": "fact 1"}]
    await done(store, same)
    assert (await store.count("active"), await store.count("merged")) == (1, 1)
    report = await done(store, [item(1), item(2, "now another")], strategy="merge")
    assert (report["updated"], report["duplicates"]) == (1, 1)
    assert await texts(store) == ["fact 1", "now another 2"]
    assert await store.sql.fetchval("SELECT undone_at IS NOT NULL FROM engram.merge_member")
    again = await done(store, [item(1), item(2, "now another")], strategy="merge")
    assert again["duplicates"] == 2


async def test_merge_hears_that_something_no_longer_holds(store: Store) -> None:
    await done(store, [item(1), item(2)])
    gone = [item(1, state="superseded"), item(2)]
    report = await done(store, gone, strategy="merge")
    assert (report["superseded"], report["duplicates"]) == (1, 1)
    assert (await texts(store), await texts(store, "superseded")) == (["fact 2"], ["fact 1"])
    assert (await done(store, gone, strategy="merge"))["duplicates"] == 2


@pytest.mark.parametrize("strategy", ["skip", "merge", "replace"])
@pytest.mark.parametrize("more", [0, 600])
async def test_what_was_deleted_comes_back_only_when_asked_for(
    store: Store, strategy: str, more: int
) -> None:
    items = [item(n) for n in range(3 + more)]
    await done(store, items, namespace="n")
    memory = await store.sql.fetchval("SELECT id FROM engram.memory WHERE external_id = '1'")
    assert (await store.client.delete(f"/v1/memories/{memory}")).status_code == 204
    params = {"strategy": strategy, "namespace": "n"}
    report = await done(store, items, **params)
    assert (report["skipped"], report["imported"]) == (1, 0)
    assert "fact 1" not in await texts(store)
    dry = await done(store, items, **params, revive="true", dry_run="true")
    real = await done(store, items, **params, revive="true")
    assert [dry[name] for name in COUNTS] == [real[name] for name in COUNTS]
    assert (real["imported"], real["duplicates"]) == (1, 2 + more)
    assert "fact 1" in await texts(store)
    again = await done(store, items, **params, revive="true")
    assert (again["imported"], again["duplicates"]) == (0, 3 + more)
    assert await store.count("deleted") == 1


@pytest.mark.parametrize("more", [0, 1_500])
async def test_replace_takes_over_at_once_and_one_call_undoes_it(store: Store, more: int) -> None:
    same = [item(n, "same") for n in range(1_000, 1_000 + more)]
    await done(store, [item(1), item(2), item(3), *same], namespace="n")
    await store.post("of another namespace")
    before = {r["id"]: r["external_id"] for r in await store.sql.fetch(
        "SELECT id, external_id FROM engram.memory WHERE state = 'active'")}  # fmt: skip
    new = [item(2), item(3, "changed"), item(4), {**item(5), "content": "fact 4"}, *same]
    dry = await done(store, new, namespace="n", strategy="replace", dry_run="true")
    answer = await store.client.post(
        ROUTE, content=lines(new), params={"namespace": "n", "strategy": "replace"}
    )
    location = answer.headers["location"]

    async def ended() -> dict[str, Any] | None:
        job: dict[str, Any] = (await store.client.get(location)).json()
        return job if job["state"] == "done" else None

    job = await eventually(ended, 30)
    assert [job[name] for name in COUNTS] == [1, 1, 2 + more, 0, 0, 0]
    if more:
        assert [dry[name] for name in (*COUNTS, "archived")] == [
            job[name] for name in (*COUNTS, "archived")
        ]
    else:
        assert [dry[name] for name in COUNTS] == [job[name] for name in COUNTS]
    assert job["archived"] == 2
    live = [text for text in await texts(store) if not text.startswith("same")]
    assert live == ["changed 3", "fact 2", "fact 4", "of another namespace"]
    assert await texts(store, "archived") == ["fact 1", "fact 3"]
    assert await store.count("merged") == 1
    again = await done(store, new, namespace="n", strategy="replace")
    assert (again["imported"], again["updated"], again["duplicates"]) == (0, 0, 4 + more)
    restored = await store.client.post(f"{location}/restore")
    assert restored.json()["restored_at"], restored.text
    after = {r["id"]: r["external_id"] for r in await store.sql.fetch(
        "SELECT id, external_id FROM engram.memory WHERE state = 'active'")}  # fmt: skip
    assert after == before
    named = await store.sql.fetch(
        "SELECT a.external_id FROM engram.memory_alias a "
        "JOIN engram.memory m ON m.id = a.memory_id "
        "WHERE m.state = 'active' AND a.external_id IN ('1', '2', '3')"
    )
    assert sorted(row["external_id"] for row in named) == ["1", "2", "3"]
    assert (await store.client.post(f"{location}/restore")).status_code == 200


async def test_replace_without_a_namespace_takes_over_its_source(store: Store) -> None:
    def rows(*numbers: int) -> bytes:
        return json.dumps(
            [{"id": f"m{n}", "memory": f"fact {n}", "user_id": f"u{n}"} for n in numbers]
        ).encode()

    await store.post("typed by hand")
    for body, expected in ((rows(1, 2, 3), ["fact 1", "fact 2", "fact 3"]),
                           (rows(3, 4), ["fact 3", "fact 4"])):  # fmt: skip
        answer = await store.client.post(ROUTE, content=body, params={"strategy": "replace"})
        assert answer.status_code == 200, answer.text
        assert await texts(store) == [*expected, "typed by hand"]


async def test_a_replacement_tells_of_items_that_stay_elsewhere(store: Store) -> None:
    await done(store, [item(1), item(2)], namespace="other")
    await done(store, [item(3)], namespace="n")
    job = await done(
        store, [item(1), item(2, "changed"), item(4)], namespace="n", strategy="replace"
    )
    assert (job["imported"], job["duplicates"], job["archived"]) == (1, 2, 1)
    [warning] = job["warnings"]
    assert warning.startswith("2 items are known by their external ids outside of what is replaced")
    assert "merge" in warning
    assert await texts(store) == ["fact 1", "fact 2", "fact 4"]
    again = await done(store, [item(4)], namespace="n", strategy="replace")
    assert (again["duplicates"], again["warnings"]) == (1, [])


async def test_a_replacement_shows_nothing_before_it_is_whole(held: Store) -> None:
    pool = held.service.pool
    await held.import_([item(1)], namespace="n")
    job_id = await begin(
        held, [item(n, "new") for n in range(2_500)], namespace="n", strategy="replace"
    )
    claim = await claimed(held)
    assert claim is not None
    work, _ = work_on(held, *claim)
    batches = work.reader.batches()
    await work.store(await asyncio.to_thread(next, batches))
    assert await held.count("staged") == FIRST_ITEMS
    assert await texts(held) == ["fact 1"]
    listed = (await held.client.get("/v1/memories", params={"namespace": "n"})).json()["items"]
    assert [one["content"] for one in listed] == ["fact 1"]
    await held.client.post(f"/v1/imports/{job_id}/cancel")
    await sweep(pool)
    assert (await held.count(), await texts(held)) == (1, ["fact 1"])
    assert await held.sql.fetchval("SELECT count(*) FROM engram.import_item") == 0


async def test_nothing_replaces_nothing(store: Store) -> None:
    await done(store, [item(1)], namespace="n")
    answer = await store.client.post(
        ROUTE, content=b'{"content": ""}\n', params={"namespace": "n", "strategy": "replace"}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "empty_replacement")
    assert await texts(store) == ["fact 1"]


async def test_an_older_replacement_is_not_undone_below_a_newer_one(store: Store) -> None:
    jobs = []
    for text in ("first", "second", "third"):
        answer = await store.client.post(
            ROUTE, content=lines([item(1, text)]), params={"namespace": "n", "strategy": "replace"}
        )
        jobs.append(answer.headers["location"])
    answer = await store.client.post(f"{jobs[1]}/restore")
    assert (answer.status_code, answer.json()["code"]) == (409, "replaced_since")
    for job, text in ((jobs[2], "second 1"), (jobs[1], "first 1")):
        assert (await store.client.post(f"{job}/restore")).status_code == 200
        assert await texts(store) == [text]
    skipped = await done(store, [item(n) for n in range(600)])
    answer = await store.client.post(f"/v1/imports/{skipped['id']}/restore")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_restorable")


async def test_what_was_replaced_leaves_the_vectors_and_what_came_gets_its_own(
    database_url: str, superuser_url: str, nats_url: str
) -> None:
    async with open_store(
        database_url, nats_url, superuser_url=superuser_url, embedder=True
    ) as store:
        for text in ("green tea", "black coffee"):
            await store.client.post(
                ROUTE,
                content=lines([item(1, text), item(2, "both")]),
                params={"namespace": "n", "strategy": "replace"},
            )

            async def only_live(text: str = text) -> bool:
                rows = await store.sql.fetch(
                    "SELECT m.content, m.state FROM engram_vec.space_1 v "
                    "JOIN engram.memory m ON m.id = v.memory_id AND m.version = v.version"
                )
                return sorted(tuple(row) for row in rows) == sorted(
                    [("both 2", "active"), (f"{text} 1", "active")]
                )

            await eventually(only_live, 20)
