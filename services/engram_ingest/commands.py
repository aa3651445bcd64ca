"""Ingest commands from NATS: CloudEvents decoded by the same strict decoder as HTTP."""

import hashlib
import io
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from engram import events, strictjson
from engram.domain.arrival import Arriving, Plan
from engram.domain.memory import NewMemory, decode_item, decode_patch, invalid
from engram.errors import EngramError, Fault, InvalidError, MalformedError
from engram.importers.reading import read
from engram.storage.ids import new_id
from engram_ingest.import_arriving import arrive
from engram_ingest.import_options import Options

MAX_ITEMS = 500
_MAX_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Change:
    """One update or delete.

    Attributes:
        target: the id, or (source, external id).
        changes: fields to change; None deletes.
        remember: a delete of a name that is not known leaves its tombstone, so that no late import
            brings the memory after all.
    """

    target: UUID | tuple[str, str]
    changes: dict[str, Any] | None
    remember: bool = False


@dataclass(frozen=True, slots=True)
class BadItem:
    """One item of a command that cannot be done, for the dead letters."""

    value: Any
    error: EngramError


@dataclass(slots=True)
class Command:
    """A decoded command: its good items, of one of three sorts, and its bad ones.

    Attributes:
        key: names the command, so that a redelivery does nothing twice.
        sha256: of the message.
        source: CloudEvents ``source``, kept as the actor.
    """

    workspace: UUID
    kind: events.CommandKind
    key: str
    sha256: bytes
    source: str
    creates: list[NewMemory] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    puts: list[Arriving] = field(default_factory=list)
    bad: list[BadItem] = field(default_factory=list)


def decode_command(subject: str, data: bytes) -> Command:
    """Decode a message; single bad items are set apart, the rest stays good.

    Raises:
        EngramError: nothing of the message can be used.
    """
    workspace = UUID(events.workspace_of_ingest_subject(subject))
    event = strictjson.loads(data, max_bytes=_MAX_BYTES, what="message")
    if not isinstance(event, dict) or event.get("specversion") != "1.0":
        raise _malformed("The message is no CloudEvents 1.0 event.")
    event_id, source = event.get("id"), event.get("source")
    if not _short(event_id) or not _short(source):
        raise _malformed("The event lacks an id or a source of 1 to 512 characters.")
    kind = events.command_kind(event.get("type"))
    named = hashlib.sha256(f"{source}\0{event_id}".encode()).hexdigest()
    sha256 = hashlib.sha256(data).digest()
    command = Command(workspace, kind, f"nats-{named}", sha256, str(source))
    if kind == "put":
        decode_puts(command, event.get("data"))
        return command
    for position, item in enumerate(_items(event.get("data"))):
        _decode(command, item, f"/data/memories/{position}")
    return command


def _items(data: Any) -> list[Any]:
    if isinstance(data, dict) and "memories" in data:
        if set(data) != {"memories"} or not isinstance(data["memories"], list):
            raise _malformed("The data holds something beside its list of memories.")
        items = data["memories"]
    else:
        items = [data]
    if not 1 <= len(items) <= MAX_ITEMS:
        raise InvalidError(
            "bad_item_count",
            f"A command carries 1 to {MAX_ITEMS} memories.",
            cure="Send them in several commands.",
        )
    return items


def _decode(command: Command, item: Any, pointer: str) -> None:
    try:
        if command.kind == "create":
            command.creates.append(decode_item(item, pointer=pointer))
        else:
            command.changes.append(_change(item, command.kind, pointer))
    except InvalidError as error:
        command.bad.append(BadItem(item, error))


def _change(item: Any, kind: events.CommandKind, pointer: str) -> Change:
    if not isinstance(item, dict):
        raise invalid([Fault(pointer, "wrong_type", "must be an object")])
    rest = dict(item)
    target = _target(rest, pointer)
    if kind == "update":
        return Change(target, decode_patch(rest))
    remember = rest.pop("remember", False)
    if rest or not isinstance(remember, bool):
        raise invalid([Fault(pointer, "unknown_field", "a delete names only the memory")])
    return Change(target, None, remember is True)


def _target(rest: dict[str, Any], pointer: str) -> UUID | tuple[str, str]:
    named = rest.pop("id", None)
    source, external_id = rest.pop("source", "native"), rest.pop("external_id", None)
    try:
        if named is not None:
            return UUID(str(named))
    except ValueError:
        raise invalid([Fault(f"{pointer}/id", "not_an_id", "is no memory id")]) from None
    if isinstance(external_id, str) and isinstance(source, str) and external_id and source:
        return source, external_id
    raise invalid([Fault(pointer, "missing", "must name an id, or a source and external_id")])


def _short(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 512


def _malformed(detail: str) -> MalformedError:
    return MalformedError("bad_command", detail, cure="See docs/publisher.md for the format.")


def decode_puts(command: Command, data: Any) -> None:
    """Read rows of a format of imports, each of which is stored or changes what has its name.

    Raises:
        EngramError: the rows are none, or of a format that there is not.
    """
    named = dict(data) if isinstance(data, dict) and "memories" in data else {"memories": [data]}
    format_name = named.pop("format", "native")
    rows = _items(named)
    found_rows = list(read(io.BytesIO(orjson.dumps(rows)), format=str(format_name)))
    if len(found_rows) != len(rows):
        raise _malformed("A row of a put is one memory; some of these hold several, or none.")
    arrives = arrive(command.workspace, Options(strategy="merge"), Plan(), new_id)
    for row, found in zip(rows, found_rows, strict=True):
        arrived = arrives(found)
        if isinstance(arrived, Fault):
            kept = {"format": format_name, "memories": [row]}
            command.bad.append(BadItem(kept, invalid([arrived])))
        else:
            command.puts.append(arrived)
