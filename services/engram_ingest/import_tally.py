"""The report of a whole job: batch reports summed, in a size that does not grow with the file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engram_ingest.import_items import COUNTS

# The report is written with every batch: of more namespaces only the sum is kept.
MAX_NAMESPACES = 1_000
OTHER_NAMESPACES = "…"
MAX_LISTED_ERRORS = 100_000
_MAX_WARNINGS = 50


@dataclass(slots=True)
class Tally:
    """Counts of a job so far.

    Attributes:
        by_namespace: what was imported or updated; beyond 1,000 names under ``…``.
        listed: errors written down; ``unlisted`` those that are only counted.
        elsewhere: items that a replacement left where they are known, beyond what it replaces.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    by_namespace: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    listed: int = 0
    unlisted: int = 0
    elsewhere: int = 0

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Tally":
        """Return the tally that a job keeps."""
        return cls(
            {name: stored["counts"][name] for name in COUNTS},
            dict(stored["by_namespace"]),
            list(stored["warnings"]),
            stored["listed"],
            stored["unlisted"],
            # Jobs of earlier versions do not have it.
            stored.get("elsewhere", 0),
        )

    def plus(self, report: Mapping[str, Any], errors: int, elsewhere: int = 0) -> "Tally":
        """Return the tally with one more batch, of which ``errors`` may be listed."""
        total = Tally.of(self.as_json())
        for name in COUNTS:
            total.counts[name] += report[name]
        for namespace, count in report["by_namespace"].items():
            known = namespace in total.by_namespace or len(total.by_namespace) < MAX_NAMESPACES
            name = namespace if known else OTHER_NAMESPACES
            total.by_namespace[name] = total.by_namespace.get(name, 0) + count
        total.listed = min(self.listed + errors, MAX_LISTED_ERRORS)
        total.unlisted += self.listed + errors - total.listed
        total.elsewhere += elsewhere
        return total

    def warned(self, warnings: Iterable[str]) -> "Tally":
        """Return the tally with what is to be known about the file."""
        total = Tally.of(self.as_json())
        total.warnings = list(dict.fromkeys(warnings))[:_MAX_WARNINGS]
        return total

    @property
    def received(self) -> int:
        """Every item so far; the sum of the counts, which is what ``received`` means."""
        return sum(self.counts.values())

    def as_json(self) -> dict[str, Any]:
        """Return what a job keeps."""
        return {
            "counts": dict(self.counts),
            "by_namespace": dict(self.by_namespace),
            "warnings": list(self.warnings),
            "listed": self.listed,
            "unlisted": self.unlisted,
            "elsewhere": self.elsewhere,
        }

    def report(self) -> dict[str, Any]:
        """Return the public counts and warnings."""
        warnings = list(self.warnings)
        if self.elsewhere:
            warnings.append(
                f"{self.elsewhere:,} items are known by their external ids outside of what is "
                "replaced: they stay there as they are and are not part of the new set. Delete "
                "them first, or import with the strategy merge"
            )
        if self.unlisted:
            warnings.append(f"{self.unlisted:,} further errors are counted but not listed here")
        return {
            "received": self.received,
            **self.counts,
            "by_namespace": dict(sorted(self.by_namespace.items())),
            "warnings": warnings,
        }
