"""A writer that mirrors a live mem0 into engram: nothing is lost, nothing is slowed or failed."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from engram.client import Client
from engram.dualwrite import AsyncDualWriter, DualWriter, Mem0Store, SqlStore, SqlTable
from engram_cli.main import run as engram
from tests.support.mem0_fake import AsyncMemory, Memory, Memory2, MemoryClient, Rows
from tests.support.store import open_store
from tests.support.wait import eventually


@pytest.fixture
async def store(database_url, superuser_url, nats_url):
    async with open_store(
        database_url, nats_url, superuser_url=superuser_url, embedder=True, commands=True
    ) as opened:
        yield opened


@contextlib.contextmanager
def writing(client, store, folder, **options):
    made = DualWriter(
        client,
        workspace=str(store.workspace),
        journal=folder,
        nats_url=store.settings.nats_url.get_secret_value(),
        **{"phase": "dual-write", **options},
    )
    try:
        yield made
    finally:
        made.close(0)


async def live(store, source="mem0"):
    """What engram holds of a source, by external id."""
    rows = await store.sql.fetch(
        "SELECT external_id, content, namespace, state FROM engram.memory WHERE source = $1 "
        "AND state IN ('active', 'merged')",
        source,
    )
    return {row["external_id"]: (row["content"], row["namespace"]) for row in rows}


def held(memory):
    return {row["id"]: (row["memory"], f"user:{row['user_id']}") for row in memory.rows.all()}


async def follows(store, memory, timeout_s=20):
    async def same():
        assert await live(store) == held(memory)
        return True

    await eventually(same, timeout_s=timeout_s)


async def letters(store):
    return await store.sql.fetchval("SELECT count(*) FROM engram.dead_letter")


async def blocking(call, *arguments, **named):
    return await asyncio.to_thread(call, *arguments, **named)


@pytest.mark.parametrize("kind", [Memory, Memory2])
async def test_what_the_old_store_made_of_a_message_is_mirrored_not_what_was_said(
    store, tmp_path, kind
):
    memory = kind()
    with writing(memory, store, tmp_path) as writer:
        said = [{"role": "user", "content": "likes tea and owns a cat"}]
        answer = await blocking(writer.add, said, user_id="alice", metadata={"from": "chat"})
        assert [entry["memory"] for entry in answer["results"]] == ["likes tea", "owns a cat"]
        await follows(store, memory)
        await blocking(writer.add, "no longer likes tea but likes mate", user_id="alice")
        await follows(store, memory)
        await blocking(writer.add, "forget owns a cat", user_id="alice")
        await follows(store, memory)
        assert {text for text, _ in (await live(store)).values()} == {"likes mate"}
    assert await letters(store) == 0


async def test_updates_and_deletes_reach_memories_that_engram_does_not_have_yet(store, tmp_path):
    memory = Memory()
    before = [memory.add(f"fact {n}", user_id="u")["results"][0]["id"] for n in range(4)]
    export = memory.get_all(user_id="u")
    with writing(memory, store, tmp_path) as writer:
        await blocking(writer.update, before[0], data="changed")
        await blocking(writer.delete, before[1])
        await blocking(writer.drain)
        await eventually(lambda: _taken(store))
        # The export was taken before: its import neither brings back nor sets back.
        await store.import_(export)
        await follows(store, memory)
    assert await letters(store) == 0


async def _taken(store):
    count = "SELECT count(*) FROM engram.memory WHERE state = 'deleted'"
    return await store.sql.fetchval(count) == 1


async def test_a_later_import_of_an_export_folds_onto_what_was_mirrored(store, tmp_path):
    memory = Memory()
    with writing(memory, store, tmp_path) as writer:
        for n in range(20):
            await blocking(writer.add, f"fact {n}", user_id="u", metadata={"n": n})
        await follows(store, memory)
        export = memory.get_all(user_id="u")
        for _ in range(2):
            report = await store.import_(export)
            assert (report["imported"], report["duplicates"]) == (0, 20)


async def test_no_write_is_lost_when_nats_is_killed_and_comes_back(
    database_url, superuser_url, nats_server, tmp_path
):
    memory = Memory()
    async with open_store(
        database_url, nats_server.nats_url, superuser_url=superuser_url, commands=True
    ) as store:
        with writing(memory, store, tmp_path) as writer:
            await blocking(writer.add, "before", user_id="u")
            await follows(store, memory)
            nats_server.kill9()
            ids = []
            for n in range(30):
                took_s = time.monotonic()
                answer = await blocking(writer.add, f"while away {n}", user_id="u")
                assert time.monotonic() - took_s < 0.5
                ids.append(answer["results"][0]["id"])
            for one in ids[:10]:
                await blocking(writer.update, one, data=f"changed {one}")
            for one in ids[10:15]:
                await blocking(writer.delete, one)
            # Longer than the publisher itself goes on trying.
            await eventually(lambda: writer.stats().retries > 0, timeout_s=20)
            assert writer.stats().pending > 0
            await nats_server.restart()
            await follows(store, memory, timeout_s=40)
            assert await blocking(writer.drain, 20)
            assert writer.stats().pending == 0


CHILD = """
import sys
from engram.dualwrite import DualWriter
from tests.support.mem0_fake import Memory, Rows
rows, journal, workspace = sys.argv[1:]
writer = DualWriter(Memory(Rows(rows)), workspace=workspace, journal=journal, phase="dual-write",
                    nats_url="nats://127.0.0.1:1")
n = 0
while True:
    kept = writer.add(f"fact {n}", user_id="u")["results"][0]["id"]
    if n % 3 == 0:
        writer.update(kept, data=f"changed {n}")
    if n % 5 == 0:
        writer.delete(kept)
    n += 1
    print(n, flush=True)
"""


async def test_no_write_is_lost_when_the_process_is_killed_with_a_journal(store, tmp_path):
    path, journal = tmp_path / "mem0.sqlite", tmp_path / "journal"
    for enough in (40, 60):  # the second process begins with what the first one left
        child = subprocess.Popen(  # noqa: ASYNC220 - it starts in milliseconds
            [sys.executable, "-c", CHILD, str(path), str(journal), str(store.workspace)],
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            while int(await asyncio.to_thread(child.stdout.readline)) < enough:
                pass
            child.send_signal(signal.SIGKILL)
    memory = Memory(Rows(path))
    assert len(held(memory)) > 60
    assert await live(store) == {}
    with writing(memory, store, journal) as writer:
        await follows(store, memory, timeout_s=40)
        assert await blocking(writer.drain, 30)
    assert await letters(store) == 0


async def test_two_writers_do_not_share_a_journal(store, tmp_path):
    from engram.errors import UsageError

    with (
        writing(Memory(), store, tmp_path),
        pytest.raises(UsageError) as refused,
        writing(Memory(), store, tmp_path),
    ):
        pass
    assert refused.value.code == "journal_in_use"


async def test_the_last_state_of_every_memory_wins_under_concurrent_writes(store, tmp_path):
    memory = Memory()
    with writing(memory, store, tmp_path) as writer:
        ids = [memory.add(f"fact {n}", user_id="u")["results"][0]["id"] for n in range(8)]

        def change(thread):
            for n in range(25):
                for one in ids[thread % 2 :: 2]:
                    writer.update(one, data=f"{one} by {thread} at {n}")

        await asyncio.gather(*(blocking(change, thread) for thread in range(4)))
        await follows(store, memory)
        assert await blocking(writer.drain)
        stats = writer.stats()
    # Many writes of one memory are one message: what it says is read when it is sent.
    assert stats.recorded == 400
    assert stats.put < 400
    assert await letters(store) == 0


async def test_writers_of_two_processes_agree_in_the_end(store, tmp_path):
    memory = Memory()
    ids = [memory.add(f"fact {n}", user_id="u")["results"][0]["id"] for n in range(5)]
    with (
        writing(memory, store, tmp_path / "a") as one,
        writing(memory, store, tmp_path / "b") as two,
    ):

        def change(writer, name):
            for n in range(20):
                for memory_id in ids:
                    writer.update(memory_id, data=f"{memory_id} {name} {n}")

        await asyncio.gather(blocking(change, one, "a"), blocking(change, two, "b"))
        await follows(store, memory)


async def test_phases_change_under_load_and_back_without_a_lost_write(store, tmp_path, monkeypatch):
    memory = Memory()
    switch = tmp_path / "phase"
    done = threading.Event()
    async with store.listening() as (host, port):
        client = Client(f"http://{host}:{port}", store.key)
        from engram.dualwrite import from_file

        with (
            client,
            writing(
                memory, store, tmp_path / "j", phase="old-only",
                phase_source=from_file(switch), engram=client,
            ) as writer,
        ):  # fmt: skip
            monkeypatch.setattr("engram.dualwrite.phases._LOOK_EVERY_S", 0.01)
            seen = Counter()

            def load(thread):
                n = 0
                while not done.is_set():
                    n += 1
                    writer.add(f"thread {thread} fact {n}", user_id=f"u{thread}")
                    found = writer.search("fact", user_id=f"u{thread}", limit=3)
                    seen[len(found["results"]) > 0] += 1

            working = [asyncio.create_task(blocking(load, thread)) for thread in range(2)]
            await asyncio.sleep(0.2)
            switch.write_text("dual-write")
            await eventually(lambda: writer.phase == "dual-write")
            # Whoever exports from now on misses nothing.
            export = {"results": memory.rows.all()}
            await store.import_(export)
            for phase in ("shadow-read", "new-reads", "shadow-read", "dual-write", "new-reads"):
                switch.write_text(phase)
                await eventually(lambda phase=phase: writer.phase == phase)
                await asyncio.sleep(0.2)
            done.set()
            await asyncio.gather(*working)
            await follows(store, memory)
            stats = await blocking(writer.stats)
    assert stats.shadow.reads > 0
    assert stats.shadow.overlap is not None
    assert stats.diverged.get("unrecorded", 0) == 0
    assert seen[True] > 0


async def test_new_reads_answer_with_the_old_stores_ids_and_fall_back_when_engram_is_away(
    store, tmp_path
):
    memory = Memory()
    async with store.listening() as (host, port):
        with (
            Client(f"http://{host}:{port}", store.key) as client,
            writing(
                memory, store, tmp_path, phase="shadow-read", engram=client, read_timeout_s=5
            ) as writer,
        ):
            made = await blocking(writer.add, "likes green tea", user_id="alice")
            other = await blocking(writer.add, "owns a red bike", user_id="alice")
            await eventually(lambda: _embedded(store, 2))
            await blocking(writer.search, "green tea", user_id="alice", limit=2)
            await eventually(lambda: writer.stats().shadow.reads == 1)
            assert writer.stats().shadow.overlap == 1.0
            writer.set_phase("new-reads")
            found = await blocking(writer.search, "green tea", user_id="alice", limit=1)
            assert found["results"][0]["id"] == made["results"][0]["id"]
            assert found["results"][0]["memory"] == "likes green tea"
            listed = await blocking(writer.get_all, user_id="alice")
            assert {row["id"] for row in listed["results"]} == set(held(memory))
            writer.set_phase("new-only")
            got = await blocking(writer.get, other["results"][0]["id"])
            assert (got["memory"], got["user_id"]) == ("owns a red bike", "alice")
            await blocking(writer.update, other["results"][0]["id"], data="owns a blue bike")
            got = await blocking(writer.get, other["results"][0]["id"])
            assert got["memory"] == "owns a blue bike"
            new = await blocking(writer.add, "speaks Welsh", user_id="alice")
            await blocking(writer.delete, new["results"][0]["id"])
            assert await blocking(writer.get, new["results"][0]["id"]) is None
            assert writer.stats().only_in_engram == 3
            assert len(held(memory)) == 2
            writer.set_phase("new-reads")
    with (
        Client("http://127.0.0.1:1", "k") as client,
        writing(memory, store, tmp_path / "2", phase="new-reads", engram=client) as writer,
    ):
        writer._new._client._http.timeout = 0.2
        found = await blocking(writer.search, "tea", user_id="alice", limit=1)
        assert found["results"]
        assert writer.stats().fallbacks == 1


async def _embedded(store, number):
    count = "SELECT count(*) FROM engram_vec.space_1"
    return await store.sql.fetchval(count) >= number


async def test_a_platform_that_works_later_is_asked_what_came_of_it(store, tmp_path):
    memory = MemoryClient()
    with writing(memory, store, tmp_path) as writer:
        said = [{"role": "user", "content": "likes tea and owns a cat"}]
        await blocking(writer.add, said, user_id="alice")
        assert held(memory) == {}
        memory.finish()
        await follows(store, memory)
        assert len(held(memory)) == 2
        gone = next(iter(held(memory)))
        await blocking(writer.delete, gone)
        await follows(store, memory)


async def test_a_platform_that_does_not_tell_is_listed_until_it_shows(store, tmp_path):
    memory = MemoryClient()
    memory.tells = False
    with writing(memory, store, tmp_path) as writer:
        await blocking(writer.add, [{"role": "user", "content": "likes tea"}], user_id="alice")
        memory.finish()
        await follows(store, memory)


async def test_an_add_that_failed_after_it_stored_something_is_mirrored_all_the_same(
    store, tmp_path
):
    memory = Memory()
    real = memory.add

    def torn(*positional, **named):
        real(*positional, **named)
        raise ConnectionResetError

    memory.add = torn
    with writing(memory, store, tmp_path) as writer:
        with pytest.raises(ConnectionResetError):
            await blocking(writer.add, "likes tea", user_id="alice")
        await follows(store, memory)


async def test_deleting_all_of_an_owner_deletes_the_same_in_engram(store, tmp_path):
    memory = Memory2()
    with writing(memory, store, tmp_path) as writer:
        for n in range(30):  # more than get_all gives unasked
            await blocking(writer.add, f"fact {n}", user_id="u")
        await blocking(writer.add, "mine", user_id="other")
        await follows(store, memory)
        await blocking(writer.delete_all, user_id="u")
        assert len(held(memory)) == 1
        await follows(store, memory)


async def test_an_asynchronous_client_is_mirrored_too(store, tmp_path):
    memory = AsyncMemory()
    writer = AsyncDualWriter(
        memory,
        workspace=str(store.workspace),
        journal=tmp_path,
        nats_url=store.settings.nats_url.get_secret_value(),
        phase="dual-write",
    )
    async with writer:
        made = await asyncio.gather(*(writer.add(f"fact {n}", user_id="u") for n in range(30)))
        ids = [answer["results"][0]["id"] for answer in made]
        await asyncio.gather(*(writer.update(one, data=f"changed {one}") for one in ids[:10]))
        await asyncio.gather(*(writer.delete(one) for one in ids[10:20]))
        assert len((await writer.search("fact", user_id="u"))["results"]) == 20
        await follows(store, memory)
        assert await writer.adrain()
        await writer.add("the last", user_id="u")
        await writer.delete_all(user_id="u")
        await follows(store, memory)


async def test_a_table_of_ones_own_is_mirrored_and_its_export_folds(store, tmp_path):
    import sqlite3

    path = tmp_path / "own.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as made:
        made.execute(
            "CREATE TABLE memories (id TEXT PRIMARY KEY, content TEXT, user_id TEXT,"
            " created_at TEXT, updated_at TEXT)"
        )
    table = SqlTable(lambda: sqlite3.connect(path), mark="?")
    with writing(SqlStore(table), store, tmp_path / "j") as writer:
        kept, gone = [
            (await blocking(writer.add, text, user_id="u"))["results"][0]["id"]
            for text in ("likes tea", "owns a cat")
        ]
        await blocking(writer.update, kept, "likes mate")
        await blocking(writer.delete, gone)

        async def same():
            return await live(store, "postgres") == {kept: ("likes mate", "user:u")}

        await eventually(same)
    rows = [{k: v for k, v in table.get(kept).items() if k != "memory"}]
    report = await store.import_(rows, format="postgres")
    assert (report["imported"], report["duplicates"]) == (0, 1)


async def test_compare_repairs_what_a_writer_could_not_mirror(store, tmp_path, monkeypatch, capsys):
    memory = Memory()
    ids = [memory.add(f"fact {n}", user_id="u")["results"][0]["id"] for n in range(5)]
    file = tmp_path / "mem0.json"
    await store.import_(memory.get_all(user_id="u"))
    memory.update(ids[0], "changed")
    memory.delete(ids[1])
    memory.add("new", user_id="u")
    file.write_text(json.dumps(memory.get_all(user_id="u")))
    async with store.listening() as (host, port):
        monkeypatch.setenv("ENGRAM_URL", f"http://{host}:{port}")
        monkeypatch.setenv("ENGRAM_API_KEY", store.key)

        async def compare(*options):
            code = await asyncio.to_thread(engram, ["compare", str(file), "--json", *options])
            return code, json.loads(capsys.readouterr().out.splitlines()[-1])

        code, report = await compare()
        assert (code, report["missing"], report["extra"], report["different"]) == (1, 1, 1, 1)
        code, report = await compare("--repair")
        assert report["repaired"] == {"imported": 1, "updated": 1, "deleted": 0, "failed": 0}
        assert code == 1  # what is extra is still there
        code, report = await compare("--repair", "--delete-extra")
        assert report["repaired"]["deleted"] == 1
        await eventually(lambda: _embedded(store, 5))
        code, report = await compare()
        assert (code, report["equal"]) == (0, 5)
    await follows(store, memory)


def test_the_store_of_a_client_is_told_by_its_signatures():
    assert Mem0Store(Memory())._whole({"user_id": "u"}) == {"user_id": "u", "limit": 1_000_000}
    assert Mem0Store(Memory2())._whole({"user_id": "u"})["filters"] == {"user_id": "u"}
    assert Mem0Store(MemoryClient())._pages()


async def test_the_example_moves_a_store_that_is_written_to_without_a_lost_write(store, tmp_path):
    from tests.meta.checkout import ROOT

    async with store.listening() as (host, port):
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            str(ROOT / "deploy/examples/dualwrite_mem0/move.py"),
            env={
                "ENGRAM_URL": f"http://{host}:{port}",
                "ENGRAM_API_KEY": store.key,
                "ENGRAM_NATS_URL": store.settings.nats_url.get_secret_value(),
            },
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(child.communicate(), 100)
    assert child.returncode == 0, out.decode()
    assert out.decode().splitlines()[-1].endswith("0 lost or different")
