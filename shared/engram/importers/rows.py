"""One foreign row on its way to a native item: what is understood moves, the rest is kept."""

from typing import Any

from engram import strictjson
from engram.domain.fields import FieldError, check_categories
from engram.errors import EngramError
from engram.importers.record import Element, ItemError, Warnings
from engram.importers.times import to_iso

# Exactly what export jobs write for a missing value; wider would take a user called "Nan" for none.
_NO_VALUE = frozenset({"", "None"})
# Made from the text, or by another model: never worth keeping.
_DERIVED = ("hash", "text_lemmatized", "embedding", "embeddings", "vector", "score")
_DERIVED_TOO = ("score_breakdown", "fact_embedding", "content_embedding")
_OWNERS = (
    ("user_id", ("user_id",)),
    ("agent_id", ("agent_id",)),
    ("session_id", ("session_id", "run_id", "thread_id")),
    ("app_id", ("app_id",)),
)
# The ids of a native item.
IDS = frozenset({target for target, _ in _OWNERS} | {"external_id"})


class Row:
    """A foreign row and the item made of it.

    Attributes:
        item: the native item so far.
    """

    def __init__(self, element: Element, source: str, warnings: Warnings) -> None:
        self.item: dict[str, Any] = {}
        self._left = _as_object(element.value)
        self._source = source
        self._warnings = warnings
        for name in (*_DERIVED, *_DERIVED_TOO):
            self._left.pop(name, None)

    @property
    def owned(self) -> bool:
        """Whether the item names an owner so far."""
        return any(target in self.item for target, _ in _OWNERS)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def peek(self, name: str) -> Any:
        """Return a column without moving it."""
        return self._left.get(name)

    def pop(self, name: str) -> Any:
        """Take a column out."""
        return self._left.pop(name, None)

    def put_back(self, name: str, value: Any) -> None:
        """Keep a value that was taken out, for the metadata."""
        self._left[name] = value

    def content(self, names: tuple[str, ...]) -> None:
        """Move the first column of ``names`` that holds text.

        Raises:
            ItemError: ``empty`` or ``not_text``.
        """
        for name in names:
            value = self._left.get(name)
            if isinstance(value, str) and value.strip():
                self.item["content"] = self._left.pop(name)
                return
        if any(self._left.get(n) is not None and not _is_text(self._left[n]) for n in names):
            raise ItemError("not_text", f"The text is no string (looked at {', '.join(names)}).")
        raise ItemError("empty", f"There is no text (looked at {', '.join(names)}).")

    def owners(self, fallback_user: str | None = None) -> None:
        """Move every owner id; ``fallback_user`` owns a row that names no user."""
        for target, names in _OWNERS:
            for name in names:
                self.owner(target, name)
        if "user_id" not in self.item:
            user = to_id(fallback_user)
            if user is not None:
                self.item["user_id"] = user

    def owner(self, target: str, name: str) -> None:
        """Move one id to ``target`` unless that is taken; what is no id stays for the metadata."""
        value = self._left.get(name)
        if is_absent(value):
            self._left.pop(name, None)
            return
        found = to_id(value)
        if found is None or self.item.get(target, found) != found:
            return
        self.item[target] = found
        self._left.pop(name)

    def external_id(self, names: tuple[str, ...]) -> None:
        """Take the foreign id from the first of ``names`` that has one."""
        for name in names:
            self.owner("external_id", name)
            if "external_id" in self.item:
                return

    def time(self, target: str, name: str) -> None:
        """Move a time; one that cannot be read stays for the metadata, with a warning."""
        value = self._left.get(name)
        if is_absent(value) or value in ("infinity", "-infinity"):
            self._left.pop(name, None)
            return
        instant = to_iso(value)
        if instant is None:
            self._warnings.add(f"{name} could not be read as a time and is kept in metadata")
            return
        self.item[target] = instant
        self._left.pop(name)

    def times(self, names: tuple[str, ...]) -> None:
        """Move the times that have the same name in both worlds."""
        for name in names:
            self.time(name, name)

    def validity(self) -> None:
        """Read when a fact ended: it may be kept then, but must never come alive."""
        ends = (self.peek("invalid_at"), self.peek("expired_at"))
        if not all(is_absent(end) or end == "infinity" for end in ends):
            self.item["state"] = "superseded"
        self.time("valid_until", "invalid_at")

    def categories(self, name: str) -> None:
        """Move a list of labels; anything that is none here stays for the metadata."""
        value = self._left.get(name)
        if is_absent(value):
            self._left.pop(name, None)
            return
        entries = [value] if isinstance(value, str) else value
        if not isinstance(entries, list) or not all(isinstance(e, str) for e in entries):
            return
        labels = [*self.item.get("categories", []), *(e for e in entries if e.strip())]
        try:
            labels = check_categories(labels)
        except FieldError:
            self._warnings.add(f"{name} holds labels that are none here and is kept in metadata")
            return
        self._left.pop(name)
        if labels:
            self.item["categories"] = labels

    def finish(self) -> dict[str, Any]:
        """Return the item, with every column not understood in its metadata."""
        metadata = _metadata(self._left.pop("metadata", None))
        for name, value in self._left.items():
            if value is None or value in ("", [], {}):
                continue
            if name in metadata and metadata[name] == value:
                continue
            metadata[f"{self._source}_{name}" if name in metadata else name] = value
        if metadata:
            self.item["metadata"] = metadata
        return self.item


def to_id(value: Any) -> str | None:
    """Return an id as a string: strings trimmed, whole numbers in digits, else None."""
    if isinstance(value, bool) or is_absent(value):
        return None
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    return None


def is_absent(value: Any) -> bool:
    """Say whether a value stands for no value, such as null, blanks or the string "None"."""
    return value is None or (isinstance(value, str) and value.strip() in _NO_VALUE)


def parsed(value: Any) -> Any:
    """Return what a string of JSON holds when it is an object or array, else the value."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        return strictjson.loads(value.encode())
    except (EngramError, ValueError, RecursionError):
        return value


def _as_object(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"content": value}
    if not isinstance(value, dict):
        raise ItemError("not_a_memory", "The element is neither an object nor a string.")
    return dict(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _metadata(value: Any) -> dict[str, Any]:
    value = parsed(value)
    if isinstance(value, dict):
        return dict(value)
    return {} if is_absent(value) else {"metadata": value}
