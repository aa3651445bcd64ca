"""Takes a body of any size into Postgres as it arrives, a megabyte at a time; queues its job."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import UUID

import orjson
from starlette.requests import ClientDisconnect, Request
from uuid_utils.compat import uuid7

from engram.errors import EngramError, MalformedError
from engram.storage import importing
from engram.storage.connection import Pool, about
from engram.storage.idempotency import Answer, Key, claim, save
from engram.storage.importing import Job, LeaseLostError
from engram_ingest.authentication import Principal
from engram_ingest.bodies import check_body, cut_off, too_large, too_slow
from engram_ingest.import_body import CHUNK_BYTES
from engram_ingest.import_options import Options
from engram_ingest.import_tally import Tally
from engram_ingest.import_views import location, shown


class Incoming:
    """A body that is read in pieces, each within the patience for one body.

    Args:
        request: whose body it is.
        max_bytes: more are refused, by the announced length before anything is read.

    Raises:
        TooLargeError: it announces more.
        UnsupportedMediaError: it is compressed.
    """

    def __init__(self, request: Request, max_bytes: int) -> None:
        check_body(request, max_bytes)
        self._max_bytes = max_bytes
        self._patience_s: float = request.app.state.body_patience_s
        self._stream = request.stream().__aiter__()
        self._held = b""
        self._ended = False
        self.received_bytes = 0

    async def head(self, size: int) -> tuple[bytes, bool]:
        """Return up to about ``size`` bytes from the beginning, and whether that was all."""
        data = await self._piece(size + 1)
        if len(data) <= size:
            return data, True
        self._held = data
        return b"", False

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield what was held back and the rest, in pieces of one size; the last may be shorter."""
        while len(self._held) >= CHUNK_BYTES:
            yield self._held[:CHUNK_BYTES]
            self._held = self._held[CHUNK_BYTES:]
        while data := self._held + await self._piece(CHUNK_BYTES - len(self._held)):
            self._held = data[CHUNK_BYTES:]
            yield data[:CHUNK_BYTES]

    async def _piece(self, size: int) -> bytes:
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._read(size)
        except TimeoutError:
            raise too_slow(self._patience_s) from None
        except ClientDisconnect:
            raise cut_off() from None

    async def _read(self, size: int) -> bytes:
        chunks: list[bytes] = []
        missing = size
        while missing > 0 and not self._ended:
            chunk = await anext(self._stream, None)
            if chunk is None:
                self._ended = True
                break
            chunks.append(chunk)
            missing -= len(chunk)
            self.received_bytes += len(chunk)
            if self.received_bytes > self._max_bytes:
                raise too_large(self._max_bytes)
        return b"".join(chunks)


async def of_bytes(body: bytes) -> AsyncIterator[bytes]:
    """Yield a body that was read already as an upload takes it."""
    for start in range(0, len(body), CHUNK_BYTES):
        yield body[start : start + CHUNK_BYTES]


@dataclass(slots=True)
class Upload:
    """One body on its way into a job.

    Attributes:
        pool: of the API role.
        most: jobs a workspace may have open.
        key: the request's Idempotency-Key; ``query`` what belongs to the request besides the body.
    """

    pool: Pool
    caller: Principal
    options: Options
    most: int
    key: str | None = None
    query: str = ""
    id: UUID = field(default_factory=uuid7)

    async def run(self, pieces: AsyncIterator[bytes]) -> Answer:
        """Store the pieces and queue the job; return the 202, or the saved answer of a repeat.

        Raises:
            BusyError: the workspace has too many open jobs; nothing was read then.
            EngramError: what ends the reading; what was stored so far is erased.
        """
        await self._create()
        try:
            answer = await self._take(pieces)
        except LeaseLostError:
            raise _swept() from None
        except BaseException:
            await asyncio.shield(self._abandon())
            raise
        if answer.replayed:
            await self._abandon()
        return answer

    async def _take(self, pieces: AsyncIterator[bytes]) -> Answer:
        digest, size = hashlib.sha256(self.query.encode()), 0
        part = 0
        async for data in pieces:
            digest.update(data)
            size += len(data)
            async with about(self.pool, [self._workspace]) as connection:
                await importing.append(connection, self._workspace, self.id, part, data, size)
            part += 1
        return await self._queue(size, digest.digest())

    async def _abandon(self) -> None:
        # What cannot be said now is found by the sweep, once nothing has come for long enough.
        with contextlib.suppress(EngramError):
            async with about(self.pool, [self._workspace]) as connection:
                await importing.abandon(connection, self._workspace, self.id)

    async def _create(self) -> None:
        async with about(self.pool, [self._workspace]) as connection:
            await importing.create(
                connection,
                self._workspace,
                self.id,
                actor=self.caller.key_id,
                options=self.options.as_json(),
                format_name=self.options.format,
                report=Tally().as_json(),
                most=self.most,
            )

    async def _queue(self, size: int, sha256: bytes) -> Answer:
        async with about(self.pool, [self._workspace]) as connection:
            key = Key(self._workspace, self.key) if self.key else None
            if key:
                saved = (await claim(connection, {key: sha256})).get(key)
                if saved is not None:
                    again = saved.answer_to(sha256)
                    if isinstance(again, EngramError):
                        raise again
                    return again
            await importing.queue(connection, self._workspace, self.id, size)
            job = await importing.show(connection, self._workspace, self.id)
            answer = accepted(job)
            if key:
                await save(connection, {key: answer})
            return answer

    @property
    def _workspace(self) -> UUID:
        return self.caller.workspace


def accepted(job: Job) -> Answer:
    """Return the answer to a body that became a job."""
    return Answer(202, orjson.dumps(shown(job)))


def headers_of(answer: Answer) -> dict[str, str]:
    """Return the headers of a 202; a saved one names its job in the body."""
    return {"Location": location(orjson.loads(answer.body)["id"])}


def _swept() -> MalformedError:
    return MalformedError(
        "upload_expired",
        "The body stopped coming for too long, so what had come was erased.",
        cure="Send it again.",
    )
