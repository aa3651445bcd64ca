"""Zep: facts as strings and as objects, sessions with their facts, answers of a memory."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from engram.importers.record import Element, ItemError, Warnings
from engram.importers.rows import Row
from engram.importers.shape import Format, Head

_FACT_KEYS = frozenset(
    {"uuid", "uuid_", "created_at", "updated_at", "fact", "content", "rating", "name"}
    | {"source_node_name", "target_node_name", "valid_at", "invalid_at", "expired_at"}
)
_OTHER_PRODUCTS = frozenset({"observations", "exportedAt", "exportData", "cogx_version"})
_OWNERS = ("user_id", "session_id", "thread_id")
# Said once for a whole session, and no facts.
_NOT_KEPT = frozenset({"facts", "relevant_facts", "messages", "summary", "context", "metadata"})
_LEFT_OUT = ("messages", "summary", "context")
_NO_OWNER = (
    "Facts name no user and no session: they go to the namespace global unless one is given. "
    "Import the file of each user or session by itself"
)


def _matches(head: Head) -> int:
    if head.kind == "csv" or head.copied or not _OTHER_PRODUCTS.isdisjoint(head.keys):
        return 0
    if head.kind == "item" and "relevant_facts" in head.keys:
        return 8
    wrapped = "facts" in head.lists
    score = 1 if wrapped or ("sessions" in head.lists and not head.samples) else 0
    return score + sum(_score(sample, wrapped=wrapped) for sample in head.samples)


def _score(sample: Any, *, wrapped: bool) -> int:
    if isinstance(sample, str):
        return 5 if wrapped else 0
    if not isinstance(sample, dict):
        return 0
    if _is_container(sample):
        return 6
    keys = sample.keys()
    if "fact" in keys and keys <= _FACT_KEYS and not keys.isdisjoint({"uuid", "uuid_"}):
        return 6 if wrapped or len(keys) > 2 else 1
    return 6 if _is_session(sample) else 0


def _is_container(value: Mapping[str, Any]) -> bool:
    """Say whether an object lists facts or sessions, as one line or element may."""
    if any(isinstance(value.get(key), list) for key in ("facts", "relevant_facts")):
        return True
    sessions = value.get("sessions")
    return isinstance(sessions, list) and "total_count" in value


def _is_session(value: Mapping[str, Any]) -> bool:
    named = "session_id" in value or "thread_id" in value
    return named and "uuid" in value and not ({"memory", "content", "fact", "text"} & value.keys())


def _expand(element: Element) -> Iterator[Element]:
    value = element.value
    if isinstance(value, dict) and isinstance(value.get("sessions"), list):
        for session in value["sessions"]:
            inside = replace(element, path=(*element.path, "sessions"), value=session)
            yield from _facts_of(inside)
        return
    yield from _facts_of(element)


def _facts_of(element: Element) -> Iterator[Element]:
    """Yield a session's or an answer's facts; the element itself when it lists none.

    An answer gives the same fact as a string and as an object: the object says more, such as
    that the fact has ended, so it stands for both.
    """
    value = element.value
    if not isinstance(value, dict):
        yield element
        return
    relevant = _listed(value, "relevant_facts")
    told = [fact.get("fact") for fact in relevant if isinstance(fact, dict)]
    texts = {text for text in told if isinstance(text, str)}
    facts = [f for f in _listed(value, "facts") if not (isinstance(f, str) and f in texts)]
    if not (relevant or facts):
        yield element
    for fact in (*facts, *relevant):
        yield replace(element, value=_of_session(fact, value))


def _listed(value: Mapping[str, Any], name: str) -> list[Any]:
    found = value.get(name)
    return found if isinstance(found, list) else []


def _of_session(fact: Any, session: Mapping[str, Any]) -> Any:
    if not isinstance(fact, str | dict):
        return fact
    own = {"fact": fact} if isinstance(fact, str) else fact
    given = {name: session[name] for name in (*_OWNERS, "deleted_at") if name in session}
    rest = {k: v for k, v in session.items() if k not in _NOT_KEPT and k not in given and v}
    if rest:
        given["session"] = rest
    if session.get("metadata"):
        given["metadata"] = session["metadata"]
    return {**given, **own}


def _convert(element: Element, warnings: Warnings) -> dict[str, Any]:
    row = Row(element, "zep", warnings)
    if row.pop("deleted_at") is not None:
        raise ItemError("deleted", "The session is deleted.")
    if "fact" not in row and "content" not in row:
        raise ItemError("kind_not_imported", "It holds no facts; messages are not imported.")
    row.content(("fact", "content"))
    if row.peek("content") == row.item["content"]:
        row.pop("content")
    row.owners(element.owner)
    row.external_id(("uuid", "uuid_"))
    row.times(("created_at", "updated_at"))
    row.validity()
    if not row.owned:
        warnings.unowned(_NO_OWNER)
    row.item["source"] = "zep"
    return row.finish()


def _remarks(head: Head) -> Iterable[str]:
    # An answer that is read whole; beside a list of facts the reader itself says what it passes.
    if "relevant_facts" in head.keys:
        named = ", ".join(key for key in _LEFT_OUT if key in head.keys)
        if named:
            yield f"Only the facts of an answer are imported, not its {named}"


FORMAT = Format(
    name="zep",
    source="zep",
    describe=(
        'Zep facts ({"facts": […]} of strings or objects, also one by one), sessions, '
        "answers of a memory"
    ),
    matches=_matches,
    convert=_convert,
    sections=(("facts",), ("relevant_facts",), ("sessions",)),
    expand=_expand,
    remarks=_remarks,
)
