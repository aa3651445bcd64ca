"""A memory as it arrives: the strict decoder of its fields, its namespace and its hashes."""

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from engram.domain.fields import FIELDS, IDENTITY, Field, FieldError
from engram.errors import Fault, InvalidError

State = Literal["staged", "active", "superseded", "merged", "archived", "deleted"]

_WRITABLE = {f.name: f for f in FIELDS if f.writable}
_IMPORTABLE = {f.name: f for f in (*FIELDS, *IDENTITY)}
_PATCHABLE = {f.name: f for f in FIELDS if f.patchable}
# A native export carries these; an import accepts and ignores what only the store decides.
_IGNORED_IN_IMPORT = frozenset({"version", "embedded"})


@dataclass(slots=True)
class NewMemory:
    """One memory to store, checked and ready; times are UTC, absent values are None.

    Nobody changes it. That it is not frozen saves three quarters of the time it takes to make one
    (as for `Arriving`).

    Attributes:
        id: of a record that another engram exported; None for everything that gets an id here.
        merged_into: the memory that answers for it, in the state ``merged`` only.
    """

    content: str
    namespace: str
    user_id: str | None = None
    agent_id: str | None = None
    session_id: str | None = None
    app_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    categories: list[str] = field(default_factory=list)
    importance: float = 0.5
    pinned: bool = False
    expires_at: datetime | None = None
    valid_until: datetime | None = None
    source: str = "native"
    external_id: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    last_accessed_at: datetime | None = None
    access_count: int = 0
    reinforced_at: datetime | None = None
    state: State = "active"
    id: UUID | None = None
    merged_into: UUID | None = None

    @property
    def owners(self) -> tuple[str | None, str | None, str | None, str | None]:
        """User, agent, session and app id: two memories fold only when all four agree."""
        return self.user_id, self.agent_id, self.session_id, self.app_id


def namespace_of(
    user_id: str | None, agent_id: str | None, session_id: str | None, app_id: str | None
) -> str:
    """Return the namespace of owner ids: user, else agent, else session, else app, else global."""
    if user_id:
        return f"user:{user_id}"
    if agent_id:
        return f"agent:{agent_id}"
    if session_id:
        return f"session:{session_id}"
    return f"app:{app_id}" if app_id else "global"


def fold(content: str) -> str:
    """Return the text two exact repeats share: NFC, white space collapsed, case kept."""
    if not content.isascii():
        content = unicodedata.normalize("NFC", content)
    return " ".join(content.split())


def fold_hash(content: str) -> bytes:
    """Return 16 bytes that are equal for exact repeats (SHA-256 of `fold`, cut)."""
    return hashlib.sha256(fold(content).encode()).digest()[:16]


def hashes(content: str) -> tuple[bytes, bytes]:
    """Return `fold_hash` and `content_hash`; of a text that folds to itself they are one."""
    sha256, folded = content_hash(content), fold(content)
    return (sha256 if folded == content else content_hash(folded))[:16], sha256


def content_hash(content: str) -> bytes:
    """Return the SHA-256 of the content as it was sent."""
    return hashlib.sha256(content.encode()).digest()


def decode_item(value: Any, *, imported: bool = False, pointer: str = "") -> NewMemory:
    """Check one JSON item and return the memory it describes.

    Args:
        value: the parsed JSON value.
        imported: also accept what only a move carries: state, access counts, further times.
        pointer: JSON pointer of the item, put before each fault's own.

    Raises:
        InvalidError: with one fault for each thing wrong.
    """
    allowed = _IMPORTABLE if imported else _WRITABLE
    clean, faults = _decode_fields(value, allowed, pointer, ignore_known=imported)
    if not faults and "content" not in clean:
        faults.append(Fault(f"{pointer}/content", "missing", "content is required"))
    if (clean.get("state") == "merged") != (clean.get("merged_into") is not None):
        detail = "names a survivor in the state merged, and only then"
        faults.append(Fault(f"{pointer}/merged_into", "wrong_survivor", detail))
    if faults:
        raise invalid(faults)
    if clean.get("namespace") is None:
        clean["namespace"] = namespace_of(
            clean.get("user_id"),
            clean.get("agent_id"),
            clean.get("session_id"),
            clean.get("app_id"),
        )
    if clean.get("source") is None:
        clean["source"] = "native"
    return NewMemory(**clean)


def decode_patch(value: Any) -> dict[str, Any]:
    """Check the body of a PATCH and return the fields to change.

    Raises:
        InvalidError: with one fault for each thing wrong, or when nothing would change.
    """
    clean, faults = _decode_fields(value, _PATCHABLE, "", ignore_known=False)
    if not faults and not clean:
        faults.append(Fault("", "empty", "name at least one field to change"))
    if faults:
        raise invalid(faults)
    return clean


def invalid(faults: Iterable[Fault]) -> InvalidError:
    """Return the error that carries these faults."""
    found = tuple(faults)
    first = f"{found[0].pointer or 'The item'} {found[0].detail}" if found else ""
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return InvalidError(
        "invalid_memory", f"{first}{more}.", cure="Correct the named fields.", faults=found
    )


def _decode_fields(
    value: Any, allowed: Mapping[str, Field], pointer: str, *, ignore_known: bool
) -> tuple[dict[str, Any], list[Fault]]:
    if not isinstance(value, dict):
        return {}, [Fault(pointer, "wrong_type", "must be an object")]
    clean: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, raw in value.items():
        known = allowed.get(name)
        if known is None:
            if not (ignore_known and name in _IGNORED_IN_IMPORT):
                faults.append(_unknown(pointer, name, allowed))
            continue
        try:
            clean[name] = known.check(raw)
        except FieldError as error:
            where = f"{pointer}/{name}{error.where}"
            faults.append(Fault(where, error.code, str(error)))
    return clean, faults


def _unknown(pointer: str, name: str, allowed: Mapping[str, Field]) -> Fault:
    # The name is the sender's own text: shown short, escaped and only to the sender.
    shown = ascii(name)[1:-1][:40].replace("~", "~0").replace("/", "~1")
    return Fault(
        f"{pointer}/{shown}", "unknown_field", f"is not a field here; known: {', '.join(allowed)}"
    )
