"""What a migration will take: tokens, requests, money, time and disk, from counts and limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from engram.domain.budget import Quota
from engram.domain.prices import price_of
from engram.domain.spaces import SpaceSpec

# Bytes of Postgres 18: a page less its header; a line pointer and tuple header; the columns besides
# the vector (workspace 16, namespace about 16, memory 16, version 4, seq 8, alignment).
_PAGE: Final = 8192
_PAGE_ROOM: Final = 8168
_ROW_BYTES: Final = 28 + 64
# Two btrees on a row: (workspace, memory_id) and (workspace, namespace, seq), as filled by inserts.
_BTREE_BYTES: Final = 140
# pgvector's HNSW with m = 16: neighbours of an element (32 at the bottom, 16 a level above it, 6
# bytes each), tuple headers, and the element's own fields; source: hnsw.h of pgvector 0.8.
_HNSW_NEIGHBOURS: Final = 220
_HNSW_ELEMENT: Final = 80
# Texts a second that the whole way of a batch has managed on two cores, however fast the provider.
_MOST_TEXTS_PER_S: Final = 3_000.0
_MAX_INPUTS: Final = 512


@dataclass(frozen=True, slots=True)
class Blocker:
    """What would keep a migration from starting or ending, and its cure."""

    code: str
    detail: str
    cure: str


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted and measured for a plan.

    Attributes:
        rows: active memories that belong in the target and have no current vector there.
        distinct: different texts among them, by workspace: what is embedded once and reused.
        sampled: texts whose tokens were estimated.
        sampled_tokens: of all of them together.
        workspaces: that have any of the rows.
        namespaces: likewise.
        indexed_rows: of the rows, those in scopes large enough for an HNSW index.
    """

    rows: int
    distinct: int
    sampled: int
    sampled_tokens: int
    workspaces: int
    namespaces: int
    indexed_rows: int

    @property
    def tokens_per_text(self) -> float:
        """Mean tokens of a text, 0.0 when there is none."""
        return self.sampled_tokens / self.sampled if self.sampled else 0.0


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast it may go, and for what money.

    Attributes:
        quota: the provider's limits, None where none are known.
        learned_share: part of the limits that 429s have left in use, above 0 to 1.
        share: part of what is left that the backfill may use, above 0 to 1.
        paid: dollars for a million tokens, instead of the list price.
        texts_per_s: what the provider managed with a few texts just now.
    """

    quota: Quota | None
    learned_share: float = 1.0
    share: float = 1.0
    paid: float | None = None
    texts_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a migration will take.

    Attributes:
        tokens: of all distinct texts, from the sample's mean.
        requests: fewest calls the packing can make of them.
        cost_usd: at list price, None when the price is not known.
        price_usd_per_million: the price used.
        eta_s: seconds at the given share of the limits, None when no limit and no rate is known.
        eta_from: what the ETA was made of: ``limits``, ``measured``, or ``unknown``.
        disk_bytes: of the vector table and its btrees.
        index_bytes: of the HNSW indexes that are built after the load.
    """

    source: str
    target: str
    rows: int
    distinct: int
    sampled: int
    tokens: int
    tokens_per_text: float
    requests: int
    cost_usd: float | None
    price_usd_per_million: float | None
    eta_s: float | None
    eta_from: str
    disk_bytes: int
    index_bytes: int
    workspaces: int
    namespaces: int
    blockers: tuple[Blocker, ...] = ()
    notes: tuple[str, ...] = ()

    def noting(self, note: str) -> Plan:
        """Return it with a note more."""
        return replace(self, notes=(*self.notes, note))

    def blocked(self, blocker: Blocker) -> Plan:
        """Return it with a blocker more."""
        return replace(self, blockers=(*self.blockers, blocker))

    def described(self) -> dict[str, Any]:
        """Return it as it is stored and answered."""
        return asdict(self)


def make_plan(
    source: str,
    target: SpaceSpec,
    counted: Counted,
    rates: Rates,
    blockers: Sequence[Blocker] = (),
) -> Plan:
    """Return the plan of a migration.

    Args:
        source: key of the space that is left.
        target: the space that is filled.
        counted: what is there.
        rates: what the provider allows and asks for.
        blockers: what would keep it from starting.
    """
    tokens = round(counted.tokens_per_text * counted.distinct)
    requests = _requests(counted.distinct, tokens, rates.quota)
    price = price_of(target.provider, target.model, rates.paid)
    eta_s, eta_from = _eta(counted.distinct, tokens, requests, rates)
    return Plan(
        source=source,
        target=target.key,
        rows=counted.rows,
        distinct=counted.distinct,
        sampled=counted.sampled,
        tokens=tokens,
        tokens_per_text=round(counted.tokens_per_text, 1),
        requests=requests,
        cost_usd=None if price is None else round(price * tokens, 6),
        price_usd_per_million=None if price is None else round(price * 1e6, 6),
        eta_s=eta_s,
        eta_from=eta_from,
        disk_bytes=table_bytes(counted.rows, target.dimensions),
        index_bytes=hnsw_bytes(counted.indexed_rows, target.dimensions),
        workspaces=counted.workspaces,
        namespaces=counted.namespaces,
        blockers=tuple(blockers),
    )


def _requests(texts: int, tokens: int, quota: Quota | None) -> int:
    if not texts:
        return 0
    by_tokens = math.ceil(tokens / quota.max_call_tokens) if quota else 1
    return max(math.ceil(texts / _MAX_INPUTS), by_tokens)


def _eta(texts: int, tokens: int, requests: int, rates: Rates) -> tuple[float | None, str]:
    share, quota = rates.learned_share * rates.share, rates.quota
    if quota is not None:
        at_best_s = max(tokens / quota.tokens_per_s, requests / quota.requests_per_s)
        return round(at_best_s / share, 1), "limits"
    if rates.texts_per_s is None:
        return None, "unknown"
    return round(texts / (min(rates.texts_per_s, _MOST_TEXTS_PER_S) * share), 1), "measured"


def table_bytes(rows: int, dimensions: int) -> int:
    """Return about how much a vector table of so many rows takes, with its btrees."""
    row = _ROW_BYTES + 2 * dimensions + 8
    per_page = max(1, _PAGE_ROOM // row)
    return math.ceil(rows / per_page) * _PAGE + rows * _BTREE_BYTES


def hnsw_bytes(rows: int, dimensions: int) -> int:
    """Return about how much the HNSW indexes over so many rows take.

    An element and its neighbours lie on pages of 8 KiB that they do not cross.
    """
    element = _HNSW_ELEMENT + 2 * dimensions + 8 + _HNSW_NEIGHBOURS
    return math.ceil(rows / max(1, _PAGE_ROOM // element)) * _PAGE


def rest_s(share: float, busy_s: float, tokens: float, tokens_per_s: float | None = None) -> float:
    """Return how long to queue nothing after a window was worked off, to keep to a share.

    Args:
        share: part of the provider's rate that the backfill may use, above 0 to 1.
        busy_s: seconds from queueing the window to its end.
        tokens: of the window.
        tokens_per_s: what the provider allows, None where nothing is limited.

    Returns:
        Seconds; 0.0 at a share of 1. Working ``busy_s`` and resting this long takes ``share`` of
        the time; where a limit is known, a full bucket at the start does not count as a gain.
    """
    if share >= 1:
        return 0.0
    by_time = busy_s / share - busy_s
    by_tokens = tokens / (tokens_per_s * share) - busy_s if tokens_per_s else 0.0
    return max(0.0, by_time, by_tokens)


def remaining_s(missing: int, done: int, elapsed_s: float) -> float | None:
    """Return the ETA of a running backfill from what was done in ``elapsed_s``, None if nothing."""
    if missing <= 0:
        return 0.0
    if done <= 0 or elapsed_s <= 0:
        return None
    return missing * elapsed_s / done
