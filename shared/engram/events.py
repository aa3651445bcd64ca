"""The wire contract on NATS: subjects, CloudEvents types, and their JSON encoding.

Format: CloudEvents 1.0, JSON event format, structured content mode. Standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, NoReturn, get_args
from uuid import UUID

from engram.errors import InvalidError, MalformedError

EventKind = Literal["created", "updated", "deleted", "embedded", "merged", "restored", "archived"]
CommandKind = Literal["create", "update", "delete", "put"]

SUBJECT_INGEST: Final = "engram.v1.ingest"
SUBJECT_MEMORY: Final = "engram.v1.memory"
SUBJECT_MIGRATION: Final = "engram.v1.migration"
SUBJECT_WORK: Final = "engram.v1.work"
SUBJECT_INGEST_ALL: Final = f"{SUBJECT_INGEST}.*"
SUBJECT_MEMORY_ALL: Final = f"{SUBJECT_MEMORY}.*"
SUBJECT_MIGRATION_ALL: Final = f"{SUBJECT_MIGRATION}.*"
SUBJECT_WORK_ALL: Final = f"{SUBJECT_WORK}.*"

EVENT_KINDS: Final[tuple[EventKind, ...]] = get_args(EventKind)
COMMAND_KINDS: Final[tuple[CommandKind, ...]] = get_args(CommandKind)
EVENT_TYPES: Final[Mapping[EventKind, str]] = {
    kind: f"engram.memory.{kind}.v1" for kind in EVENT_KINDS
}
COMMAND_TYPES: Final[Mapping[CommandKind, str]] = {
    kind: f"engram.memory.{kind}.v1" for kind in COMMAND_KINDS
}
CONTENT_TYPE: Final = "application/cloudevents+json"
SERVICE_SOURCE: Final = "engram"

MAX_EVENT_ITEMS: Final = 256
MAX_VERSION: Final = 2**63 - 1  # bigint: a larger one could not have come from a row

_KIND_OF_EVENT: Final = {name: kind for kind, name in EVENT_TYPES.items()}
_KIND_OF_COMMAND: Final = {name: kind for kind, name in COMMAND_TYPES.items()}
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ItemsEvent:
    """Says which memories changed; their content is read from Postgres.

    Attributes:
        kind: what happened to all of them.
        workspace: workspace id (uuid text).
        items: 1 to 256 pairs of memory id (uuid text) and the version it had then.
        event_id: CloudEvents ``id``, equal to the ``Nats-Msg-Id`` it was published with.
        traceparent: of the commit that announced it, as it came; ``""`` without one.
    """

    kind: EventKind
    workspace: str
    items: tuple[tuple[str, int], ...]
    event_id: str = ""
    traceparent: str = ""


def ingest_subject(workspace: str) -> str:
    """Return the subject on which a workspace's ingest commands travel.

    Raises:
        InvalidError: ``workspace`` is not one subject token.
    """
    return f"{SUBJECT_INGEST}.{_token(workspace)}"


def memory_subject(kind: EventKind) -> str:
    """Return the subject of one kind of memory event.

    Raises:
        InvalidError: ``kind`` is none of ``EVENT_KINDS``.
    """
    if kind not in EVENT_TYPES:
        raise InvalidError("unknown_event_kind", f"No memory event is called {kind!r}.")
    return f"{SUBJECT_MEMORY}.{kind}"


def migration_subject(action: str) -> str:
    """Return the subject of what was done to a migration: a phase, or a verb in the past.

    Raises:
        InvalidError: ``action`` is not one subject token.
    """
    return f"{SUBJECT_MIGRATION}.{_token(action)}"


def work_subject(kind: str) -> str:
    """Return the internal subject of one kind of work bell.

    Raises:
        InvalidError: ``kind`` is not one subject token.
    """
    return f"{SUBJECT_WORK}.{_token(kind)}"


def workspace_of_ingest_subject(subject: str) -> str:
    """Return the workspace a command belongs to: the subject decides, never the body.

    Raises:
        MalformedError: the subject is no ingest subject.
    """
    prefix, _, workspace = subject.rpartition(".")
    if prefix != SUBJECT_INGEST or not _UUID.fullmatch(workspace):
        _malformed("The subject is not engram.v1.ingest.<workspace id>.")
    return workspace


def command_kind(event_type: object) -> CommandKind:
    """Return what a command's CloudEvents ``type`` asks for.

    Raises:
        MalformedError: the type is no command of this version.
    """
    kind = _KIND_OF_COMMAND.get(event_type) if isinstance(event_type, str) else None
    if kind is None:
        _malformed("The event type is no engram command of version 1.")
    return kind


def encode_items_event(
    event_id: str,
    kind: EventKind,
    workspace: str,
    items: Sequence[tuple[str, int]],
    time: datetime,
    traceparent: str = "",
) -> bytes:
    """Encode a memory event of 1 to 256 ids and versions (about 100 µs for 256).

    A traceparent is carried as CloudEvents' extension for distributed tracing has it.

    Raises:
        InvalidError: unknown kind, wrong number of items, or an id that is no lower-case uuid.
    """
    if kind not in EVENT_TYPES:
        raise InvalidError("unknown_event_kind", f"No memory event is called {kind!r}.")
    if not 1 <= len(items) <= MAX_EVENT_ITEMS:
        raise InvalidError("bad_item_count", f"An event names 1 to {MAX_EVENT_ITEMS} memories.")
    is_uuid = _UUID.fullmatch
    if not (is_uuid(workspace) and all(is_uuid(memory_id) for memory_id, _ in items)):
        raise InvalidError("bad_id", "Workspace and memory ids are lower-case uuids.")
    # Ids are uuids by now, so nothing in them needs escaping; json.dumps costs three times this.
    listed = ",".join(
        [f'{{"id":"{memory_id}","version":{version:d}}}' for memory_id, version in items]
    )
    traced = f'"traceparent":{json.dumps(traceparent)},' if traceparent else ""
    return (
        f'{{"specversion":"1.0","id":{json.dumps(event_id)},"source":"{SERVICE_SOURCE}",'
        f'"type":"{EVENT_TYPES[kind]}","time":"{_rfc3339(time)}",{traced}'
        f'"datacontenttype":"application/json",'
        f'"data":{{"workspace":"{workspace}","items":[{listed}]}}}}'
    ).encode()


def encode_migration_event(
    event_id: str, action: str, workspace: str, migration: str, time: datetime
) -> bytes:
    """Encode what was done to a migration: its id, and the workspace of whoever asked for it."""
    data = {"workspace": workspace, "migration": migration, "action": action}
    envelope = {
        "specversion": "1.0",
        "id": event_id,
        "source": SERVICE_SOURCE,
        "type": f"engram.migration.{_token(action)}.v1",
        "time": _rfc3339(time),
        "datacontenttype": "application/json",
        "data": data,
    }
    return encode_json(envelope)


def decode_items_event(data: bytes) -> ItemsEvent:
    """Decode a memory event; unknown attributes are allowed, as CloudEvents demands.

    Raises:
        MalformedError: anything but a CloudEvents 1.0 event of 1 to 256 ids and versions.
    """
    event = _json_object(data)
    if event.get("specversion") != "1.0":
        _malformed("The message is no CloudEvents 1.0 event.")
    event_type, event_id, body = event.get("type"), event.get("id"), event.get("data")
    kind = _KIND_OF_EVENT.get(event_type) if isinstance(event_type, str) else None
    if kind is None:
        _malformed("The event type is no engram memory event of version 1.")
    if not isinstance(event_id, str) or not event_id or not isinstance(body, dict):
        _malformed("The event lacks its id or its data.")
    workspace = body.get("workspace")
    if not isinstance(workspace, str) or not _UUID.fullmatch(workspace):
        _malformed("The event names no workspace.")
    traceparent = event.get("traceparent")
    return ItemsEvent(
        kind,
        workspace,
        _items(body.get("items")),
        event_id,
        traceparent if isinstance(traceparent, str) else "",
    )


def encode_command(
    event_id: str,
    kind: CommandKind,
    data: Mapping[str, Any],
    time: datetime,
    source: str,
) -> bytes:
    """Encode an ingest command.

    Args:
        event_id: CloudEvents ``id``; publish it as ``Nats-Msg-Id`` too, so a retry is a repeat.
        kind: create, update, delete or put.
        data: one item, or ``{"memories": [...]}``.
        time: when the publisher made it, aware.
        source: who published it, a URI reference.

    Raises:
        InvalidError: unknown kind, or data that JSON cannot carry.
    """
    return command_envelope(event_id, kind, encode_json(data), time, source)


def command_envelope(
    event_id: str,
    kind: CommandKind,
    data_json: bytes,
    time: datetime,
    source: str,
) -> bytes:
    """Wrap data that is JSON already, so that a batch is encoded once, item by item.

    Raises:
        InvalidError: unknown kind.
    """
    if kind not in COMMAND_TYPES:
        raise InvalidError("unknown_command_kind", f"No command is called {kind!r}.")
    head = (
        f'{{"specversion":"1.0","id":{json.dumps(event_id)},"source":{json.dumps(source)},'
        f'"type":"{COMMAND_TYPES[kind]}","time":"{_rfc3339(time)}",'
        f'"datacontenttype":"application/json","data":'
    )
    return head.encode() + data_json + b"}"


def encode_json(value: Any) -> bytes:
    """Encode compact UTF-8 JSON; aware datetimes become RFC 3339, uuids their text.

    Raises:
        InvalidError: NaN, infinity, a lone surrogate, a cycle, a naive datetime, or another type
            JSON does not have.
    """
    try:
        return _ENCODER.encode(value).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidError(
            "not_json",
            f"The value cannot be written as JSON ({type(error).__name__}).",
            cure="Use strings, finite numbers, booleans, null, lists, objects and aware times.",
        ) from error


def _items(listed: object) -> tuple[tuple[str, int], ...]:
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_EVENT_ITEMS:
        _malformed(f"The event does not list 1 to {MAX_EVENT_ITEMS} memories.")
    return tuple([_item(entry) for entry in listed])


def _item(entry: object) -> tuple[str, int]:
    if not isinstance(entry, dict):
        _malformed("An item of the event is no object.")
    memory_id, version = entry.get("id"), entry.get("version")
    if not isinstance(memory_id, str) or not _UUID.fullmatch(memory_id):
        _malformed("An item of the event has no memory id.")
    if type(version) is not int or not 0 <= version <= MAX_VERSION:
        _malformed("An item of the event has no version.")
    return memory_id, version


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedError("bad_event", "The message is not JSON.") from error
    if not isinstance(event, dict):
        _malformed("The message is no JSON object.")
    return event


def _token(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise InvalidError(
            "bad_subject",
            "A subject token has 1 to 128 letters, digits, hyphens or underscores.",
            cure="Use the workspace id that `engram status` shows.",
        )
    return name


def _plain(value: object) -> str:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return _rfc3339(value)
    if isinstance(value, UUID):
        return str(value)
    raise TypeError


# Made once: json.dumps with options builds an encoder at every call.
_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
)


def _rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _malformed(detail: str) -> NoReturn:
    raise MalformedError("bad_event", detail)
