"""AgentMemory's ExportData, 0.3 to 0.9, as its export route answers or its import route takes it.

The shape is that of AgentMemory 0.9.29 (``src/types.ts``, ``src/functions/export-import.ts``). Its
own import accepts an exact set of versions; here the minor version decides, because patches did
not change the shape.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engram.errors import MalformedError
from engram.importers.agentmemory_rows import convert
from engram.importers.elements import Elements
from engram.importers.layout import Layout
from engram.importers.record import Warnings
from engram.importers.rows import to_id
from engram.importers.shape import CERTAIN, ENVELOPES, Format, Head, Part, Pattern
from engram.importers.times import to_iso

_KNOWN_VERSION = re.compile(r"v?0\.[3-9](\.[0-9A-Za-z.+-]*)?")
_REQUIRED = frozenset({"sessions", "memories", "summaries", "observations"})
_OWN = frozenset(
    {"semanticMemories", "proceduralMemories", "accessLogs", "graphNodes", "graphEdges"}
    | {"actionEdges", "sentinels", "crystals", "lessons", "summaries", "observations", "sessions"}
)
_MAX_LOGS = 50_000
_MAX_REPLACED = 200_000
_MAX_ID = 512


def _matches(head: Head) -> int:
    keys = head.keys
    dated = not {"exportedAt", *ENVELOPES}.isdisjoint(keys) and not _OWN.isdisjoint(keys)
    if dated or len(_REQUIRED & keys) >= 3 or ("version" in keys and len(_OWN & keys) >= 2):
        return CERTAIN
    known = isinstance(head.values.get("version"), str) and "memories" in head.lists
    return sum(5 for row in head.samples if _is_memory(row)) + 50 * known


def _is_memory(row: Any) -> bool:
    return isinstance(row, dict) and "isLatest" in row and "content" in row


def _check(head: Head) -> None:
    _refuse_unknown(head.values.get("version"))


def _refuse_unknown(version: Any) -> None:
    if version is None or (isinstance(version, str) and _KNOWN_VERSION.fullmatch(version.strip())):
        return
    raise MalformedError(
        "unknown_version",
        f"The AgentMemory export has version {str(version)[:32]!a}; "
        "known are 0.3 to 0.9, whatever the patch.",
        cure='Export with AgentMemory 0.9, or write "0.9.0" there to have it read like one.',
    )


def _learn(parts: Sequence[Part], warnings: Warnings) -> Mapping[str, Any]:
    accesses: dict[str, tuple[int, str | None]] = {}
    replaced: set[str] = set()
    for part in parts:
        for path, row in _rows(part):
            if path == "accessLogs":
                _learn_access(accesses, row, warnings)
            elif path == "pagination" and row.get("hasMore") is True:
                warnings.add("The export is an incomplete page: it says that there is more")
            elif path == "memories":
                _learn_replaced(replaced, row, warnings)
    return {"accesses": accesses, "replaced": replaced}


def _rows(part: Part) -> Iterator[tuple[str, dict[str, Any]]]:
    patterns = _sections("accessLogs", "memories", "pagination")
    elements = Elements(part.member.source(), Layout(Head("sections")), patterns, Warnings())
    try:
        for element in elements:
            if element.path and isinstance(element.value, dict):
                yield element.path[-1], element.value
    except MalformedError:
        # Reading reports the damage, after what came before it.
        return
    # A file with its keys sorted has its version last.
    _refuse_unknown(elements.aside.get("version"))


def _learn_access(
    accesses: dict[str, tuple[int, str | None]], row: dict[str, Any], warnings: Warnings
) -> None:
    memory, count = to_id(row.get("memoryId")), row.get("count")
    if memory is None or len(memory) > _MAX_ID or not isinstance(count, int) or count < 0:
        warnings.add("an access log could not be read")
    elif len(accesses) < _MAX_LOGS:
        accesses[memory] = (min(count, (1 << 31) - 1), to_iso(row.get("lastAt")))
    else:
        warnings.add(f"more than {_MAX_LOGS:,} access logs; the further ones are left out")


def _learn_replaced(replaced: set[str], row: dict[str, Any], warnings: Warnings) -> None:
    names = row.get("supersedes")
    own = to_id(row.get("id"))
    for name in names if isinstance(names, list) else ():
        old = to_id(name)
        if old is None or old == own or len(old) > _MAX_ID:
            continue
        if len(replaced) < _MAX_REPLACED:
            replaced.add(old)
        else:
            warnings.add(f"more than {_MAX_REPLACED:,} superseded ids; further ones are left out")


def _sections(*names: str) -> tuple[Pattern, ...]:
    """Return where sections lie: at the top, or in the request that its import route takes."""
    bare = [tuple(name.split(".")) for name in names]
    return (*bare, *((envelope, *path) for envelope in sorted(ENVELOPES) for path in bare))


FORMAT = Format(
    name="agentmemory",
    source="agentmemory",
    describe='AgentMemory exports, 0.3 to 0.9 ({"version", "sessions", "memories", …})',
    matches=_matches,
    convert=convert,
    sections=_sections("memories", "semanticMemories", "proceduralMemories", "lessons"),
    options={
        "observations": _sections("observations.*"),
        "sessions": _sections("sessions", "summaries"),
    },
    check=_check,
    learn=_learn,
    heard=frozenset({"accessLogs"}),
)
