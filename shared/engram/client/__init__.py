"""The HTTP client: ``Client`` and ``AsyncClient`` over one pure description of every call."""

from engram.client.asynchronous import AsyncClient
from engram.client.synchronous import Client
from engram.client.types import (
    ContextResult,
    ItemError,
    MemoryChange,
    MemoryFields,
    MemoryItem,
    MemoryRecord,
    Report,
    Revision,
    SearchHit,
    SearchResult,
    WorkspaceInfo,
)

__all__ = [
    "AsyncClient",
    "Client",
    "ContextResult",
    "ItemError",
    "MemoryChange",
    "MemoryFields",
    "MemoryItem",
    "MemoryRecord",
    "Report",
    "Revision",
    "SearchHit",
    "SearchResult",
    "WorkspaceInfo",
]
