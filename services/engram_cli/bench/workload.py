"""The memories benchmarks write: short realistic texts, each its own, the same in every run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from engram.domain.spaces import parse_embedding
from engram.domain.vectors import Matrix
from engram.embedding.provider import Provider
from engram.embedding.registry import ProviderSettings, open_provider
from engram.events import encode_json
from engram_cli.bench.stack import EMBEDDING

ITEMS_A_REQUEST: Final = 500
_USERS: Final = 20
_SUBJECTS: Final = ("coffee", "train tickets", "the quarterly report", "her sister", "a bicycle")
_VERBS: Final = ("prefers", "asked about", "no longer wants", "is planning", "keeps notes on")
_ENDINGS: Final = (
    "and would like to be reminded of it on Monday morning",
    "because the last attempt took longer than it should have",
    "but only when it does not rain and the shop is open",
)


@dataclass(frozen=True, slots=True)
class Memory:
    """One memory to write."""

    user: str
    content: str
    metadata: dict[str, Any]

    @property
    def namespace(self) -> str:
        """Where engram puts it."""
        return f"user:{self.user}"


def memories(count: int, start: int = 0) -> list[Memory]:
    """Return ``count`` memories; number ``start + i`` is the same whatever the start.

    About 130 characters each, over 20 users.
    """
    return [_memory(number) for number in range(start, start + count)]


def _memory(number: int) -> Memory:
    subject, verb = _SUBJECTS[number % 5], _VERBS[number // 5 % 5]
    content = (
        f"In conversation {number} the customer {verb} {subject}, {_ENDINGS[number % 3]}; "
        f"reference {number * 7919 % 1_000_003}."
    )
    user = f"customer-{number % _USERS:02}"
    return Memory(user, content, {"channel": "chat", "turn": number % 40})


def bodies(listed: Sequence[Memory]) -> list[bytes]:
    """Return the bodies of POST /v1/memories/import, 500 native items each."""
    return [
        encode_json({"memories": [_item(memory) for memory in part]})
        for part in parts(listed, ITEMS_A_REQUEST)
    ]


def _item(memory: Memory) -> dict[str, Any]:
    return {"content": memory.content, "user_id": memory.user, "metadata": memory.metadata}


def parts(listed: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Cut a sequence into pieces of at most ``size``."""
    for start in range(0, len(listed), size):
        yield listed[start : start + size]


def null_provider() -> Provider:
    """Return the provider that the measured space has."""
    return open_provider(parse_embedding(EMBEDDING), ProviderSettings())


async def vectors_of(texts: Sequence[str]) -> Matrix:
    """Return the (n, 1024) float32 vectors that engram will store for these texts."""
    provider = null_provider()
    step = provider.limits.max_inputs
    found = [(await provider.embed(part, "document")).vectors for part in parts(texts, step)]
    return np.concatenate(found)
