"""What the old store's answers say: the memories a write touched, the rows of a list. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

_OWNERS: Final = ("user_id", "agent_id", "run_id", "app_id", "session_id")
_GONE: Final = frozenset({"DELETE", "DELETED"})
_MISSING_STATUS: Final = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer tells about a write.

    Attributes:
        touched: ids that were stored or changed.
        gone: ids that were deleted.
        pending: the store works on it later: its own name for the work, ``""`` without one.
    """

    touched: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()

    @property
    def anything(self) -> bool:
        """The answer names a memory or work to come."""
        return bool(self.touched or self.gone or self.pending)


def told_by_add(answer: Any) -> Told:
    """Read mem0's answer to ``add``: every generation of Memory and MemoryClient.

    ``{"results": [{"id", "memory", "event"}]}`` or the bare list, with ``event`` ADD, UPDATE,
    DELETE or NONE; ``{"event_id", "status": "PENDING"}``, alone or as a result; ``{"results":
    [{"id", "data": {"memory"}, "event"}]}`` of ``infer=False``; one bare record with an id.
    """
    told: dict[str, list[str]] = {"touched": [], "gone": [], "pending": []}
    for entry in rows_of(answer):
        _tell(entry, told)
    # SUCCEEDED may stand beside results; PENDING stands alone.
    if isinstance(answer, Mapping) and not any(told.values()) and _is_pending(answer):
        told["pending"].append(str(answer.get("event_id") or ""))
    return Told(*(tuple(dict.fromkeys(told[name])) for name in ("touched", "gone", "pending")))


def rows_of(answer: Any) -> list[dict[str, Any]]:
    """Return the rows of a list, a search, or a single record, as plain objects."""
    if isinstance(answer, Mapping):
        for name in ("results", "memories", "items", "edges"):
            if isinstance(answer.get(name), list):
                return [dict(row) for row in answer[name] if isinstance(row, Mapping)]
        return [dict(answer)] if answer.get("id") is not None else []
    if isinstance(answer, list | tuple):
        return [dict(row) for row in answer if isinstance(row, Mapping)]
    return []


def scope_of(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return the owner ids of a call, from its arguments, its options or its filters."""
    scope: dict[str, str] = {}
    for place in (arguments, arguments.get("filters"), _plain(arguments.get("options"))):
        if isinstance(place, Mapping):
            found = {name: place.get(name) for name in _OWNERS}
            scope |= {name: value for name, value in found.items() if isinstance(value, str)}
            inner = place.get("filters")
            if place is not arguments and isinstance(inner, Mapping):
                scope |= scope_of(inner)
    return scope


def json_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with values that JSON has: times as ISO 8601, other types as their text."""
    return {str(name): _json(value) for name, value in row.items()}


def means_gone(error: BaseException) -> bool:
    """Say whether a store's error means that there is no such memory.

    By the HTTP status of the error or of what caused it, else by the name of its class.
    """
    seen: BaseException | None = error
    while seen is not None:
        status = getattr(getattr(seen, "response", None), "status_code", None)
        status = getattr(seen, "status_code", status) if status is None else status
        if status is not None:
            return status in _MISSING_STATUS
        if "notfound" in type(seen).__name__.lower():
            # A file or a module that is not there says nothing about a memory.
            return not isinstance(seen, OSError | ImportError)
        seen = seen.__cause__ or seen.__context__
    return False


def written_since(row: Mapping[str, Any], since: str) -> bool:
    """Say whether a row was written at or after an ISO time, or does not say when."""
    written, moment = _instant(row.get("updated_at") or row.get("created_at")), _instant(since)
    return written is None or moment is None or written >= moment


def _tell(entry: Mapping[str, Any], told: dict[str, list[str]]) -> None:
    if _is_pending(entry):
        told["pending"].append(str(entry.get("event_id") or ""))
        return
    if entry.get("id") is None:
        return
    event = str(entry.get("event") or "ADD").upper()
    # NONE too: mem0 1.x changes the owner ids of a memory that it leaves as it is.
    told["gone" if event in _GONE else "touched"].append(str(entry["id"]))


def _is_pending(entry: Mapping[str, Any]) -> bool:
    return str(entry.get("status") or "").upper() in ("PENDING", "RUNNING", "QUEUED")


def _instant(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        return None
    return value.timestamp()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, Mapping):
        return value
    dump = getattr(value, "model_dump", None) or getattr(value, "dict", None)
    return dump() if callable(dump) else None


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return json_row(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_json(one) for one in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)
