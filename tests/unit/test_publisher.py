"""The NATS publisher against a real server: once per command, however often it is tried."""

import asyncio
import contextlib
import json
import os
import uuid

import nats
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.js.api import DiscardPolicy, StreamConfig

from engram.command_batches import MAX_COMMAND_ITEMS, split
from engram.errors import (
    BusyError,
    ForbiddenError,
    InvalidError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    UsageError,
)
from engram.events import SUBJECT_INGEST_ALL, command_kind, ingest_subject
from engram.publisher import Publisher
from engram_cli.runtime.binaries import nats_server as nats_binary
from engram_cli.runtime.ports import free_port
from tests.support.wait import eventually

WORKSPACE = str(uuid.uuid4())
STREAM = "ingest"


@pytest.fixture
async def jetstream(nats_url):
    connection = await nats.connect(nats_url)
    yield connection.jetstream()
    await connection.close()


@pytest.fixture
async def stream(jetstream):
    await jetstream.add_stream(StreamConfig(name=STREAM, subjects=[SUBJECT_INGEST_ALL]))
    return jetstream


async def messages(jetstream):
    info = await jetstream.stream_info(STREAM)
    return [await jetstream.get_msg(STREAM, seq + 1) for seq in range(info.state.messages)]


async def test_a_memory_travels_as_a_cloud_event_on_its_workspaces_subject(stream, nats_url):
    async with Publisher(nats_url, WORKSPACE, source="app") as publisher:
        [event_id] = await publisher.create({"content": "Likes tea", "user_id": "alice"})
    [message] = await messages(stream)
    event = json.loads(message.data)
    assert message.subject == ingest_subject(WORKSPACE)
    assert message.headers["Nats-Msg-Id"] == event["id"] == event_id
    assert (event["specversion"], event["source"]) == ("1.0", "app")
    assert command_kind(event["type"]) == "create"
    assert event["data"] == {"memories": [{"content": "Likes tea", "user_id": "alice"}]}


async def test_changes_and_deletes_travel_as_their_own_commands_in_order(stream, nats_url):
    async with Publisher(nats_url, WORKSPACE) as publisher:
        await publisher.update({"id": "m1", "content": "x"})
        await publisher.delete("m1")
        await publisher.delete(["m2", "m3"])
    events = [json.loads(message.data) for message in await messages(stream)]
    assert [(command_kind(event["type"]), event["data"]["memories"]) for event in events] == [
        ("update", [{"id": "m1", "content": "x"}]),
        ("delete", [{"id": "m1"}]),
        ("delete", [{"id": "m2"}, {"id": "m3"}]),
    ]


async def test_many_memories_are_split_by_count_and_by_the_servers_largest_message(
    stream, nats_url
):
    items = [{"content": f"{n:05}" + "x" * (30_000 if n % 50 == 0 else 10)} for n in range(2000)]
    async with Publisher(nats_url, WORKSPACE) as publisher:
        ids = await publisher.create(items)
    sent = await messages(stream)
    batches = [json.loads(message.data)["data"]["memories"] for message in sent]
    assert len(ids) == len(set(ids)) == len(batches)
    assert all(len(batch) <= MAX_COMMAND_ITEMS for batch in batches)
    assert sorted(item["content"] for batch in batches for item in batch) == [
        item["content"] for item in items
    ]


async def test_full_messages_leave_room_for_their_envelope(stream, nats_url):
    # Items of 5 kB fill a message of 1 MiB almost to its end before 256 of them do.
    items = [{"content": "x" * 5_000}] * 600 + [{"content": "y" * 1_040_000}] * 3
    async with Publisher(nats_url, WORKSPACE, source="s" * 200) as publisher:
        await publisher.create(items)
    sizes = [len(message.data) for message in await messages(stream)]
    assert max(sizes) <= 1024 * 1024
    assert min(sizes[:2]) > 1_000_000


async def test_no_memories_are_no_messages(stream, nats_url):
    async with Publisher(nats_url, WORKSPACE) as publisher:
        assert await publisher.create([]) == []
    assert await messages(stream) == []


async def test_a_repeat_under_the_same_event_id_is_stored_once(stream, nats_url):
    items = [{"content": f"memory {n}"} for n in range(300)]
    for _ in range(2):
        async with Publisher(nats_url, WORKSPACE) as publisher:
            ids = await publisher.create(items, event_id="mine")
    assert ids == ["mine-0", "mine-1"]
    assert len(await messages(stream)) == 2


async def test_a_stream_that_appears_late_gets_the_command(jetstream, nats_url):
    async with Publisher(nats_url, WORKSPACE) as publisher:
        publishing = asyncio.ensure_future(publisher.create({"content": "early"}))
        await asyncio.wait({publishing}, timeout=0.05)
        assert not publishing.done()
        await jetstream.add_stream(StreamConfig(name=STREAM, subjects=[SUBJECT_INGEST_ALL]))
        await publishing
    assert len(await messages(jetstream)) == 1


async def test_without_a_stream_the_error_says_so(nats_url):
    async with Publisher(nats_url, WORKSPACE, timeout_s=1, give_up_after_s=3) as publisher:
        with pytest.raises(UnavailableError) as caught:
            await publisher.create({"content": "x"})
    assert caught.value.code == "no_ingest_stream"


async def test_a_full_stream_is_busy(jetstream, nats_url):
    config = StreamConfig(
        name=STREAM, subjects=[SUBJECT_INGEST_ALL], max_msgs=1, discard=DiscardPolicy.NEW
    )
    await jetstream.add_stream(config)
    async with Publisher(nats_url, WORKSPACE, timeout_s=1, give_up_after_s=3) as publisher:
        await publisher.create({"content": "first"})
        with pytest.raises(BusyError) as caught:
            await publisher.create({"content": "second"})
    assert caught.value.code == "ingest_full"
    assert len(await messages(jetstream)) == 1


async def test_commands_published_while_the_server_is_down_arrive_once_it_is_back(nats_server):
    async with contextlib.AsyncExitStack() as stack:
        connection = await nats.connect(nats_server.nats_url)
        await connection.jetstream().add_stream(
            StreamConfig(name=STREAM, subjects=[SUBJECT_INGEST_ALL])
        )
        await connection.close()
        publisher = await stack.enter_async_context(
            Publisher(nats_server.nats_url, WORKSPACE, timeout_s=1)
        )
        await publisher.create({"content": "before"})
        nats_server.kill9()
        publishing = asyncio.ensure_future(
            publisher.create([{"content": f"during {n}"} for n in range(600)])
        )
        await asyncio.wait({publishing}, timeout=0.3)
        assert not publishing.done()
        await nats_server.restart()
        assert len(await publishing) == 3
        connection = await nats.connect(nats_server.nats_url)
        stack.push_async_callback(connection.close)
        sent = await messages(connection.jetstream())
    contents = [one["content"] for m in sent for one in json.loads(m.data)["data"]["memories"]]
    assert sorted(contents) == sorted(["before", *(f"during {n}" for n in range(600))])


async def test_an_item_that_fits_no_message_fails_before_anything_is_published(stream, nats_url):
    async with Publisher(nats_url, WORKSPACE) as publisher:
        with pytest.raises(TooLargeError) as caught:
            await publisher.create([{"content": "fine"}, {"content": "x" * 2_000_000}])
    assert caught.value.faults[0].pointer == "/1"
    assert await messages(stream) == []


@pytest.mark.parametrize("item", [{"content": float("nan")}, "text", 7, {"metadata": object()}])
async def test_what_is_no_json_object_fails_before_anything_is_published(stream, nats_url, item):
    async with Publisher(nats_url, WORKSPACE) as publisher:
        with pytest.raises(InvalidError):
            await publisher.create([{"content": "fine"}, item])
    assert await messages(stream) == []


async def test_a_server_that_is_not_there_is_unavailable():
    publisher = Publisher(f"nats://127.0.0.1:{free_port()}", WORKSPACE, timeout_s=0.5)
    with pytest.raises(UnavailableError) as caught:
        await publisher.connect()
    assert caught.value.code == "nats_unreachable"


async def test_wrong_credentials_are_refused_at_once(nats_url):
    wrong = nats_url.replace("engram:", "engram:wrong", 1)
    with pytest.raises(UnauthenticatedError):
        await asyncio.wait_for(Publisher(wrong, WORKSPACE, timeout_s=30).connect(), 10)


async def test_a_publisher_that_is_not_connected_says_so():
    publisher = Publisher("nats://127.0.0.1:1", WORKSPACE)
    with pytest.raises(UnavailableError) as caught:
        await publisher.create({"content": "x"})
    assert caught.value.code == "not_connected"
    await publisher.close()


def test_wrong_arguments_are_told_at_once(monkeypatch):
    monkeypatch.delenv("ENGRAM_NATS_URL", raising=False)
    with pytest.raises(UsageError):
        Publisher(None, WORKSPACE)
    with pytest.raises(UsageError):
        Publisher("nats://x", WORKSPACE, give_up_after_s=121)
    with pytest.raises(InvalidError):
        Publisher("nats://x", "other.>")


@pytest.fixture
async def restricted_url(tmp_path):
    """A server whose user may publish to no workspace but another."""
    port = free_port()
    config = tmp_path / "nats.conf"
    config.write_text(
        f"listen: 127.0.0.1:{port}\n"
        "authorization { users: [{user: a, password: b, permissions: {"
        f'publish: ["engram.v1.ingest.{uuid.uuid4()}"], subscribe: ["_INBOX.>"]}}}}] }}\n'
    )
    binary = os.fspath(nats_binary())
    quiet = asyncio.subprocess.DEVNULL
    server = await asyncio.create_subprocess_exec(
        binary, "-c", str(config), stdout=quiet, stderr=quiet
    )
    url = f"nats://a:b@127.0.0.1:{port}"

    async def listens():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    await eventually(listens)
    yield url
    server.terminate()
    await server.wait()


async def test_a_workspace_that_the_credential_does_not_permit_is_forbidden(restricted_url):
    async with Publisher(restricted_url, WORKSPACE, timeout_s=5) as publisher:
        with pytest.raises(ForbiddenError):
            await publisher.create({"content": "x"})


@given(
    items=st.lists(st.fixed_dictionaries({"content": st.text(max_size=40)}), max_size=700),
    max_bytes=st.integers(400, 5000),
)
def test_splitting_keeps_every_item_in_order_within_the_limits(items, max_bytes):
    bodies = split(items, max_bytes)
    groups = [json.loads(body)["memories"] for body in bodies]
    assert [item for group in groups for item in group] == items
    assert all(1 <= len(group) <= MAX_COMMAND_ITEMS for group in groups)
    assert all(len(body) <= max_bytes for body in bodies)
