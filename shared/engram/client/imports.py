"""Cuts any number of items into import requests, and sums their reports into one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from engram.client.types import ItemError, Report
from engram.errors import ConflictError, EngramError, InvalidError, TooLargeError
from engram.events import encode_json

MAX_BATCH_ITEMS: Final = 500
# The door takes 8 MB; whether it counts by 1000 or 1024, this passes.
MAX_BATCH_BYTES: Final = 8_000_000
# Seconds between two looks at a replacement that stands behind other imports.
LOOK_S: Final = 0.5
# A report must not grow with the file: further errors are counted, not listed.
MAX_LISTED_ERRORS: Final = 1000
MAX_LISTED_WARNINGS: Final = 50
COUNTS: Final = (
    "received",
    "imported",
    "updated",
    "duplicates",
    "superseded",
    "skipped",
    "failed",
)


@dataclass(frozen=True, slots=True)
class Position:
    """Where an item stands in its source: index from 0, line from 1 when it has lines."""

    index: int
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """One import request: NDJSON, and where each of its items came from."""

    ndjson: bytes
    positions: tuple[Position, ...]


@dataclass(slots=True)
class Tally:
    """Sums batch reports into the report of the whole, errors at the whole's positions."""

    format: str = "native"
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    by_namespace: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    errors: list[ItemError] = field(default_factory=list)
    unlisted: int = 0
    archived: int = 0
    import_id: str | None = None

    def add(self, report: Report, positions: Sequence[Position]) -> None:
        """Add the report of one batch, whose n-th item stands at ``positions[n]``."""
        for name in COUNTS:
            self.counts[name] += int(report.get(name, 0))  # type: ignore[call-overload]  # one of its int keys
        for namespace, count in report.get("by_namespace", {}).items():
            self.by_namespace[namespace] = self.by_namespace.get(namespace, 0) + count
        self.note(report.get("warnings", []))
        self.archived += report.get("archived", 0)
        self.import_id = report.get("import_id", self.import_id)
        for error in report.get("errors", []):
            self._list(_moved(error, positions))

    def fail(self, position: Position, external_id: str | None, error: EngramError) -> None:
        """Count an item that could not even be sent."""
        self.counts["received"] += 1
        self.counts["failed"] += 1
        self._list(
            ItemError(
                index=position.index,
                line=position.line,
                external_id=external_id,
                code=error.code,
                detail=error.detail,
            )
        )

    def note(self, warnings: Iterable[str]) -> None:
        """Keep warnings about the whole, each once."""
        new = [text for text in warnings if text not in self.warnings]
        self.warnings += new[: MAX_LISTED_WARNINGS - len(self.warnings)]

    def report(self) -> Report:
        """Return the report of everything so far, errors in the order of the source."""
        errors = sorted(
            self.errors, key=lambda error: (error["index"] is None, error["index"] or 0)
        )
        warnings = list(self.warnings)
        if self.unlisted:
            warnings.append(f"{self.unlisted:,} further errors are counted but not listed here")
        report = Report(
            format=self.format,
            received=self.counts["received"],
            imported=self.counts["imported"],
            updated=self.counts["updated"],
            duplicates=self.counts["duplicates"],
            superseded=self.counts["superseded"],
            skipped=self.counts["skipped"],
            failed=self.counts["failed"],
            by_namespace=dict(self.by_namespace),
            warnings=warnings,
            errors=errors,
        )
        if self.import_id is not None:
            report |= {"archived": self.archived, "import_id": self.import_id}
        return report

    def _list(self, error: ItemError) -> None:
        if len(self.errors) < MAX_LISTED_ERRORS:
            self.errors.append(error)
        else:
            self.unlisted += 1


def batches(
    items: Iterable[tuple[Position, Mapping[str, Any]]],
    tally: Tally,
    *,
    max_items: int = MAX_BATCH_ITEMS,
    max_bytes: int = MAX_BATCH_BYTES,
) -> Iterator[Batch]:
    """Yield import requests within the door's limits; what cannot be sent fails in ``tally``.

    Lazy: holds one batch at a time, so a file of any size needs no more memory.
    """
    lines: list[bytes] = []
    positions: list[Position] = []
    size_bytes = 0
    for position, item in items:
        try:
            line = _line(item, max_bytes)
        except EngramError as error:
            tally.fail(position, _external_id(item), error)
            continue
        if lines and (len(lines) == max_items or size_bytes + len(line) > max_bytes):
            yield Batch(b"".join(lines), tuple(positions))
            lines, positions, size_bytes = [], [], 0
        lines.append(line)
        positions.append(position)
        size_bytes += len(line)
    if lines:
        yield Batch(b"".join(lines), tuple(positions))


def requests(items: Iterable[Mapping[str, Any]], tally: Tally, strategy: str) -> Iterator[Batch]:
    """Yield the import requests of items in the order they come.

    Raises:
        TooLargeError: a replacement needs more than one request; nothing was sent.
    """
    found = batches(numbered(items), tally)
    if strategy != "replace":
        return found
    ahead = list(islice(found, 2))
    if len(ahead) > 1:
        raise TooLargeError(
            "replacement_too_large",
            "The second request would replace what the first one brought.",
            cure="Write the items to a file: engram import FILE --strategy replace.",
        )
    return iter(ahead)


def report_of(answer: Mapping[str, Any]) -> Report | None:
    """Return the report in an import's answer; None for a job that goes on.

    A small replacement is answered when it has taken over; one that stands behind other jobs for
    too long is answered with the job.

    Raises:
        EngramError: the job failed or was cancelled.
    """
    if answer.get("state") in ("queued", "running"):
        return None
    if (problem := answer.get("error")) is not None:
        raise InvalidError(problem["code"], problem["detail"], cure=problem["cure"])
    if answer.get("state") == "cancelled":
        raise ConflictError("import_cancelled", "The import was cancelled: nothing was replaced.")
    report: Report = answer  # type: ignore[assignment]  # the report of the API, as it came
    return report if "state" not in answer else {**report, "import_id": answer["id"]}


def numbered(
    items: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[Position, Mapping[str, Any]]]:
    """Give each item its position in the order it comes."""
    return ((Position(index), item) for index, item in enumerate(items))


def _line(item: object, max_bytes: int) -> bytes:
    if not isinstance(item, Mapping):
        raise InvalidError("not_an_object", "The item is no mapping.")
    line = encode_json(dict(item)) + b"\n"
    if len(line) > max_bytes:
        raise TooLargeError("too_large", f"The item has more than {max_bytes} bytes.")
    return line


def _external_id(item: object) -> str | None:
    value = item.get("external_id") if isinstance(item, Mapping) else None
    return value if isinstance(value, str) else None


def _moved(error: ItemError, positions: Sequence[Position]) -> ItemError:
    index = error.get("index")
    if index is None and error.get("line") is not None:
        index = (error["line"] or 1) - 1  # a batch has one item a line
    if index is None or not 0 <= index < len(positions):
        return error
    position = positions[index]
    return {**error, "index": position.index, "line": position.line}
