"""Each kind of row in an AgentMemory export as a native item."""

from collections.abc import Callable
from typing import Any

from engram.importers.record import Element, ItemError, Warnings
from engram.importers.rows import Row, to_id
from engram.importers.shape import ENVELOPES
from engram.importers.times import to_iso

# Names of other rows, kept so that they can be followed; more would not fit the metadata.
_MAX_NAMES = 100
_LISTS = ("relatedIds", "sourceObservationIds", "sourceMemoryIds", "sourceSessionIds", "sourceIds")
_LISTS_TOO = ("sessionIds", "supersedes", "files", "facts", "filesModified")
_LEAST_IMPORTANCE = 0.01
_MAX_COUNT = (1 << 31) - 1


def convert(element: Element, warnings: Warnings) -> dict[str, Any]:
    """Return the native item of one row; the section it lies in says what it is.

    Raises:
        ItemError: no text, deleted, or no object.
    """
    if not isinstance(element.value, dict):
        raise ItemError("not_a_memory", "The element is no object.")
    row = Row(element, "agentmemory", warnings)
    if row.pop("deleted") is True:
        raise ItemError("deleted", "The row is deleted.")
    if row.pop("imageData") is not None:
        warnings.add("imageData is left out: pictures are not kept here")
    _KINDS.get(_section(element.path), _memory)(row, element)
    _state(row, element)
    _access(row, element)
    row.owner("agent_id", "agentId")
    row.external_id(("id",))
    for target, name in _TIMES:
        row.time(target, name)
    for name in ("concepts", "tags"):
        row.categories(name)
    for name in (*_LISTS, *_LISTS_TOO):
        _cut(row, name, warnings)
    row.item["source"] = "agentmemory"
    return row.finish()


_TIMES = (
    ("created_at", "createdAt"),
    ("created_at", "timestamp"),
    ("created_at", "startedAt"),
    ("updated_at", "updatedAt"),
    ("expires_at", "forgetAfter"),
)


def _section(path: tuple[str, ...]) -> str:
    inner = path[1:] if path[:1] and path[0] in ENVELOPES else path
    return inner[0] if inner else "memories"


def _memory(row: Row, _: Element) -> None:
    row.content(("content", "title"))
    if row.peek("title") == row.item["content"]:
        row.pop("title")
    _importance(row, "strength", scale=10)


def _semantic(row: Row, _: Element) -> None:
    row.content(("fact", "content"))
    row.put_back("type", row.pop("type") or "semantic")
    _importance(row, "strength", scale=1)
    _importance(row, "confidence", scale=1)


def _procedural(row: Row, _: Element) -> None:
    lines = [_line(row, "name"), _line(row, "triggerCondition", "When: ")]
    steps = row.peek("steps")
    if isinstance(steps, list) and all(isinstance(step, str) for step in steps):
        lines += [f"{n}. {step.strip()}" for n, step in enumerate(row.pop("steps"), 1)]
    lines.append(_line(row, "expectedOutcome", "Expected: "))
    _compose(row, lines)
    row.put_back("type", row.pop("type") or "procedural")
    _importance(row, "strength", scale=1)


def _lesson(row: Row, _: Element) -> None:
    row.content(("content",))
    row.put_back("type", row.pop("type") or "lesson")
    _importance(row, "confidence", scale=1)


def _observation(row: Row, element: Element) -> None:
    narrative = row.peek("narrative")
    if isinstance(narrative, str) and narrative.strip():
        row.content(("narrative",))
    else:
        facts = row.peek("facts")
        told = [f for f in facts if isinstance(f, str)] if isinstance(facts, list) else []
        _compose(row, [_line(row, "title"), _line(row, "subtitle"), *told])
    _importance(row, "importance", scale=10)
    row.owner("session_id", "sessionId")
    session = to_id(element.owner)
    if session is not None:
        row.item.setdefault("session_id", session)


def _session(row: Row, _: Element) -> None:
    _compose(row, [_line(row, "summary") or _line(row, "firstPrompt")])
    row.put_back("type", "session")
    _of_session(row, "id", "session")


def _summary(row: Row, _: Element) -> None:
    decisions = row.peek("keyDecisions")
    told = decisions if isinstance(decisions, list) else []
    lines = [f"- {d.strip()}" for d in told if isinstance(d, str) and d.strip()]
    _compose(row, [_line(row, "title"), _line(row, "narrative"), *lines])
    row.pop("keyDecisions")
    row.put_back("type", "summary")
    _of_session(row, "sessionId", "summary")


_KINDS: dict[str, Callable[[Row, Element], None]] = {
    "memories": _memory,
    "semanticMemories": _semantic,
    "proceduralMemories": _procedural,
    "lessons": _lesson,
    "observations": _observation,
    "sessions": _session,
    "summaries": _summary,
}


def _line(row: Row, name: str, before: str = "") -> str:
    value = row.peek(name)
    if not isinstance(value, str) or not value.strip():
        return ""
    row.pop(name)
    return before + value.strip()


def _compose(row: Row, lines: list[str]) -> None:
    text = "\n".join(line for line in lines if line)
    if not text:
        raise ItemError("empty", "There is no text.")
    row.item["content"] = text


def _of_session(row: Row, name: str, kind: str) -> None:
    # A session and its summary have one id; each needs a name of its own here.
    session = to_id(row.pop(name))
    if session is not None:
        row.item["session_id"] = session
        row.item["external_id"] = f"{kind}:{session}"


def _importance(row: Row, name: str, *, scale: int) -> None:
    """Move a strength between 0 and ``scale``; what is no number stays for the metadata."""
    value = row.peek(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or "importance" in row.item:
        return
    row.item["importance"] = min(max(value / scale, _LEAST_IMPORTANCE), 1.0)
    row.pop(name)


def _state(row: Row, element: Element) -> None:
    replaced = element.known.get("replaced", frozenset())
    latest = row.peek("isLatest")
    if latest is True:
        row.pop("isLatest")
    if latest is False or to_id(row.peek("id")) in replaced:
        row.item["state"] = "superseded"


def _access(row: Row, element: Element) -> None:
    """Carry what its owner's reading tells about a memory: decay goes on from there."""
    count, last = element.known.get("accesses", {}).get(to_id(row.peek("id")), (0, None))
    own = row.peek("accessCount")
    if isinstance(own, int) and not isinstance(own, bool) and 0 <= own <= _MAX_COUNT:
        count = max(count, row.pop("accessCount"))
    seen = to_iso(row.peek("lastAccessedAt"))
    if seen is not None:
        row.pop("lastAccessedAt")
        last = seen if last is None else max(last, seen)
    if count:
        row.item["access_count"] = count
    if last is not None:
        row.item["last_accessed_at"] = last


def _cut(row: Row, name: str, warnings: Warnings) -> None:
    value = row.peek(name)
    if isinstance(value, list) and len(value) > _MAX_NAMES:
        row.put_back(name, value[:_MAX_NAMES])
        warnings.add(f"{name} was cut to {_MAX_NAMES} entries")
