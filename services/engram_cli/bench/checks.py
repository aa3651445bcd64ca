"""Checks what a run left in the database, by statements of its own: nothing measured is trusted.

It speaks SQL outside engram.storage on purpose: the check may not share code with what it checks.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engram.domain.vectors import Matrix
from engram_cli.bench.stack import Stack
from engram_cli.bench.workload import vectors_of

SAMPLE: Final = 200

_COUNTS = """
SELECT count(*) AS memories,
       count(v.memory_id) AS vectors,
       count(*) FILTER (WHERE v.version = m.version) AS current,
       count(DISTINCT m.content) AS texts
FROM engram.memory m
LEFT JOIN {vectors} v ON v.workspace = m.workspace AND v.memory_id = m.id
WHERE m.workspace = $1 AND m.state = 'active'
"""
_ALL_VECTORS = "SELECT count(*) AS rows, count(DISTINCT embedding) AS kinds FROM {vectors}"
_SAMPLE = """
SELECT m.content, v.embedding
FROM engram.memory m JOIN {vectors} v ON v.workspace = m.workspace AND v.memory_id = m.id
WHERE m.workspace = $1 AND m.content = ANY ($2::text[])
"""

Expected = Callable[[Sequence[str]], Awaitable[Matrix]]


async def faults_of(
    stack: Stack, contents: Sequence[str], expected: Expected = vectors_of
) -> list[str]:
    """Compare the store with what was sent to it.

    Every text must be there once, with one vector of its memory's version; no vector may be
    without a memory or equal to another; and those of a sample must be, to the bit, what their
    text gives.

    Args:
        stack: whose workspace holds these memories and no others.
        contents: every text sent, all different.
        expected: gives the (n, d) vectors of texts; the null provider by default.

    Returns:
        What is wrong, in sentences; empty when all is right.
    """
    counts = await stack.row(_COUNTS, stack.workspace)
    vectors = await stack.row(_ALL_VECTORS)
    found = {**counts, "rows": vectors["rows"], "different vectors": vectors["kinds"]}
    faults = [
        f"{number:,} {what} instead of {len(contents):,}"
        for what, number in found.items()
        if number != len(contents)
    ]
    # The same sample in every run of the same size.
    sample = random.Random(7).sample(list(contents), min(SAMPLE, len(contents)))  # noqa: S311 - no secret
    rows = await stack.pool.fetch(
        _SAMPLE.replace("{vectors}", stack.vectors), stack.workspace, sample, timeout=300
    )
    stored = {row["content"]: row["embedding"].to_numpy() for row in rows}
    return faults + _differences(sample, stored, await expected(sample))


def _differences(
    sample: Sequence[str], stored: dict[str, NDArray[np.float16]], expected: Matrix
) -> list[str]:
    wrong = [
        text
        for text, vector in zip(sample, expected, strict=True)
        if text not in stored or not np.array_equal(stored[text], vector.astype(np.float16))
    ]
    return [f"{len(wrong)} of {len(sample)} sampled vectors differ from their text's"] * bool(wrong)
