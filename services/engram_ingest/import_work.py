"""What is written for a job: each batch with its progress in one transaction, and the end."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from engram.domain.arrival import Arriving, Plan
from engram.errors import EngramError, Fault, InvalidError
from engram.importers.record import Found
from engram.importers.report import Report
from engram.storage import auditing, importing, rehearsing, staging
from engram.storage.connection import Connection, Pool, about
from engram.storage.contention import until_won
from engram.storage.idempotency import Answer
from engram.storage.importing import ItemError, Job, LeaseLostError, Progress
from engram.storage.writing import Outcome, Write, write_batch
from engram_ingest.import_batches import Batch
from engram_ingest.import_items import count, count_metrics, is_elsewhere
from engram_ingest.import_parsing import Parsing
from engram_ingest.import_tally import MAX_LISTED_ERRORS, Tally

log = structlog.get_logger(__name__)


class Work:
    """One claimed job being done.

    Args:
        pool: of the API role.
        job: as it was claimed.
        holder: of the lease.
        reader: of its body.
        lease: how long the claim lasts after each batch.
    """

    def __init__(
        self, pool: Pool, job: Job, holder: UUID, reader: Parsing, lease: timedelta
    ) -> None:
        self.reader = reader
        self._pool = pool
        self._job = job
        self._holder = holder
        self._lease = lease
        self._position = job.position
        self._tally = Tally.of(job.report)

    @property
    def _plan(self) -> Plan:
        options = self._job.options
        scope = self.reader.source if options["namespace"] is None else None
        return Plan(self._job.id, options["revive"], options["namespace"], scope)

    async def store(self, batch: Batch) -> None:
        """Store a batch and move the job on, all or nothing.

        Raises:
            LeaseLostError: another runner has the job, or it was cancelled; nothing was stored.
            EngramError: Postgres cannot be reached, or others were in the way for too long.
        """
        items = tuple(item for _, item in batch.taken)
        if self._job.options["dry_run"]:
            tally = await until_won(lambda: self._rehearse(batch, items))
        else:
            tally = await self._write(batch, items)
            added = {name: tally.counts[name] - self._tally.counts[name] for name in tally.counts}
            count_metrics(added, "import")
        self._tally, self._position = tally, batch.after

    async def _write(self, batch: Batch, items: tuple[Arriving, ...]) -> Tally:
        told: list[Tally] = []

        async def render(connection: Connection, outcomes: Sequence[Outcome]) -> Answer:
            # Inside the transaction, and again whenever that is begun anew.
            told[:] = [await self._move_on(connection, batch, outcomes)]
            return Answer(200, b"")

        write = Write(self._job.workspace, items, self._job.writer, render)
        [answer] = await write_batch(self._pool, [write], datetime.now(UTC))
        if isinstance(answer, EngramError):  # pragma: no cover - render makes no refusals
            raise answer
        return told[0]

    async def _rehearse(self, batch: Batch, items: tuple[Arriving, ...]) -> Tally:
        now = datetime.now(UTC)
        async with about(self._pool, [self._job.workspace]) as connection:
            decisions = await rehearsing.rehearse_batch(connection, items, self._job.id, now)
            outcomes = [Outcome(i, d) for i, d in zip(items, decisions, strict=True)]
            return await self._move_on(connection, batch, outcomes)

    async def _move_on(
        self, connection: Connection, batch: Batch, outcomes: Sequence[Outcome]
    ) -> Tally:
        report, errors = self._accounted(batch, outcomes)
        elsewhere = 0
        if self._job.options["strategy"] == "replace":
            elsewhere = sum(1 for o in outcomes if o.decision and is_elsewhere(o.decision))
        tally = self._tally.plus(report.as_json(), len(errors), elsewhere)
        listed = errors[: MAX_LISTED_ERRORS - self._tally.listed]
        await importing.add_errors(connection, self._job, listed)
        ids = [o.item.id for o in outcomes if o.decision and o.decision.kind == "insert"]
        progress = Progress(
            self._position,
            batch.after,
            batch.read_bytes,
            tally.as_json(),
            self.reader.format or "",
            (min(ids), max(ids)) if ids else None,
        )
        await importing.progress(connection, self._job, self._holder, progress, self._lease)
        return tally

    def _accounted(
        self, batch: Batch, outcomes: Sequence[Outcome]
    ) -> tuple[Report, list[ItemError]]:
        report = Report(self.reader.format or "")
        errors: list[ItemError] = []
        for found, fault in batch.refused:
            report.fail(found, fault)
            errors.append(_error(found, fault))
        refused = count(report, batch.taken, outcomes)
        errors += [_error(found, fault) for found, fault in refused]
        return report, sorted(errors, key=lambda error: error.index)

    async def finish(self) -> None:
        """End the job; a replacement takes over in the same transaction.

        Raises:
            LeaseLostError: as `store`.
            InvalidError: a replacement without one item to replace anything with.
        """
        options = self._job.options
        self._tally = self._tally.warned(self.reader.warnings)
        if options["strategy"] == "replace" and not self._loaded():
            raise _nothing_to_put_there()

        async def attempt() -> int:
            async with about(self._pool, [self._job.workspace]) as connection:
                job = await importing.show(connection, self._job.workspace, self._job.id, lock=True)
                if job.state != "running":
                    raise LeaseLostError
                archived = await self._take_over(connection)
                await self._end(connection, "done", archived=archived)
                return archived

        archived = await until_won(attempt)
        log.info("import done", job=str(self._job.id), archived=archived, **self._tally.counts)

    def _loaded(self) -> bool:
        counts = self._tally.counts
        return any(counts[n] for n in ("imported", "updated", "duplicates", "superseded"))

    async def _take_over(self, connection: Connection) -> int:
        options, job = self._job.options, self._job
        if options["strategy"] != "replace":
            return 0
        if options["dry_run"]:
            return await rehearsing.would_archive(connection, job.workspace, job.id, self._plan)
        taken = await staging.take_over(
            connection, job.workspace, job.id, self._plan, job.writer, datetime.now(UTC)
        )
        return taken.archived

    async def fail(self, error: EngramError) -> None:
        """End the job with what went wrong; what was stored stays, what was staged goes.

        Raises:
            LeaseLostError: as `store`.
        """
        said = {"code": error.code, "detail": error.detail, "cure": error.cure}
        async with about(self._pool, [self._job.workspace]) as connection:
            await self._end(connection, "failed", error=said)
        log.info("import failed", job=str(self._job.id), code=error.code)

    async def _end(
        self,
        connection: Connection,
        state: importing.JobState,
        *,
        error: dict[str, str] | None = None,
        archived: int = 0,
    ) -> None:
        await importing.finish(
            connection,
            self._job,
            self._holder,
            state,
            report=self._tally.as_json(),
            format_name=self.reader.format or self._job.format,
            error=error,
            archived=archived,
        )
        if not self._job.options["dry_run"]:
            verb = "finished" if state == "done" else state
            job = replace(self._job, format=self.reader.format)
            await record(connection, job, job.actor, verb, self._said(archived))

    def _said(self, archived: int) -> dict[str, int]:
        counts = {**self._tally.counts, "archived": archived}
        return {name: number for name, number in counts.items() if number}


async def record(
    connection: Connection, job: Job, actor: str, verb: str, counts: dict[str, int]
) -> None:
    """Add what was done with a job to the audit trail, in the transaction that did it."""
    started = job.started_at
    took_s = (datetime.now(UTC) - started).total_seconds() if started else None
    options = {"strategy": job.options["strategy"]}
    await auditing.record(
        connection,
        auditing.Entry(
            job.workspace,
            actor,
            f"import.{verb}",
            str(job.id),
            {**options, **counts},
            job.format,
            None if took_s is None else round(took_s, 3),
        ),
    )


def _error(found: Found, fault: Fault) -> ItemError:
    name = found.external_id
    return ItemError(
        found.index,
        found.line,
        None if name is None else _storable(name),
        fault.code,
        _storable(fault.pointer),
        _storable(fault.detail),
    )


def _storable(text: str) -> str:
    # What is wrong with an item may be just what Postgres cannot hold.
    clean = text.encode("utf-8", "replace").decode()
    return clean.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _nothing_to_put_there() -> InvalidError:
    return InvalidError(
        "empty_replacement",
        "The file holds nothing that could be stored, so nothing was replaced.",
        cure="Look at the errors of the import; delete memories if that is what is meant.",
    )
