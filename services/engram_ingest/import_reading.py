"""Reads a body that is small enough to be answered at once."""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from engram import strictjson
from engram.domain.arrival import Arriving
from engram.domain.fields import FIELDS
from engram.errors import EngramError, Fault, TooLargeError
from engram.importers.identity import Repeats
from engram.importers.reading import read
from engram.importers.record import Found
from engram.importers.report import Report
from engram.importers.source import Limits
from engram_ingest.bodies import IMPORT_BYTES
from engram_ingest.import_arriving import Arrive
from engram_ingest.import_options import Options

MAX_ITEMS = 500
# A gzip file may hold more text than bytes were sent; beyond this it is a job. Above the importers'
# free size, so that a bomb is recognised here and refused.
_MAX_TEXT_BYTES = 20 * 1024 * 1024
_NATIVE_NAMES = frozenset(f.name for f in FIELDS)


class NotSmallError(Exception):
    """There is more in the body than is answered at once."""


@dataclass(slots=True)
class Batch:
    """A body that was read: what may be stored, and what could not be read."""

    report: Report
    taken: list[tuple[Found, Arriving]] = field(default_factory=list)


def read_batch(body: bytes, options: Options, arrive: Arrive) -> Batch:
    """Read a body of any known format and check every item.

    Raises:
        NotSmallError: it has more than 500 items, or more text than bytes.
        MalformedError: no known shape, or damaged beyond one element.
        TooLargeError: a decompression bomb.
    """
    try:
        return _read(body, options, arrive)
    except TooLargeError as error:
        if error.code == "too_large":
            raise NotSmallError from None
        raise


def _read(body: bytes, options: Options, arrive: Arrive) -> Batch:
    founds, batch = _founds(body, options)
    for found in founds:
        if found.index >= MAX_ITEMS:
            raise NotSmallError
        item = arrive(found)
        if isinstance(item, Fault):
            batch.report.fail(found, item)
        else:
            batch.taken.append((found, item))
    return batch


def _founds(body: bytes, options: Options) -> tuple[Iterable[Found], Batch]:
    items = _native_items(body) if options.format in (None, "native") else None
    if items is not None:
        return _native(items), Batch(Report("native"))
    limits = Limits(max_bytes=_MAX_TEXT_BYTES)
    reading = read(
        io.BytesIO(body),
        format=options.format,
        filename=options.filename,
        limits=limits,
        placed=options.namespace is not None,
    )
    founds: list[Found] = []
    for found in reading:
        if found.index >= MAX_ITEMS:
            raise NotSmallError
        founds.append(found)
    return founds, Batch(Report(reading.format, reading.warnings))


def _native_items(body: bytes) -> list[dict[str, Any]] | None:
    """Return the items of a body that is plainly native: what a publisher's bulk load sends.

    One pass of the fast reader; everything else, and everything doubtful, goes to the importers.
    """
    try:
        value = strictjson.loads(body, max_bytes=IMPORT_BYTES)
    except EngramError:
        return None
    if isinstance(value, dict) and set(value) == {"memories"}:
        value = value["memories"]
    if not isinstance(value, list) or not value:
        return None
    plain = all(
        isinstance(item, dict) and "content" in item and item.keys() <= _NATIVE_NAMES
        for item in value
    )
    return value if plain and _says_native(value[0]) else None


def _says_native(item: dict[str, Any]) -> bool:
    return "created_at" not in item or "namespace" in item or "source" in item


def _native(items: Sequence[dict[str, Any]]) -> Iterator[Found]:
    repeats = Repeats("native")
    for index, item in enumerate(items):
        external_id = item.get("external_id") or repeats.id_for(item)
        yield Found(index, None, item, None, str(external_id)[:512])
