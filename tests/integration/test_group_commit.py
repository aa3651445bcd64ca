"""The group commit: few transactions, a bad item alone, lost races repeated, outages survived."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from prometheus_client import REGISTRY

from engram.storage import contention, writing
from engram_cli.runtime.postgres import PostgresServer
from tests.support.store import Store, open_store
from tests.support.wait import eventually


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


def sample(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


async def refuse(store: Store, word: str = "poison") -> None:
    """Let Postgres refuse what the decoder lets pass."""
    await store.sql.execute(
        f"ALTER TABLE engram.memory ADD CHECK (position('{word}' in content) = 0)"
    )


async def test_two_hundred_requests_at_once_share_few_transactions(store: Store) -> None:
    commits = sample("engram_commit_seconds_count")
    answers = await asyncio.gather(
        *(store.client.post("/v1/memories", json={"content": f"fact {n}"}) for n in range(200))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert [answer.json()["content"] for answer in answers] == [f"fact {n}" for n in range(200)]
    assert 1 <= sample("engram_commit_seconds_count") - commits <= 60
    written_by = await store.sql.fetchval("SELECT count(DISTINCT xmin::text) FROM engram.memory")
    assert written_by <= 60


async def test_a_bad_item_fails_alone_within_its_request(store: Store) -> None:
    await refuse(store)
    items = [{"content": "poison" if n in (3, 7) else f"fact {n}"} for n in range(10)]
    report = await store.import_(items)
    assert (report["imported"], report["failed"]) == (8, 2)
    assert [(e["index"], e["code"]) for e in report["errors"]] == [
        (3, "refused_by_store"),
        (7, "refused_by_store"),
    ]
    assert await store.count() == 8


async def test_a_bad_request_fails_alone_among_the_requests_of_its_commit(store: Store) -> None:
    await refuse(store)
    answers = await asyncio.gather(
        *(
            store.client.post(
                "/v1/memories",
                json={"content": f"poison {n}" if n % 17 == 0 else f"fact {n}"},
                headers={"Idempotency-Key": str(n)},
            )
            for n in range(100)
        )
    )
    codes = [answer.status_code for answer in answers]
    assert codes == [409 if n % 17 == 0 else 201 for n in range(100)]
    assert await store.count() == 94
    assert "poison" not in answers[0].json()["detail"]
    await store.sql.execute("ALTER TABLE engram.memory DROP CONSTRAINT memory_content_check")
    again = await store.client.post(
        "/v1/memories", json={"content": "poison 0"}, headers={"Idempotency-Key": "0"}
    )
    assert again.status_code == 201


async def test_equal_texts_side_by_side_become_one_row(store: Store) -> None:
    answers = await asyncio.gather(
        *(store.client.post("/v1/memories", json={"content": "tea"}) for _ in range(100))
    )
    assert sorted({answer.status_code for answer in answers}) == [200, 201]
    assert sum(answer.status_code == 201 for answer in answers) == 1
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await store.count() == 1


async def test_a_repeat_in_the_same_commit_lengthens_a_life_like_a_later_one(
    store: Store,
) -> None:
    report = await store.import_(
        [
            {"content": "lasting", "expires_at": "2999-01-01T00:00:00Z"},
            {"content": "lasting"},
            {"content": "longer", "expires_at": "2999-01-01T00:00:00Z"},
            {"content": "longer", "expires_at": "2999-01-02T00:00:00Z"},
            {"content": "gone", "expires_at": "2000-01-01T00:00:00Z"},
            {"content": "gone"},
        ]
    )
    assert (report["imported"], report["duplicates"]) == (4, 2)
    listed = (await store.client.get("/v1/memories")).json()["items"]
    assert {item["content"]: item["expires_at"] for item in listed} == {
        "lasting": None,
        "longer": "2999-01-02T00:00:00Z",
        "gone": None,
    }


async def test_a_deadlock_is_tried_again_and_nobody_notices(
    store: Store, superuser_url: str
) -> None:
    one, two = await store.post("one", user_id="a"), await store.post("two", user_id="a")
    first, second = sorted([one["id"], two["id"]])
    rival = await asyncpg.connect(superuser_url)
    transaction = rival.transaction()
    await transaction.start()
    await rival.execute("SET LOCAL deadlock_timeout = '60s'")
    await rival.execute("SELECT 1 FROM engram.memory WHERE id = $1 FOR UPDATE", second)
    # Locks first, waits for second; the rival then wants first: ours is found out and begins anew.
    sending = asyncio.create_task(
        store.import_([{"content": text, "user_id": "a"} for text in ("one", "two")])
    )
    await eventually(lambda: _waiting(store.sql))
    wanting = asyncio.create_task(
        rival.execute("SELECT 1 FROM engram.memory WHERE id = $1 FOR UPDATE", first)
    )
    await wanting
    await transaction.rollback()
    await rival.close()
    report = await sending
    assert (report["duplicates"], report["failed"]) == (2, 0)


async def _waiting(sql: asyncpg.Connection) -> bool:
    return bool(
        await sql.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
            "AND datname = current_database()"
        )
    )


async def test_a_decision_that_was_overtaken_is_made_again(
    store: Store, superuser_url: str
) -> None:
    tea = await store.post("tea")
    rival = await asyncpg.connect(superuser_url)
    transaction = rival.transaction()
    await transaction.start()
    await rival.execute("UPDATE engram.memory SET content = 'ale', fold_hash = '', version = 2")
    sending = asyncio.create_task(store.client.post("/v1/memories", json={"content": "tea"}))
    await eventually(lambda: _waiting(store.sql))
    await transaction.commit()
    await rival.close()
    answer = await sending
    assert (answer.status_code, answer.json()["id"] != tea["id"]) == (201, True)


async def test_a_race_that_is_lost_every_time_is_503_and_says_when_to_come_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def always(*_: object, **__: object) -> None:
        raise contention.LostRaceError

    monkeypatch.setattr(writing, "_transact", always)
    answer = await store.client.post("/v1/memories", json={"content": "tea"})
    assert (answer.status_code, answer.json()["code"]) == (503, "contended")
    assert answer.headers["retry-after"] == "1"


async def test_while_postgres_is_gone_it_is_503_and_nothing_accepted_is_lost(
    postgres_server: PostgresServer, nats_url: str
) -> None:
    accepted: dict[str, str] = {}
    refused: set[int] = set()
    async with open_store(
        postgres_server.database_url, nats_url, superuser_url=postgres_server.superuser_dsn()
    ) as store:

        async def send(n: int) -> None:
            answer = await store.client.post("/v1/memories", json={"content": f"fact {n}"})
            refused.add(answer.status_code)
            if answer.status_code in (200, 201):
                accepted[answer.json()["id"]] = f"fact {n}"
            else:
                assert answer.status_code == 503, answer.text
                assert answer.json()["code"] == "postgres_unavailable"
                assert int(answer.headers["retry-after"]) >= 1

        async def keep_sending(sender: int) -> None:
            n = 0
            while 503 not in refused:
                n += 1
                await send(sender * 100_000 + n)

        sending = asyncio.gather(*(keep_sending(sender) for sender in range(20)))
        await eventually(lambda: len(accepted) > 100)
        postgres_server.kill9()
        await sending
        assert 503 in refused
        for method, path in (
            ("GET", "/v1/workspace"),
            ("GET", "/v1/memories"),
            ("DELETE", f"/v1/memories/{next(iter(accepted))}"),
            ("POST", "/v1/memories/search"),
        ):
            body = {"json": {"query": "x"}} if method == "POST" else {}
            answer = await store.client.request(method, path, **body)
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True), path
        await postgres_server.restart()

        async def works_again() -> bool:
            answer = await store.client.post("/v1/memories", json={"content": "after"})
            return answer.status_code in (200, 201)

        await eventually(works_again)
        check = await asyncpg.connect(postgres_server.superuser_dsn())
        rows = await check.fetch("SELECT id, content FROM engram.memory")
        await check.close()
    stored = {str(row["id"]): row["content"] for row in rows}
    assert accepted.items() <= stored.items()
    assert len(set(stored.values())) == len(stored)
