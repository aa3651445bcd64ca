"""The account of an import: every element received is counted in exactly one place."""

from collections import Counter
from typing import Any, Literal

from engram.errors import Fault
from engram.importers.record import Found

Outcome = Literal["imported", "updated", "duplicates", "superseded", "skipped"]
_OUTCOMES = ("imported", "updated", "duplicates", "superseded", "skipped", "failed")
# Readable, but of a kind that is not imported: left out on purpose, not invalid.
_SKIPPED_KINDS = frozenset({"deleted", "kind_not_imported"})
MAX_ERRORS = 100


class Report:
    """Counts what became of each element; the shape is the public import report.

    Attributes:
        format: name of the format read.
        warnings: sentences about the file as a whole.
    """

    def __init__(self, format_name: str, warnings: list[str] | None = None) -> None:
        self.format = format_name
        self.warnings = warnings if warnings is not None else []
        self._counts: Counter[str] = Counter()
        self._received = 0
        self._by_namespace: Counter[str] = Counter()
        self._errors: list[dict[str, Any]] = []
        self._unlisted = 0

    def add(self, outcome: Outcome, namespace: str, number: int = 1) -> None:
        """Count elements that were read; ``by_namespace`` counts what became live."""
        if outcome not in _OUTCOMES[:-1]:
            raise ValueError(outcome)
        self._received += number
        self._counts[outcome] += number
        if outcome in ("imported", "updated"):
            self._by_namespace[namespace] += number

    def fail(self, found: Found, fault: Fault) -> None:
        """Count one element that was not taken; the first 100 are listed with their reason."""
        self._received += 1
        self._counts["skipped" if fault.code in _SKIPPED_KINDS else "failed"] += 1
        if len(self._errors) >= MAX_ERRORS:
            self._unlisted += 1
            return
        self._errors.append(error_line(found, fault))

    def as_json(self) -> dict[str, Any]:
        """Return the report; ``received`` is the sum of the other six counts."""
        counts = {name: self._counts[name] for name in _OUTCOMES}
        if self._received != sum(counts.values()):  # pragma: no cover - add and fail keep it
            raise AssertionError(counts)
        warnings = list(self.warnings)
        if self._unlisted:
            warnings.append(f"{self._unlisted:,} further errors are counted but not listed here")
        return {
            "format": self.format,
            "received": self._received,
            **counts,
            "by_namespace": dict(sorted(self._by_namespace.items())),
            "warnings": warnings,
            "errors": list(self._errors),
        }


def error_line(found: Found, fault: Fault) -> dict[str, Any]:
    """Return one error as reports list it; never any content."""
    return {
        "index": found.index,
        "line": found.line,
        "external_id": found.external_id,
        "code": fault.code,
        "detail": f"{fault.pointer} {fault.detail}".strip(),
    }
