"""The import route: up to 500 items of any known format, each accounted for in one report."""

import copy
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from engram import metrics, strictjson
from engram.domain.fields import FIELDS, FieldError, label
from engram.domain.memory import NewMemory, decode_item, invalid
from engram.errors import EngramError, Fault, InvalidError, MalformedError, TooLargeError
from engram.importers.identity import Repeats
from engram.importers.reading import read
from engram.importers.record import Found
from engram.importers.report import Outcome as Counted
from engram.importers.report import Report
from engram.importers.source import Limits
from engram.storage.connection import Connection
from engram.storage.idempotency import Answer
from engram.storage.writing import Outcome, Write, rehearse
from engram_ingest import schemas
from engram_ingest.authentication import Principal
from engram_ingest.bodies import IMPORT_BYTES, read_body
from engram_ingest.dependencies import MemoryCaller, doors_of, json_response
from engram_ingest.memories import (
    IdempotencyKey,
    check_idempotency_key,
    check_wait,
    request_hash,
)

router = APIRouter(tags=["import"])

MAX_ITEMS = 500
_STRATEGIES = ("skip",)
_NATIVE_NAMES = frozenset(f.name for f in FIELDS)
_COUNTED: dict[str, Counted] = {
    "absorb": "duplicates",
    "fold": "duplicates",
    "present": "duplicates",
    "clash": "duplicates",
    "deleted": "skipped",
}


@dataclass(slots=True)
class Options:
    """How an import is to be done."""

    strategy: str = "skip"
    dry_run: bool = False
    namespace: str | None = None
    format: str | None = None
    wait: str | None = None


@dataclass(slots=True)
class Batch:
    """A body that was read: what may be stored, and what could not be read."""

    report: Report
    taken: list[tuple[Found, NewMemory]] = field(default_factory=list)


@router.post("/v1/memories/import", **schemas.body(schemas.ANY_EXPORT, schemas.REPORT))
async def import_memories(
    request: Request,
    caller: MemoryCaller,
    idempotency_key: IdempotencyKey = None,
    strategy: str = "skip",
    dry_run: Annotated[bool, Query()] = False,
    namespace: str | None = None,
    format: str | None = None,  # noqa: A002 - the name in the contract
    wait: str | None = None,
) -> Response:
    """Import up to 500 items; broken ones never stop good ones."""
    options = _checked(Options(strategy, dry_run, namespace, format, wait))
    body = await read_body(request, IMPORT_BYTES)
    batch = read_batch(body, options)
    write = _as_write(request, caller, batch, idempotency_key, body)
    doors = doors_of(request)
    if dry_run:
        answer = await rehearse(doors.pool, write)
    else:
        answer = await doors.committer.submit(write)
        _count(answer)
    if wait and not dry_run:
        await doors.wait_embedded(caller.workspace, [item.id for item in write.items])
    return json_response(answer.body, answer.status, replayed=answer.replayed)


def _checked(options: Options) -> Options:
    if options.strategy not in _STRATEGIES:
        listed = ", ".join(_STRATEGIES)
        raise invalid([Fault("/strategy", "unknown_strategy", f"must be one of {listed}")])
    check_wait(options.wait)
    try:
        options.namespace = label(256)(options.namespace)
    except FieldError as error:
        raise invalid([Fault("/namespace", error.code, str(error))]) from None
    return options


def read_batch(body: bytes, options: Options) -> Batch:
    """Read a body of any known format and check every item.

    Raises:
        MalformedError: no known shape.
        TooLargeError: more than 500 items.
        UsageError: an unknown format name.
    """
    founds, batch = _founds(body, options)
    for found in founds:
        if found.index >= MAX_ITEMS:
            raise _too_many()
        if found.item is None:
            batch.report.fail(found, found.fault or Fault("", "unreadable", "cannot be read"))
        else:
            _take(batch, found, options)
    return batch


def _take(batch: Batch, found: Found, options: Options) -> None:
    item = found.item or {}
    if item.get("external_id") is None:
        item = {**item, "external_id": found.external_id}
    if options.namespace is not None:
        item = {**item, "namespace": options.namespace}
    try:
        memory = decode_item(item, imported=True)
    except InvalidError as error:
        batch.report.fail(found, error.faults[0])
    else:
        batch.taken.append((found, memory))


def _founds(body: bytes, options: Options) -> tuple[Any, Batch]:
    items = _native_items(body) if options.format in (None, "native") else None
    if items is not None:
        return _native(items), Batch(Report("native"))
    reading = read(io.BytesIO(body), format=options.format, limits=Limits(max_bytes=IMPORT_BYTES))
    founds = list(itertools.islice(reading, MAX_ITEMS + 1))
    return founds, Batch(Report(reading.format, reading.warnings))


def _native_items(body: bytes) -> list[dict[str, Any]] | None:
    """Return the items of a body that is plainly native: what a publisher's bulk load sends.

    One pass of the fast reader; everything else, and everything doubtful, goes to the importers.
    """
    try:
        value = strictjson.loads(body, max_bytes=IMPORT_BYTES)
    except (MalformedError, TooLargeError):
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


def _native(items: Sequence[dict[str, Any]]) -> Any:
    repeats = Repeats("native")
    for index, item in enumerate(items):
        external_id = item.get("external_id") or repeats.id_for(item)
        yield Found(index, None, item, None, str(external_id)[:512])


def _as_write(
    request: Request, caller: Principal, batch: Batch, key: str | None, body: bytes
) -> Write:
    items = doors_of(request).arriving(
        caller.workspace, [memory for _, memory in batch.taken], "skip"
    )

    async def render(_: Connection, outcomes: Sequence[Outcome]) -> Answer | EngramError:
        # A transaction that lost a race is rendered again: each time on a copy.
        report = copy.deepcopy(batch.report)
        for (found, _memory), outcome in zip(batch.taken, outcomes, strict=True):
            _report(report, found, outcome)
        return Answer(200, orjson.dumps(report.as_json()))

    query = str(request.query_params)
    return Write(
        caller.workspace,
        items,
        caller.key_id,
        render,
        check_idempotency_key(key),
        request_hash("POST /v1/memories/import", query, body),
    )


def _report(report: Report, found: Found, outcome: Outcome) -> None:
    memory = outcome.item.memory
    if outcome.decision is None:
        report.fail(found, outcome.refusal or Fault("", "refused_by_store", "was refused"))
    elif outcome.decision.kind == "insert":
        superseded = memory.state == "superseded"
        report.add("superseded" if superseded else "imported", memory.namespace)
    else:
        report.add(_COUNTED[outcome.decision.kind], memory.namespace)


def _count(answer: Answer) -> None:
    counts = orjson.loads(answer.body)
    for outcome in ("imported", "updated", "duplicates", "superseded", "skipped", "failed"):
        if counts[outcome]:
            metrics.INGESTED.labels("http", outcome).inc(counts[outcome])


def _too_many() -> TooLargeError:
    return TooLargeError(
        "too_many_items",
        f"The body holds more than {MAX_ITEMS} items; nothing of it was stored.",
        cure="Send it in parts, or use `engram import FILE`, which does.",
    )
