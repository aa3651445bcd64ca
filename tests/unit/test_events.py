"""The wire contract on NATS."""

import json
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram import events
from engram.errors import InvalidError, MalformedError

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
WORKSPACE = str(UUID(int=7))
ids = st.uuids().map(str)
pairs = st.lists(st.tuples(ids, st.integers(0, events.MAX_VERSION)), min_size=1, max_size=256)


@given(items=pairs, kind=st.sampled_from(events.EVENT_KINDS), event_id=st.text(min_size=1))
def test_what_was_encoded_is_decoded_again(items, kind, event_id):
    data = events.encode_items_event(event_id, kind, WORKSPACE, items, NOW)
    assert events.decode_items_event(data) == events.ItemsEvent(
        kind, WORKSPACE, tuple(items), event_id
    )


def test_an_items_event_is_a_cloud_event_of_the_public_contract():
    memory_id = str(uuid4())
    data = events.encode_items_event("e-1", "created", WORKSPACE, [(memory_id, 3)], NOW)
    assert json.loads(data) == {
        "specversion": "1.0",
        "id": "e-1",
        "source": "engram",
        "type": "engram.memory.created.v1",
        "time": "2026-01-02T03:04:05.000678Z",
        "datacontenttype": "application/json",
        "data": {"workspace": WORKSPACE, "items": [{"id": memory_id, "version": 3}]},
    }


def test_a_command_is_a_cloud_event_of_the_public_contract():
    data = {"content": "Ünïcode", "expires_at": NOW}
    command = events.encode_command("c-1", "create", data, NOW, "app")
    assert json.loads(command) == {
        "specversion": "1.0",
        "id": "c-1",
        "source": "app",
        "type": "engram.memory.create.v1",
        "time": "2026-01-02T03:04:05.000678Z",
        "datacontenttype": "application/json",
        "data": {"content": "Ünïcode", "expires_at": "2026-01-02T03:04:05.000678Z"},
    }


def test_subjects_are_those_of_the_public_contract():
    assert events.ingest_subject(WORKSPACE) == f"engram.v1.ingest.{WORKSPACE}"
    assert [events.memory_subject(kind) for kind in events.EVENT_KINDS] == [
        "engram.v1.memory.created",
        "engram.v1.memory.updated",
        "engram.v1.memory.deleted",
        "engram.v1.memory.embedded",
        "engram.v1.memory.merged",
        "engram.v1.memory.restored",
        "engram.v1.memory.archived",
    ]
    assert events.work_subject("bulk") == "engram.v1.work.bulk"


def test_the_workspace_of_a_command_is_read_from_its_subject():
    assert events.workspace_of_ingest_subject(events.ingest_subject(WORKSPACE)) == WORKSPACE


@pytest.mark.parametrize(
    "subject", ["", "engram.v1.ingest", "engram.v1.ingest.x", f"engram.v1.memory.{WORKSPACE}"]
)
def test_another_subject_has_no_workspace(subject):
    with pytest.raises(MalformedError):
        events.workspace_of_ingest_subject(subject)


@pytest.mark.parametrize("name", ["", "a.b", "*", ">", "a b", "a\r\nPUB", "ä"])
def test_a_subject_is_never_built_from_more_than_one_token(name):
    with pytest.raises(InvalidError):
        events.ingest_subject(name)
    with pytest.raises(InvalidError):
        events.work_subject(name)
    with pytest.raises(InvalidError):
        events.memory_subject(name)


def test_command_types_name_their_kind():
    kinds = {name: events.command_kind(name) for name in events.COMMAND_TYPES.values()}
    assert kinds == {
        "engram.memory.create.v1": "create",
        "engram.memory.update.v1": "update",
        "engram.memory.delete.v1": "delete",
        "engram.memory.put.v1": "put",
    }


@pytest.mark.parametrize("name", [None, 1, "", "engram.memory.created.v1", ["x"]])
def test_other_types_are_no_command(name):
    with pytest.raises(MalformedError):
        events.command_kind(name)


@pytest.mark.parametrize("count", [0, 257])
def test_an_event_names_1_to_256_memories(count):
    items = [(str(uuid4()), 1)] * count
    with pytest.raises(InvalidError):
        events.encode_items_event("e", "created", WORKSPACE, items, NOW)
    body = [{"id": one, "version": version} for one, version in items]
    with pytest.raises(MalformedError):
        events.decode_items_event(changed(items=body))


@pytest.mark.parametrize(
    "memory_id", ["", 'x","version":1},{"id":"y', "950A329F-01F0-4867-B5CF-380B6DBAAFBBA"]
)
def test_an_id_that_is_no_uuid_is_not_encoded(memory_id):
    with pytest.raises(InvalidError):
        events.encode_items_event("e", "created", WORKSPACE, [(memory_id, 1)], NOW)
    with pytest.raises(InvalidError):
        events.encode_items_event("e", "created", memory_id, [(WORKSPACE, 1)], NOW)


def changed(items=None, *, data=None, **attributes):
    event = json.loads(events.encode_items_event("e", "created", WORKSPACE, [(WORKSPACE, 1)], NOW))
    event.update(attributes)
    if items is not None:
        event["data"]["items"] = items
    if data is not None:
        event["data"] = data
    return json.dumps(event).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"1",
        b"[" * 100_000,
        b"1" * 10_000,
        changed(specversion="0.3"),
        changed(type="engram.memory.invented.v1"),
        changed(type=["engram.memory.created.v1"]),
        changed(id=""),
        changed(id=7),
        changed(data=[]),
        changed(data={"workspace": WORKSPACE}),
        changed(data={"workspace": "w", "items": [{"id": WORKSPACE, "version": 1}]}),
        changed(items={}),
        changed(items=[7]),
        changed(items=[{"id": WORKSPACE}]),
        changed(items=[{"id": "m1", "version": 1}]),
        changed(items=[{"id": WORKSPACE, "version": True}]),
        changed(items=[{"id": WORKSPACE, "version": 1.5}]),
        changed(items=[{"id": WORKSPACE, "version": -1}]),
        changed(items=[{"id": WORKSPACE, "version": 2**63}]),
    ],
    ids=range(22),
)
def test_anything_else_is_malformed_and_says_so(data):
    with pytest.raises(MalformedError):
        events.decode_items_event(data)


@given(data=st.binary() | st.text().map(str.encode))
def test_no_bytes_raise_anything_but_malformed(data):
    with pytest.raises(MalformedError):
        events.decode_items_event(data)


def test_unknown_attributes_are_allowed():
    assert events.decode_items_event(changed(traceparent="00-1-2-01")).kind == "created"


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), "\ud800", {1, 2}, NOW.replace(tzinfo=None), b"x"]
)
def test_what_json_cannot_carry_is_refused(value):
    with pytest.raises(InvalidError):
        events.encode_json({"value": value})


def test_a_cycle_is_refused():
    value = []
    value.append(value)
    with pytest.raises(InvalidError):
        events.encode_json(value)
