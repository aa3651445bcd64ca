"""LangGraph and LangMem: items of a store, as its API and its Postgres table give them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from engram.importers.record import Element, ItemError, Warnings
from engram.importers.rows import Row, is_absent, parsed, to_id
from engram.importers.shape import Format, Head

_TEXTS = ("content", "text", "memory", "fact", "data", "body", "value")
_OWNERS = ("user_id", "agent_id", "session_id", "run_id", "thread_id", "app_id")
_TIMES = ("created_at", "updated_at", "expires_at")
_CAMEL = (("created_at", "createdAt"), ("updated_at", "updatedAt"), ("expires_at", "expiresAt"))
_MAX_ID = 512
# What a label says of the one after it.
_OWNER_OF = {
    **dict.fromkeys(("user", "users"), "user_id"),
    **dict.fromkeys(("agent", "agents", "assistant", "assistants"), "agent_id"),
    **dict.fromkeys(("session", "sessions", "thread", "threads"), "session_id"),
    **dict.fromkeys(("app", "apps"), "app_id"),
}
# Names of collections, owned by nobody.
_COLLECTIONS = frozenset(
    {"memories", "memory", "profile", "profiles", "facts", "prefs", "preferences", "collection"}
    | {"semantic", "episodic", "episodes", "procedural", "instructions", "store", "global"}
)


def _matches(head: Head) -> int:
    if head.kind == "item":
        return 8 if {"namespace", "key", "value"} <= head.keys else 0
    return sum(_score(sample) for sample in head.samples)


def _score(sample: Any) -> int:
    if not isinstance(sample, dict) or not {"key", "value"} <= sample.keys():
        return 0
    namespace, prefix = sample.get("namespace"), sample.get("prefix")
    listed = isinstance(namespace, list) or isinstance(sample["value"], dict)
    return 7 if isinstance(prefix, str) or (namespace is not None and listed) else 0


def _convert(element: Element, warnings: Warnings) -> dict[str, Any]:
    columns = element.value
    if not isinstance(columns, dict):
        raise ItemError("not_a_memory", "The element is no item of a store.")
    labels = _labels(columns)
    content, rest = _text(parsed(columns.get("value")))
    flat = {name: rest.pop(name) for name in _OWNERS if to_id(rest.get(name))}
    flat |= {k: v for k, v in columns.items() if k not in ("value", "namespace", "prefix", "key")}
    flat |= {"metadata": rest, "namespace": labels}
    row = Row(replace(element, value=flat), "langgraph", warnings)
    row.item["content"] = content
    for target, name in _CAMEL:
        row.time(target, name)
    row.times(_TIMES)
    row.owners(element.owner)
    if not row.owned:
        row.item |= _owners(labels)
    key = to_id(columns.get("key"))
    if key is not None:
        row.item["external_id"] = _external_id(labels, key)
    row.item["source"] = "langgraph"
    return row.finish()


def _labels(columns: Mapping[str, Any]) -> list[str]:
    """Return a namespace as its labels; the table joins them by dots, which none may hold."""
    value = columns.get("namespace")
    value = columns.get("prefix") if is_absent(value) else value
    given = value.split(".") if isinstance(value, str) else value
    found = [to_id(label) for label in given] if isinstance(given, list) else []
    return [label for label in found if label is not None]


def _owners(labels: list[str]) -> dict[str, str]:
    """Read a namespace as the owners it names.

    ``users``, ``agents``, ``threads`` and ``apps`` say what the next label is; names of collections
    are passed over; all that is left is the user, joined by dots. So nothing of two owners is ever
    put together, however a store orders its labels.
    """
    owners: dict[str, str] = {}
    left: list[str] = []
    at = 0
    while at < len(labels):
        label = labels[at]
        target = _OWNER_OF.get(label.lower())
        if target and at + 1 < len(labels) and target not in owners:
            owners[target] = labels[at + 1]
            at += 1
        elif label.lower() not in _COLLECTIONS:
            left.append(label)
        at += 1
    if left:
        owners["user_id"] = ".".join([*left, *([owners["user_id"]] if "user_id" in owners else [])])
    return owners


def _text(value: Any) -> tuple[str, dict[str, Any]]:
    """Return an item's text and what stands beside it in its value.

    A value may be any JSON: where no text is found, the JSON is the text.
    """
    if not isinstance(value, dict):
        return _as_text(value), {}
    inner = value.get("content")
    if isinstance(inner, dict) and isinstance(inner.get("content"), str):
        # What the store manager writes: {"kind": "Memory", "content": {"content": …}}.
        beside = {k: v for k, v in value.items() if k != "content"}
        more = {k: v for k, v in inner.items() if k != "content"}
        return _as_text(inner["content"]), {**more, **beside}
    for name in _TEXTS:
        if isinstance(value.get(name), str):
            return _as_text(value[name]), {k: v for k, v in value.items() if k != name}
    if not is_absent(inner):
        return _as_text(inner), {k: v for k, v in value.items() if k != "content"}
    return _as_text({k: v for k, v in value.items() if k != "content"}), {}


def _as_text(value: Any) -> str:
    if is_absent(value) or value in ([], {}):
        raise ItemError("empty", "The item's value holds no text.")
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        raise ItemError("too_deep", "The item's value nests too deep to be kept as text.") from None


def _external_id(labels: list[str], key: str) -> str:
    # A key is unique in its namespace only.
    prefix = ".".join(labels).replace("%", "%25").replace("/", "%2F")
    name = f"{prefix}/{key}"
    if len(name) <= _MAX_ID:
        return name
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


FORMAT = Format(
    name="langgraph",
    source="langgraph",
    describe=(
        'LangGraph and LangMem store items ({"namespace": […], "key", "value"}), rows of the '
        'table store ("prefix", "key", "value")'
    ),
    matches=_matches,
    convert=_convert,
    sections=(("items",), ("results",), ("data",)),
)
