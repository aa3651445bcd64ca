"""Shapes of the public HTTP contract, as typed dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NotRequired, Required, TypedDict

State = Literal["active", "superseded", "merged", "archived", "deleted"]
Strategy = Literal["skip", "merge", "replace"]


class OwnerFields(TypedDict, total=False):
    """Whose memory it is; the namespace follows from the ids when it is not given."""

    namespace: str
    user_id: str | None
    agent_id: str | None
    session_id: str | None
    app_id: str | None


class MemoryFields(OwnerFields, total=False):
    """What a publisher may say about a memory besides its text."""

    metadata: Mapping[str, Any]
    categories: Sequence[str]
    importance: float
    pinned: bool
    expires_at: datetime | str | None
    valid_until: datetime | str | None
    source: str
    external_id: str | None


class MemoryItem(MemoryFields):
    """A memory to be stored."""

    content: Required[str]


class MemoryChange(TypedDict, total=False):
    """Fields to change; what is left out stays, ``None`` clears."""

    content: str
    metadata: Mapping[str, Any]
    categories: Sequence[str]
    importance: float
    pinned: bool
    expires_at: datetime | str | None
    valid_until: datetime | str | None


class MemoryRecord(TypedDict):
    """A stored memory; times are RFC 3339 text in UTC."""

    id: str
    namespace: str
    content: str
    version: int
    state: State
    user_id: str | None
    agent_id: str | None
    session_id: str | None
    app_id: str | None
    metadata: dict[str, Any]
    categories: list[str]
    importance: float
    pinned: bool
    source: str
    external_id: str | None
    merged_into: str | None
    created_at: str
    updated_at: str
    expires_at: str | None
    valid_until: str | None
    last_accessed_at: str | None
    access_count: int
    embedded: bool
    folded: NotRequired[bool]


class Revision(TypedDict):
    """One text a memory has had."""

    version: int
    content: str
    event: str
    at: str
    actor: str | None


class ListOptions(OwnerFields, total=False):
    """Filters of a list."""

    state: State
    updated_since: datetime | str
    source: str
    external_id: str


class SearchOptions(TypedDict, total=False):
    """What narrows and ranks a search."""

    namespace: str
    filters: Mapping[str, Any]
    limit: int
    min_score: float
    rank: Literal["similarity", "blended"]


class SearchHit(TypedDict):
    """A found memory, its score, and the ids of equal texts folded under it."""

    memory: MemoryRecord
    score: float
    similar: list[str]


class SearchResult(TypedDict):
    """Hits, best first; ``degraded`` when full-text search stood in for vectors."""

    results: list[SearchHit]
    space: str | None
    route: Literal["exact", "indexed", "lexical"]
    degraded: bool


class ContextOptions(TypedDict, total=False):
    """What narrows a context and how it is written."""

    namespace: str
    filters: Mapping[str, Any]
    limit: int
    max_tokens: int
    format: Literal["bullets", "text", "xml"]


class ContextResult(TypedDict):
    """Text for a prompt, the ids it was made of, and its size in tokens (estimated)."""

    context: str
    memories: list[str]
    tokens: int


class ItemError(TypedDict):
    """Why one item of an import failed; ``index`` counts items from 0, ``line`` lines from 1."""

    index: int | None
    line: int | None
    external_id: str | None
    code: str
    detail: str


class Report(TypedDict):
    """What became of an import's items; the counts after ``received`` add up to it.

    A replacement also says how many memories it archived, and the id it is undone by.
    """

    format: str
    received: int
    imported: int
    updated: int
    duplicates: int
    superseded: int
    skipped: int
    failed: int
    by_namespace: dict[str, int]
    warnings: list[str]
    errors: list[ItemError]
    archived: NotRequired[int]
    import_id: NotRequired[str]


class ImportOptions(TypedDict, total=False):
    """How an import treats what is there already, and where it goes."""

    strategy: Strategy
    dry_run: bool
    namespace: str
    wait: Literal["embedded"]


class VectorCounts(TypedDict):
    """How far the vectors of one space are."""

    current: int
    pending: int
    dead: int


class WorkspaceInfo(TypedDict):
    """A workspace and what it holds; ``vectors`` is keyed by space."""

    id: str
    name: str
    memory_count: int
    by_state: dict[str, int]
    vectors: dict[str, VectorCounts]
    usage: dict[str, Any]
