"""How an import job looks from outside."""

from datetime import UTC, datetime
from typing import Any

from engram.storage.importing import Job
from engram.storage.records import as_time
from engram_ingest.import_tally import Tally

_ENDED = ("done", "failed", "cancelled")


def location(job_id: object) -> str:
    """Return the path of a job."""
    return f"/v1/imports/{job_id}"


def shown(job: Job, embedding: tuple[int, int] = (0, 0), ahead: int = 0) -> dict[str, Any]:
    """Return a job as the API shows it.

    Args:
        job: as it stands.
        embedding: its memories with a current vector, and those that wait for one.
        ahead: jobs of the workspace that go first.
    """
    embedded, pending = embedding
    return {
        "id": str(job.id),
        "state": job.state,
        "strategy": job.options["strategy"],
        "dry_run": job.options["dry_run"],
        "namespace": job.options["namespace"],
        "format": job.format,
        **Tally.of(job.report).report(),
        "archived": job.archived,
        "embedded": embedded,
        "pending": pending,
        "body_bytes": job.body_bytes,
        "read_bytes": job.read_bytes,
        "ahead": ahead,
        "eta_s": _eta_s(job, embedding, datetime.now(UTC)),
        "error": job.error,
        "created_at": as_time(job.created_at),
        "started_at": as_time(job.started_at),
        "finished_at": as_time(job.finished_at),
        "restored_at": as_time(job.restored_at),
    }


def report_of(job: Job) -> dict[str, Any]:
    """Return the report of a replacement that has ended, as a small one answers it."""
    tally = Tally.of(job.report).report()
    return {"format": job.format, **tally, "archived": job.archived, "import_id": str(job.id)}


def _eta_s(job: Job, embedding: tuple[int, int], now: datetime) -> float | None:
    """Estimate how long until all is stored or, once it is, until all is embedded."""
    if job.started_at is None:
        return None
    elapsed_s = (now - job.started_at).total_seconds()
    if job.state == "running":
        return _left(elapsed_s, job.read_bytes, job.body_bytes)
    embedded, pending = embedding
    if job.state in _ENDED and pending:
        return _left(elapsed_s, embedded, embedded + pending)
    return 0.0 if job.state in _ENDED else None


def _left(elapsed_s: float, done: int, whole: int) -> float | None:
    if not done:
        return None
    return round(elapsed_s * max(whole - done, 0) / done, 1)
