"""The pairs a space is calibrated with: texts that say the same in other words."""

from __future__ import annotations

from functools import cache

from engram.domain.guard.lexicon import table

Pair = tuple[str, str]


@cache
def shipped() -> tuple[Pair, ...]:
    """Return the pairs that come with engram: 200 from many domains, of 3 to 40 words a side."""
    return tuple((a, b) for a, b in table("restatements")["pairs"])
