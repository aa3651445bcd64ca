"""Classes of memories whose texts are equal once folded: each is read once, however many."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np

from engram.domain.dedup_near import Near
from engram.domain.guard.tokens import fold
from engram.domain.pairs.exact import Rows


@dataclass(frozen=True, slots=True)
class Text:
    """What is asked of a memory that may merge.

    Attributes:
        created_at_s: seconds since 1970.
        decided: a person decided something about it and another memory.
    """

    id: UUID
    version: int
    content: str
    metadata: Mapping[str, Any]
    importance: float
    created_at_s: float
    pinned: bool
    decided: bool = False

    @property
    def rank(self) -> tuple[bool, float, float, UUID]:
        """Order of who speaks for equal texts, the best first; as `groups.settle` does."""
        return not self.pinned, -self.importance, self.created_at_s, self.id


@dataclass(frozen=True, slots=True)
class Classes:
    """Rows in classes; the guard cannot tell the texts of one class apart.

    Attributes:
        texts: by row.
        of_row: (n,) class of each row, -1 for rows without a text.
        heads: the row that speaks for each class.
        members: all rows of each class, the head among them.
        doubled: classes of two or more with a new row.
    """

    texts: Mapping[int, Text]
    of_row: Rows
    heads: list[int]
    members: list[list[int]]
    doubled: list[int]
    numbers: Mapping[UUID, int]

    @classmethod
    def of(cls, near: Near, texts: Mapping[int, Text], merge_from: float) -> Classes:
        """Bring rows of equal text and metadata together.

        Rows less alike than ``merge_from`` are apart, whatever they say: one of the vectors is not
        of its text. So are those about which a person has decided.
        """
        members = _members(near, texts, merge_from)
        of_row = np.full(len(near.new), -1, dtype=np.int64)
        for number, rows in enumerate(members):
            of_row[rows] = number
        heads = [rows[0] for rows in members]
        doubled = [
            number
            for number, rows in enumerate(members)
            if len(rows) > 1 and bool(near.new[rows].any())
        ]
        numbers = {texts[head].id: number for number, head in enumerate(heads)}
        return cls(texts, of_row, heads, members, doubled, numbers)

    def number_of(self, memory: UUID) -> int:
        """Return the class for which a memory speaks."""
        return self.numbers[memory]


def _members(near: Near, texts: Mapping[int, Text], merge_from: float) -> list[list[int]]:
    """Return the rows of each class, the head first, by the id of the head."""
    alike: defaultdict[tuple[str, str, int], list[int]] = defaultdict(list)
    for row, text in texts.items():
        alone = row if text.decided or not near.exact.squares[row] else -1
        said = json.dumps(text.metadata, sort_keys=True, ensure_ascii=True)
        alike[fold(text.content), said, alone].append(row)
    found: list[list[int]] = []
    for rows in alike.values():
        head, *others = sorted(rows, key=lambda row: texts[row].rank)
        cosines = near.cosines(np.array(others, dtype=np.int64), np.full(len(others), head))
        near_it = [row for row, cosine in zip(others, cosines, strict=True) if cosine >= merge_from]
        found.append([head, *near_it])
        kept = set(near_it)
        found += [[row] for row in others if row not in kept]
    return sorted(found, key=lambda rows: texts[rows[0]].id)
