"""The table of formats, and which of them a file is in."""

from engram.errors import MalformedError, UsageError
from engram.importers import (
    agentmemory,
    cognee,
    langgraph,
    letta,
    markdown,
    mem0,
    memobase,
    native,
    openmemory,
    postgres,
    supermemory,
    zep,
    zep_edges,
)
from engram.importers.shape import CERTAIN, Format, Head

# Equal scores go to the first. A new format is one file and one row here.
FORMATS: tuple[Format, ...] = (
    native.FORMAT,
    mem0.FORMAT,
    markdown.FORMAT,
    postgres.FORMAT,
    openmemory.FORMAT,
    agentmemory.FORMAT,
    zep.FORMAT,
    zep_edges.FORMAT,
    letta.FORMAT,
    langgraph.FORMAT,
    supermemory.FORMAT,
    memobase.FORMAT,
    cognee.FORMAT,
)


def by_name(name: str) -> Format:
    """Return the format called ``name``; what follows a ``+`` is for `reading.read`.

    Raises:
        UsageError: there is none.
    """
    for candidate in FORMATS:
        if candidate.name == name.partition("+")[0]:
            return candidate
    known = ", ".join(f.name for f in FORMATS)
    raise UsageError("unknown_format", "There is no such import format.", cure=f"Known: {known}.")


def detect(head: Head) -> Format:
    """Return the format that fits a file's head best.

    Raises:
        MalformedError: none does; says what was seen and what is accepted.
    """
    sure = next((f for f in FORMATS if f.matches(head) >= CERTAIN), None)
    if sure is not None:
        return sure
    fitting = [f for f in FORMATS if _covers(f, head)]
    if fitting and (head.kind == "empty" or not (head.samples or head.kind == "lines")):
        return fitting[0]
    scored = [(f.matches(head), f) for f in fitting]
    best = max((score for score, _ in scored), default=0)
    if best <= 0:
        raise _unknown(head)
    return next(f for score, f in scored if score == best)


def _covers(candidate: Format, head: Head) -> bool:
    if head.kind != "sections":
        return True
    return any(pattern[0] in head.lists for pattern in candidate.sections)


def _unknown(head: Head) -> MalformedError:
    accepted = "; ".join(f"{f.name}: {f.describe}" for f in FORMATS)
    return MalformedError(
        "unknown_format",
        f"This is no memory export known here: {_seen(head)}. Accepted are {accepted}.",
        cure="Name the format if you know it, or turn the rows into JSON Lines with a 'content'.",
    )


def _seen(head: Head) -> str:
    # Keys are the sender's own: a few, short and escaped.
    keys = head.keys or {k for s in head.samples if isinstance(s, dict) for k in s}
    shown = ", ".join(ascii(k)[1:-1][:32] for k in sorted(keys)[:12])
    kinds = {"item": "one object", "sections": "an object", "per_owner": "an object of lists"}
    what = kinds.get(head.kind, f"{head.kind} of {_elements(head)}")
    return f"{what} with the keys {shown}" if shown else what


def _elements(head: Head) -> str:
    if not head.samples:
        return "nothing readable"
    types = sorted({type(s).__name__ for s in head.samples})
    return f"elements of type {', '.join(types)}"
