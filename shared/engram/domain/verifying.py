"""Whether a new space answers as well as the old one: what is measured, and what it must be.

Everything here is arithmetic on what was read; `engram_migrator.verify` reads and asks.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

AT: Final = 10
# A text that is embedded again gives the same vector up to the rounding of halves (about 1e-3);
# models that answer slightly differently each time stay well above this.
_RESEMBLES: Final = 0.98
# Two models order memories differently, so an overlap says little by itself; whether the memory a
# query was taken from is found says much.
_FOUND_DROP: Final = 0.1
_JUDGED_DROP: Final = 0.02
# Shares of fewer reads than this are chance.
_LEAST_READS: Final = 20
_LEAST_JUDGED: Final = 5
_LOW_OVERLAP: Final = 0.3
_SLOWER: Final = 2.0
_SLOWER_BY_S: Final = 0.05
_SHORT_WORDS: Final = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """How a namespace's memories and its vectors in the new space differ.

    Attributes:
        rows: live memories.
        missing: of them without a vector of their version, though there was time for it.
        dead: of them given up by the embedder.
        extra: vectors of no live memory, or of another version than their memory has.
        bad: vectors of a wrong length, not finite, or not of the length the space normalises to.
    """

    rows: int = 0
    missing: int = 0
    dead: int = 0
    extra: int = 0
    bad: int = 0

    @property
    def mismatches(self) -> int:
        """Everything that should be none."""
        return self.missing + self.dead + self.extra + self.bad


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a verdict is no, or what is worth knowing though it is yes."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Read:
    """One query answered by both spaces.

    Attributes:
        old: ids in the order of the old space's answer, at most `AT`.
        new: the same of the new one.
        sought: the memory the query was taken from, or None.
        old_best: score of the first hit, None without any.
        new_best: the same of the new space.
        old_s: seconds the search took, the embedding of the query apart.
        new_s: the same of the new space.
    """

    old: Sequence[Hashable]
    new: Sequence[Hashable]
    sought: Hashable | None = None
    old_best: float | None = None
    new_best: float | None = None
    old_s: float = 0.0
    new_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Judged:
    """A query whose right answers a person named, answered by both spaces."""

    old: Sequence[Hashable]
    new: Sequence[Hashable]
    relevant: Collection[Hashable]


def overlap(old: Sequence[Hashable], new: Sequence[Hashable], at: int = AT) -> float:
    """Return the share of the first ``at`` results that both answers hold; 1 where both are empty.

    Of the longer answer, so that a space that finds less than the other does not look alike.
    """
    longest = max(len(old[:at]), len(new[:at]))
    return len(set(old[:at]) & set(new[:at])) / longest if longest else 1.0


def recall(found: Sequence[Hashable], relevant: Collection[Hashable], at: int = AT) -> float:
    """Return the share of what is relevant (at most ``at``) among the first ``at`` results."""
    wanted = min(at, len(set(relevant)))
    return len(set(found[:at]) & set(relevant)) / wanted if wanted else 1.0


def ndcg(found: Sequence[Hashable], relevant: Collection[Hashable], at: int = AT) -> float:
    """Return the normalised discounted cumulative gain of binary relevance.

    Gain 1 / log2(rank + 1), divided by that of a perfect order (Järvelin and Kekäläinen, 2002).
    """
    wanted = set(relevant)
    gain = sum(1 / math.log2(rank + 2) for rank, one in enumerate(found[:at]) if one in wanted)
    best = sum(1 / math.log2(rank + 2) for rank in range(min(at, len(wanted))))
    return gain / best if best else 1.0


def query_of(text: str, chance: float) -> str:
    """Return about half of a text's words, contiguous: what somebody who looks for it might ask.

    Args:
        text: of a memory.
        chance: in [0, 1), where in the text the part begins.
    """
    words = text.split()
    if len(words) <= _SHORT_WORDS:
        return " ".join(words)
    taken = max(_SHORT_WORDS, len(words) // 2)
    begin = int(chance * (len(words) - taken + 1))
    return " ".join(words[begin : begin + taken])


def p95(seconds: Sequence[float]) -> float | None:
    """Return the 95th percentile by nearest rank; None of nothing."""
    ordered = sorted(seconds)
    return ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else None


def reasons_of(difference: Difference, cosines: Sequence[float]) -> list[Reason]:
    """Return why a namespace may not be cut over; empty when it may be.

    Args:
        difference: between its memories and its vectors.
        cosines: of stored vectors with those of the same texts embedded again now.
    """
    found = [
        Reason(code, f"{count} {what}.")
        for code, count, what in (
            ("missing", difference.missing, "memories have no current vector"),
            ("dead_letters", difference.dead, "memories were given up by the embedder"),
            ("extra", difference.extra, "vectors belong to no live memory of their version"),
            ("bad_vectors", difference.bad, "vectors have a wrong length or norm"),
        )
        if count
    ]
    off = [cosine for cosine in cosines if not cosine >= _RESEMBLES]
    if off:
        detail = (
            f"{len(off)} of {len(cosines)} texts embedded again do not resemble what is stored."
        )
        found.append(Reason("unlike_samples", detail))
    return found


@dataclass(frozen=True, slots=True)
class Comparison:
    """What both spaces answered, in figures.

    Attributes:
        figures: JSON values, shown and stored.
        reasons: why the new space may not be read.
        notes: what is worth knowing, and forbids nothing.
    """

    figures: Mapping[str, Any]
    reasons: tuple[Reason, ...]
    notes: tuple[Reason, ...]


def compare(reads: Sequence[Read], judged: Sequence[Judged] = ()) -> Comparison:
    """Hold the answers of two spaces against each other.

    The new space fails when it finds clearly fewer of the memories that queries were taken from, or
    fewer of the answers people named. Overlap, drift and latency are told: two good models differ
    in all of them.
    """
    figures, reasons, notes = _of_reads(reads)
    if judged:
        scores = _of_judged(judged)
        figures["judged"] = scores
        reasons += _worse_judged(scores)
    return Comparison(figures, tuple(reasons), tuple(notes))


def _of_reads(reads: Sequence[Read]) -> tuple[dict[str, Any], list[Reason], list[Reason]]:
    sought = [read for read in reads if read.sought is not None]
    drifts = [
        read.new_best - read.old_best
        for read in reads
        if read.old_best is not None and read.new_best is not None
    ]
    figures: dict[str, Any] = {
        "reads": len(reads),
        "overlap": _mean([overlap(read.old, read.new) for read in reads]),
        "found_old": _mean([float(read.sought in read.old[:AT]) for read in sought]),
        "found_new": _mean([float(read.sought in read.new[:AT]) for read in sought]),
        "score_drift": _mean(drifts),
        "old_p95_s": _rounded(p95([read.old_s for read in reads])),
        "new_p95_s": _rounded(p95([read.new_s for read in reads])),
    }
    return figures, _found_less(figures, len(sought)), _notes(figures)


def _found_less(figures: Mapping[str, Any], reads: int) -> list[Reason]:
    if reads < _LEAST_READS or figures["found_new"] >= figures["found_old"] - _FOUND_DROP:
        return []
    detail = (
        f"The memory a query was taken from is among the first {AT} in "
        f"{figures['found_new']:.0%} of the reads, {figures['found_old']:.0%} in the old space."
    )
    return [Reason("finds_less", detail)]


def _notes(figures: Mapping[str, Any]) -> list[Reason]:
    notes = []
    if figures["overlap"] is not None and figures["overlap"] < _LOW_OVERLAP:
        detail = f"The spaces share {figures['overlap']:.0%} of their first {AT} results."
        notes.append(Reason("low_overlap", detail))
    old_s, new_s = figures["old_p95_s"], figures["new_p95_s"]
    if old_s is not None and new_s > max(_SLOWER * old_s, old_s + _SLOWER_BY_S):
        detail = f"95 % of its searches end within {new_s:.3f} s, {old_s:.3f} s in the old space."
        notes.append(Reason("slower", detail))
    return notes


def _of_judged(judged: Sequence[Judged]) -> dict[str, Any]:
    return {
        "queries": len(judged),
        "recall_old": _mean([recall(one.old, one.relevant) for one in judged]),
        "recall_new": _mean([recall(one.new, one.relevant) for one in judged]),
        "ndcg_old": _mean([ndcg(one.old, one.relevant) for one in judged]),
        "ndcg_new": _mean([ndcg(one.new, one.relevant) for one in judged]),
    }


def _worse_judged(scores: Mapping[str, Any]) -> list[Reason]:
    if scores["queries"] < _LEAST_JUDGED:
        return []
    return [
        Reason(
            f"judged_{name}",
            f"Of the judged queries {name}@{AT} is {scores[f'{name}_new']:.2f}, "
            f"{scores[f'{name}_old']:.2f} in the old space.",
        )
        for name in ("recall", "ndcg")
        if scores[f"{name}_new"] < scores[f"{name}_old"] - _JUDGED_DROP
    ]


def _mean(numbers: Sequence[float]) -> float | None:
    return _rounded(statistics.fmean(numbers)) if numbers else None


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 4)
