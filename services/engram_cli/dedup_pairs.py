"""Pairs of texts judged on this machine, as the sweep would: embedded, examined, decided."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engram.domain.dedup_decision import Decision, Thresholds, decide
from engram.domain.dedup_score import LabelledPair
from engram.domain.dedup_thresholds import default_thresholds
from engram.domain.guard import examine
from engram.embedding.registry import open_provider
from engram.errors import InvalidError, UnavailableError, UsageError
from engram.settings import Settings

if TYPE_CHECKING:
    from engram.embedding.provider import Provider

Pair = tuple[str, str, str]
"""Id and both texts."""

_BATCH: Final = 128


def provider_of(settings: Settings) -> Provider:
    """Open the configured provider: the local model when none is named and there is no key."""
    return open_provider(settings.space, settings.providers)


async def judged(
    provider: Provider, pairs: Iterable[Pair], thresholds: Thresholds | None = None
) -> list[Decision]:
    """Return a decision for each pair, in order, by the code that the sweep uses.

    Raises:
        UnavailableError: the provider cannot embed them.
    """
    chosen = thresholds or default_thresholds()
    waiting, decisions = iter(pairs), []
    while batch := list(islice(waiting, _BATCH)):
        cosines = await cosines_of(provider, batch)
        decisions += [
            decide(cosine, examine(a, b), chosen)
            for (_, a, b), cosine in zip(batch, cosines, strict=True)
        ]
    return decisions


async def cosines_of(provider: Provider, pairs: Sequence[Pair]) -> list[float]:
    """Return the cosine of each pair's vectors, as they would be stored.

    Raises:
        UnavailableError: the provider cannot embed them.
    """
    from engram.embedding import cosines
    from engram.embedding.provider import ProviderError

    try:
        return await cosines.cosines_of(provider, [(a, b) for _, a, b in pairs])
    except ProviderError as error:
        raise UnavailableError(
            "provider_failed",
            f"The texts could not be embedded: {error.detail}",
            cure="ENGRAM_EMBEDDING=minilm embeds on this machine.",
        ) from error


def in_batches(settings: Settings, pairs: Iterator[Pair]) -> Iterator[tuple[Pair, Decision]]:
    """Yield pairs with their decisions, a batch at a time, so that a long stream goes through."""
    with asyncio.Runner() as runner:
        provider = provider_of(settings)
        try:
            while batch := list(islice(pairs, _BATCH)):
                yield from zip(batch, runner.run(judged(provider, batch)), strict=True)
        finally:
            runner.run(provider.close())


def read_pairs(lines: Iterable[str]) -> Iterator[Pair]:
    """Yield pairs from JSON lines with ``id``, ``a`` and ``b``; empty lines are passed over.

    Raises:
        InvalidError: a line is no such pair.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = _object(line, number)
            yield str(row["id"]), row["a"], row["b"]


def read_labelled(path: Path) -> list[LabelledPair]:
    """Return the labelled pairs of a file of JSON lines.

    Raises:
        UsageError: it cannot be read.
        InvalidError: a line is no labelled pair.
    """
    lines = enumerate(lines_of(path), 1)
    rows = [(number, _object(line, number)) for number, line in lines if line.strip()]
    found = []
    for number, row in rows:
        if row.get("label") not in ("duplicate", "distinct"):
            raise _bad_pair(number, "label must be duplicate or distinct")
        if row.get("survivor") not in ("a", "b", None):
            raise _bad_pair(number, "survivor must be a or b")
        found.append(
            LabelledPair(
                str(row["id"]), row["a"], row["b"], row["label"],
                str(row.get("category", "-")), row.get("survivor"),
            )
        )  # fmt: skip
    if len({pair.id for pair in found}) < len(found):
        raise InvalidError("bad_pair", "An id occurs twice.", cure="Give each pair its own.")
    return found


def lines_of(path: Path) -> list[str]:
    """Return the lines of a text file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("unreadable_file", f"{path} cannot be read.") from error


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise _bad_pair(number, "it is no JSON") from None
    if not isinstance(row, dict) or not isinstance(row.get("id"), str | int):
        raise _bad_pair(number, "it has no id")
    if not all(isinstance(row.get(name), str) and row[name].strip() for name in ("a", "b")):
        raise _bad_pair(number, "a and b must be texts")
    return row


def _bad_pair(number: int, why: str) -> InvalidError:
    return InvalidError(
        "bad_pair",
        f"Line {number} is no pair: {why}.",
        cure='One object a line: {"id": "1", "a": "…", "b": "…"}.',
    )
