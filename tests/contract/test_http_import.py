"""The import route: sums that always add up, every shape, every bound, nothing counted twice."""

import gzip
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.store import Store, open_store
from tests.support.wait import eventually

COUNTS = ("imported", "updated", "duplicates", "superseded", "skipped", "failed")
REPORT = ["format", "received", *COUNTS, "by_namespace", "warnings", "errors"]
EXPORTS = Path(__file__).parents[1] / "data" / "exports"


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


async def send(store: Store, body: bytes, **params: str) -> dict[str, Any]:
    answer = await store.client.post("/v1/memories/import", content=body, params=params)
    assert answer.status_code == 200, answer.text
    return whole(answer.json())


async def finished(store: Store, location: str) -> dict[str, Any]:
    async def ended() -> dict[str, Any] | None:
        job: dict[str, Any] = (await store.client.get(location)).json()
        return None if job["state"] in ("queued", "running") else job

    job = await eventually(ended, 30)
    assert job["received"] == sum(job[name] for name in COUNTS)
    assert sum(job["by_namespace"].values()) == job["imported"] + job["updated"]
    return job


def whole(report: dict[str, Any]) -> dict[str, Any]:
    assert list(report) == REPORT
    assert report["received"] == sum(report[name] for name in COUNTS), report
    assert sum(report["by_namespace"].values()) == report["imported"] + report["updated"]
    for error in report["errors"]:
        assert list(error) == ["index", "line", "external_id", "code", "detail"]
    return report


@pytest.mark.parametrize(
    ("body", "format_name", "namespaces"),
    [
        (
            [{"content": "a", "user_id": "u"}, {"content": "b"}],
            "native",
            {"global": 1, "user:u": 1},
        ),
        ({"memories": [{"content": "a", "importance": 0.9}]}, "native", {"global": 1}),
        ([{"id": "m1", "memory": "a", "user_id": "u"}], "mem0", {"user:u": 1}),
        ({"results": [{"id": "m1", "memory": "a", "user_id": "u"}]}, "mem0", {"user:u": 1}),
        (
            {"alice": [{"id": "1", "memory": "a"}], "bob": [{"id": "2", "memory": "b"}]},
            "mem0",
            {"user:alice": 1, "user:bob": 1},
        ),
        (
            [{"id": 7, "content": "a", "user_id": "u", "created_at": "2026-01-01T00:00:00+00:00"}],
            "postgres",
            {"user:u": 1},
        ),
    ],
)
async def test_every_shape_is_known_by_itself(
    store: Store, body: Any, format_name: str, namespaces: dict[str, int]
) -> None:
    report = await send(store, json.dumps(body).encode())
    assert (report["format"], report["by_namespace"]) == (format_name, namespaces)
    assert report["imported"] == report["received"] == sum(namespaces.values())
    again = await send(store, json.dumps(body).encode())
    assert (again["imported"], again["duplicates"]) == (0, report["received"])
    assert await store.count() == report["received"]


async def test_ndjson_is_read_line_by_line(store: Store) -> None:
    lines = b'{"content": "a", "user_id": "u"}\n\nnonsense\n{"content": "b", "user_id": "u"}\n'
    answer = await store.client.post(
        "/v1/memories/import",
        content=lines,
        headers={"Content-Type": "application/x-ndjson"},
    )
    report = whole(answer.json())
    assert (report["imported"], report["failed"]) == (2, 1)
    assert [(e["index"], e["line"]) for e in report["errors"]] == [(1, 3)]


async def test_500_items_are_answered_at_once_and_501_become_a_job(store: Store) -> None:
    native = [{"content": f"fact {n}"} for n in range(501)]
    mem0 = [{"id": str(n), "memory": f"fact {n}", "user_id": "u"} for n in range(501)]
    lines = b"\n".join(json.dumps(item).encode() for item in native)
    assert (await send(store, json.dumps(native[:500]).encode()))["imported"] == 500
    for body in (json.dumps(native).encode(), json.dumps(mem0).encode(), lines):
        answer = await store.client.post("/v1/memories/import", content=body)
        assert (answer.status_code, answer.json()["body_bytes"]) == (202, len(body))
        assert answer.headers["location"] == f"/v1/imports/{answer.json()['id']}"
        job = await finished(store, answer.headers["location"])
        assert (job["state"], job["received"]) == ("done", 501)
    assert await store.count() == 501 + 501


async def test_more_than_8_mb_is_a_job_too(store: Store) -> None:
    items = [{"content": f"{n}" + "x" * 30_000} for n in range(290)]
    answer = await store.client.post("/v1/memories/import", content=json.dumps(items).encode())
    assert answer.status_code == 202
    job = await finished(store, answer.headers["location"])
    assert (job["imported"], job["read_bytes"]) == (290, job["body_bytes"])


async def test_a_gzip_file_is_read_and_a_bomb_is_refused(store: Store) -> None:
    small = gzip.compress(json.dumps([{"id": "1", "memory": "a", "user_id": "u"}]).encode())
    assert (await send(store, small))["imported"] == 1
    bomb = gzip.compress(b'[{"memory":"' + b"x" * 40_000_000 + b'"}]')
    answer = await store.client.post("/v1/memories/import", content=bomb)
    assert (answer.status_code, answer.json()["code"]) == (413, "compression_bomb")
    assert await store.count() == 1


async def test_a_dry_run_reports_the_same_and_changes_nothing(store: Store) -> None:
    await store.post("known", user_id="u")
    await store.sql.execute("UPDATE engram.memory SET state = 'archived'")
    body = json.dumps(
        [
            {"content": "known", "user_id": "u"},
            {"content": "new", "user_id": "u"},
            {"content": "new", "user_id": "u"},
            {"content": ""},
        ]
    ).encode()
    everything = (
        "SELECT (SELECT count(*) FROM engram.outbox), (SELECT jsonb_agg(m) FROM engram.memory m), "
        "(SELECT count(*) FROM engram.memory_alias), (SELECT count(*) FROM engram.namespace)"
    )
    before = await store.sql.fetchrow(everything)
    dry = await send(store, body, dry_run="true")
    after = await store.sql.fetchrow(everything)
    assert tuple(before)[1:] == tuple(after)[1:]
    assert dry == await send(store, body)
    assert [dry[name] for name in COUNTS] == [1, 0, 2, 0, 0, 1]


async def test_one_bad_item_costs_only_itself(store: Store) -> None:
    items: list[Any] = [{"content": f"fact {n}", "external_id": str(n)} for n in range(9)]
    items[4] = {"content": "x" * 33_000, "external_id": "4"}
    report = await send(store, json.dumps(items).encode())
    assert (report["imported"], report["failed"]) == (8, 1)
    [error] = report["errors"]
    assert (error["index"], error["external_id"], error["code"]) == (4, "4", "too_long")


async def test_repeats_within_one_import_are_merged_at_birth(store: Store) -> None:
    body = [{"id": str(n), "memory": "the same", "user_id": "u"} for n in range(5)]
    report = await send(store, json.dumps(body).encode())
    assert (report["imported"], report["duplicates"]) == (1, 4)
    assert (await store.count("active"), await store.count("merged")) == (1, 4)
    assert await store.sql.fetchval("SELECT count(*) FROM engram.merge_member") == 4


async def test_a_namespace_parameter_puts_everything_there(store: Store) -> None:
    body = json.dumps([{"id": "1", "memory": "a", "user_id": "u"}]).encode()
    report = await send(store, body, namespace="archive")
    assert report["by_namespace"] == {"archive": 1}
    row = await store.sql.fetchrow("SELECT namespace, user_id FROM engram.memory")
    assert tuple(row) == ("archive", "u")


async def test_superseded_records_are_kept_but_never_come_alive(store: Store) -> None:
    body = [
        {"id": "1", "memory": "old", "user_id": "u", "replaced_by": "2"},
        {"id": "2", "memory": "new", "user_id": "u"},
    ]
    report = await send(store, json.dumps(body).encode())
    assert (report["imported"], report["superseded"]) == (1, 1)
    assert await store.count("superseded") == 1


async def test_waiting_for_an_import_means_it_is_searchable(
    database_url: str, nats_url: str
) -> None:
    async with open_store(database_url, nats_url, embedder=True) as store:
        await send(store, json.dumps([{"content": "green tea"}]).encode(), wait="embedded")
        found = await store.client.post("/v1/memories/search", json={"query": "green tea"})
        [result] = found.json()["results"]
        assert (result["memory"]["embedded"], found.json()["degraded"]) == (True, False)


async def test_a_parameter_that_cannot_be_is_refused(store: Store) -> None:
    body = b'[{"content": "x"}]'
    for params, status in (
        ({"strategy": "overwrite"}, 422),
        ({"dry_run": "perhaps"}, 422),
        ({"namespace": " "}, 422),
        ({"namespace": "a\0b"}, 422),
        ({"namespace": "x" * 257}, 422),
        ({"format": "nonsense"}, 400),
    ):
        answer = await store.client.post("/v1/memories/import", content=body, params=params)
        assert answer.status_code == status, (params, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    assert await store.count() == 0


async def test_a_body_without_one_good_item_stores_nothing(store: Store) -> None:
    for body in (
        *(
            b"",
            b" ",
            b"[]",
            b"{}",
            b"null",
            b"7",
            b"[",
            b"{",
            b"\xff\xfe",
            b"\0",
            b"[[]]",
            b"[1,2]",
        ),
        *(b"[" * 100_000, b'{"a":' * 100_000, b'[{"content":"a\\u0000b"}]'),
        *(b'[{"content":"\\ud800"}]', b'[{"content":NaN}]', b'[{"content":"x","n":1e400}]'),
        *(b'[{"content":"x","metadata":{"n":1e130000}}]', b'[{"content":"\xc3\x28"}]'),
    ):
        answer = await store.client.post("/v1/memories/import", content=body)
        assert answer.status_code in (200, 400, 413, 422), (body[:60], answer.text)
        if answer.status_code == 200:
            assert whole(answer.json())["imported"] == 0, body[:60]
    assert await store.count() == 0


async def test_a_broken_item_among_good_ones_is_the_only_one_lost(store: Store) -> None:
    for number, broken in enumerate(
        (
            b'{"content":"a\\u0000b"}',
            b'{"content":"\\ud800"}',
            b'{"content":"x","metadata":{"n":1e400}}',
            b'{"content":"x","metadata":' + b"[" * 2000 + b"]" * 2000 + b"}",
            b'{"content":"x","metadata":{"n":123456789012345678901234567890}}',
            b"7",
            b"null",
        )
    ):
        good = b'{"content":"good %d"}' % number
        answer = await store.client.post(
            "/v1/memories/import", content=b"[" + broken + b"," + good + b"]"
        )
        assert answer.status_code == 200, (broken[:60], answer.text)
        report = whole(answer.json())
        assert (report["imported"] >= 1, report["received"]) == (True, 2), broken[:60]


def fixtures() -> Iterator[tuple[str, bytes]]:
    for folder in sorted(EXPORTS.iterdir()):
        for file in folder.glob("input.*"):
            yield folder.name, file.read_bytes()


def parts(data: bytes) -> list[bytes]:
    """A file as bodies of at most 400 items."""
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    try:
        value = json.loads(data)
    except ValueError:
        lines = data.splitlines(keepends=True)
        if len(lines) <= 400:
            return [data]
        return [b"".join(lines[at : at + 400]) for at in range(0, len(lines), 400)]
    if not isinstance(value, list):
        return [data]
    return [json.dumps(value[at : at + 400]).encode() for at in range(0, len(value), 400)]


@pytest.mark.parametrize(("name", "data"), [pytest.param(n, d, id=n) for n, d in fixtures()])
async def test_every_export_adds_up_and_a_second_import_adds_nothing(
    store: Store, name: str, data: bytes
) -> None:
    expected = json.loads((EXPORTS / name / "expected.json").read_text())
    first = [await send(store, part) for part in parts(data)]
    held = await store.sql.fetch("SELECT id, state, content FROM engram.memory ORDER BY id")
    assert held
    assert sum(report["imported"] for report in first) == await store.count("active")
    second = [await send(store, part) for part in parts(data)]
    for name_of in ("imported", "updated", "superseded"):
        assert sum(report[name_of] for report in second) == 0
    assert held == await store.sql.fetch("SELECT id, state, content FROM engram.memory ORDER BY id")
    received = expected.get("received") or expected.get("records") or expected.get("count")
    if isinstance(received, int):
        assert sum(report["received"] for report in first) == received


@pytest.mark.parametrize(("name", "data"), [pytest.param(n, d, id=n) for n, d in fixtures()])
async def test_a_mutated_export_adds_up_or_is_refused(store: Store, name: str, data: bytes) -> None:
    stored = 0
    [part, *_] = parts(data)
    for step in range(5):
        at = (step * 7919 + 13) % len(part)
        for mutated in (
            part[:at],
            part[:at] + b"\xff" + part[at + 1 :],
            part[:at] + part[at + 40 :],
            part[:at] + b'"' + part[at:],
        ):
            answer = await store.client.post("/v1/memories/import", content=mutated)
            assert answer.status_code in (200, 400, 413, 422), answer.text
            if answer.status_code == 200:
                stored += whole(answer.json())["imported"]
    assert await store.count("active") == stored


items = st.fixed_dictionaries(
    {},
    optional={
        "content": st.sampled_from(["a", "b", "A", " a ", "", "x" * 33_000, "é", "e\u0301"])
        | st.integers(),
        "user_id": st.sampled_from(["u", "v", "", None]) | st.integers(),
        "namespace": st.sampled_from(["n", "m", None, "\n"]),
        "external_id": st.sampled_from(["1", "2", "3", None, ""]) | st.booleans(),
        "source": st.sampled_from(["crm", None, ""]),
        "state": st.sampled_from(["active", "archived", "superseded", "deleted"]),
        "importance": st.sampled_from([0.5, 1, 0, 2, "high"]),
        "expires_at": st.sampled_from([None, "2000-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "x"]),
        "metadata": st.sampled_from([{}, {"a": [1]}, [], None]),
        "unknown": st.just(1),
    },
)


async def test_sums_are_exact_whatever_the_items(store: Store) -> None:
    batches: list[list[Any]] = []

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(items | st.none() | st.integers(), max_size=12))
    def collect(batch: list[Any]) -> None:
        batches.append(batch)

    collect()
    live = 0
    for batch in batches:
        answer = await store.client.post("/v1/memories/import", json=batch)
        assert answer.status_code in (200, 400), (batch, answer.text)
        if answer.status_code == 200:
            report = whole(answer.json())
            assert report["received"] == len(batch)
            live += report["imported"] + report["superseded"]
    kept = await store.sql.fetchval("SELECT count(*) FROM engram.memory WHERE state <> 'merged'")
    assert kept == live
    for batch in batches:
        answer = await store.client.post("/v1/memories/import", json=batch)
        if answer.status_code == 200:
            assert answer.json()["imported"] == 0, (batch, answer.text)
