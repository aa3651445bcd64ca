"""The process that compares: vectors and texts come in on stdin, what is to be done goes out.

A frame is a big-endian 4-byte length and that many bytes. Requests are JSON frames:

- ``near``: followed by the parts of a binary COPY (`engram.storage.dedup_vectors.stream_vectors`)
  and an empty frame. Answers which memories are near enough to be read. With ``sizes`` (place,
  owners, rows of each scope) the rows are only those near a new one (`stream_near`).
- ``texts``: some of those; answers nothing.
- ``compare``: answers the pairs about which a person may have decided.
- ``plan``: with the pairs that are settled; answers what is to be done in each namespace.

It ends when stdin ends, so it cannot outlive its parent by more than what it is at.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from engram.domain.dedup_classes import Text
from engram.domain.dedup_decision import Thresholds
from engram.domain.dedup_near import Near
from engram.domain.dedup_plan import Comparison, Plan
from engram.domain.dedup_thresholds import joined_from
from engram.domain.pairs.few import apart

Json = dict[str, Any]
# Of PostgreSQL's binary COPY: what comes before the rows (signature, flags, no extension).
_HEADER_BYTES: Final = 19
_NAMES: Final = ("place", "owner", "id", "version", "seq", "embedding")


def main() -> None:
    """Serve until stdin ends."""
    # Ctrl-C reaches the whole process group; the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies, requests = _claim_stdout(), sys.stdin.buffer
    work = Work()
    while (request := _read_frame(requests)) is not None:
        try:
            answer = work.answer(json.loads(request), requests)
        except Exception as error:  # noqa: BLE001 - told to the parent, which ends this process
            answer = {"error": type(error).__name__}
        if answer is not None:
            body = json.dumps(answer).encode()
            replies.write(struct.pack(">I", len(body)) + body)
            replies.flush()


@dataclass(slots=True)
class Scope:
    """Near memories of one namespace and the same owner ids."""

    place: int
    versions: NDArray[np.int32]
    near: Near
    rows: dict[UUID, int]
    texts: dict[int, Text] = field(default_factory=dict)
    compared: Comparison | None = None


class Work:
    """What was asked for last: one batch of namespaces at a time."""

    def __init__(self) -> None:
        self._scopes: list[Scope] = []
        self._sizes: dict[int, int] = {}
        self._thresholds = Thresholds(1.0, 1.0)

    def answer(self, request: Json, stream: BinaryIO) -> Json | None:
        """Do what a request asks for.

        Raises:
            KeyError: it asks for nothing known.
        """
        match request["op"]:
            case "near":
                return self._near(request, stream)
            case "compare":
                return self._compare()
            case "plan":
                return self._plan(request)
            case "texts":
                self._texts(request)
                return None
        raise KeyError(request["op"])

    def _near(self, request: Json, stream: BinaryIO) -> Json:
        self._thresholds = Thresholds(*request["thresholds"])
        self._scopes, self._sizes = [], {}
        sizes = _Sizes.of(request.get("sizes"))
        # A namespace is joined while the next one is on its way.
        for rows, whole in Vectors.read(stream, request["dimensions"], request["rows"]):
            for place, part in rows.by_place(whole):
                self._sizes[place] = sizes.of_namespace(place, part.stop - part.start)
                after = request["compared"][place - 1]
                self._scopes += rows.scopes(place, part, after, self._thresholds, sizes)
        wanted = [memory.hex for scope in self._scopes for memory in scope.rows]
        return {"ids": wanted, "memories": sum(self._sizes.values())}

    def _texts(self, request: Json) -> None:
        given = {UUID(text["id"]): text for text in request["texts"]}
        for scope in self._scopes:
            for memory in scope.rows.keys() & given.keys():
                text, row = given[memory], scope.rows[memory]
                # What has changed since its vector was read is compared when it has a new one.
                if text["version"] == scope.versions[row]:
                    scope.texts[row] = _text(memory, text)

    def _compare(self) -> Json:
        doubtful = []
        for scope in self._scopes:
            scope.compared = Comparison.of(scope.near, scope.texts, self._thresholds)
            doubtful += [
                [one.id.hex, one.version, other.id.hex, other.version]
                for one, other in scope.compared.doubtful()
            ]
        return {"doubtful": doubtful}

    def _plan(self, request: Json) -> Json:
        settled = {(UUID(low), UUID(high)) for low, high in request["settled"]}
        plans = {place: Plan() for place in self._sizes}
        for scope in self._scopes:
            if scope.compared is not None:
                plans[scope.place].add(scope.compared.plan(settled, self._thresholds))
        self._scopes = []
        return {
            "plans": [
                {"place": place, "memories": self._sizes[place], **plan.as_json()}
                for place, plan in plans.items()
            ]
        }


@dataclass(frozen=True, slots=True)
class _Sizes:
    """How many live vectors scopes have of which not all are read; none for those that are."""

    scopes: dict[tuple[int, bytes], int]
    namespaces: Counter[int]

    @classmethod
    def of(cls, given: list[tuple[int, str, int]] | None) -> _Sizes:
        scopes, namespaces = {}, Counter[int]()
        for place, owner, rows in given or ():
            scopes[place, bytes.fromhex(owner)] = rows
            namespaces[place] += rows
        return cls(scopes, namespaces)

    def of_namespace(self, place: int, read: int) -> int:
        return self.namespaces[place] or read

    def of_scope(self, place: int, owner: bytes, read: int) -> int:
        return self.scopes.get((place, owner), read)


@dataclass(frozen=True, slots=True)
class Vectors:
    """Rows of a COPY, as columns."""

    places: NDArray[np.int32]
    owners: NDArray[np.void]
    ids: NDArray[np.void]
    versions: NDArray[np.int32]
    seqs: NDArray[np.int64]
    embeddings: NDArray[np.float16]

    @classmethod
    def read(cls, stream: BinaryIO, dimensions: int, rows: int) -> Iterator[tuple[Vectors, slice]]:
        """Read parts up to an empty one; beside the columns only one part is held.

        Args:
            stream: of frames.
            dimensions: of every vector.
            rows: how many are expected; more are taken, too.

        Yields:
            All rows that have come, and which of them are of namespaces that came to their end
            since the last time.
        """
        columns = _columns(max(rows, 1), dimensions)
        count, done = 0, 0
        for found in _rows(stream, _row_of(dimensions)):
            if count + len(found) > len(columns[0]):
                columns = [_grown(column, (count + len(found)) * 2) for column in columns]
            for column, name in zip(columns, _NAMES, strict=True):
                column[count : count + len(found)] = found[name]
            count += len(found)
            # Rows come by their place: what stands before that of the last one is whole.
            places = columns[0][done:count]
            end = done + int(np.searchsorted(places, places[-1]))
            if end > done:
                yield cls(*(column[:count] for column in columns)), slice(done, end)
                done = end
        if count > done:
            yield cls(*(column[:count] for column in columns)), slice(done, count)

    def by_place(self, whole: slice) -> Iterator[tuple[int, slice]]:
        """Yield the place of each namespace among some rows, and its own ones."""
        places, starts = np.unique(self.places[whole], return_index=True)
        ends = [*starts[1:].tolist(), whole.stop - whole.start][: len(places)]
        for place, start, end in zip(places.tolist(), starts.tolist(), ends, strict=True):
            yield place, slice(whole.start + start, whole.start + end)

    def scopes(
        self, place: int, part: slice, after: int, thresholds: Thresholds, sizes: _Sizes
    ) -> Iterator[Scope]:
        """Yield the scopes of one namespace in which memories are near."""
        owners, of_row = np.unique(self.owners[part], return_inverse=True)
        for number in range(len(owners)):
            rows: slice | NDArray[np.int64] = part
            if len(owners) > 1:
                rows = part.start + np.flatnonzero(of_row == number)
            new = self.seqs[rows] > after
            if len(new) < 2 or not new.any():
                continue
            size = sizes.of_scope(place, bytes(owners[number]), len(new))
            found_from = joined_from(size, thresholds)
            if apart(self.embeddings[rows], found_from, new):
                continue
            near = Near.of(self.embeddings[rows], new, found_from)
            ids = self.ids[rows]
            wanted = {UUID(bytes=bytes(ids[row])): row for row in near.rows().tolist()}
            if wanted:
                yield Scope(place, self.versions[rows], near, wanted)


def _row_of(dimensions: int) -> np.dtype[np.void]:
    """Return the layout of a row: each field behind its length, a halfvec behind two numbers."""
    return np.dtype(
        [
            ("fields", ">i2"),
            ("l1", ">i4"), ("place", ">i4"),
            ("l2", ">i4"), ("owner", "V16"),
            ("l3", ">i4"), ("id", "V16"),
            ("l4", ">i4"), ("version", ">i4"),
            ("l5", ">i4"), ("seq", ">i8"),
            ("l6", ">i4"), ("size", ">u2"), ("unused", ">u2"),
            ("embedding", ">f2", (dimensions,)),
        ]
    )  # fmt: skip


def _rows(stream: BinaryIO, kind: np.dtype[np.void]) -> Iterator[NDArray[np.void]]:
    """Yield the rows of a COPY as they come, whichever way they were cut into frames."""
    rest, skip = b"", _HEADER_BYTES
    while part := _read_frame(stream):
        data = rest + part
        if skip and len(data) < skip:
            rest = data
            continue
        data, skip = data[skip:], 0
        whole = len(data) // kind.itemsize
        rest = data[whole * kind.itemsize :]
        if whole:
            yield np.frombuffer(data, dtype=kind, count=whole)


def _columns(rows: int, dimensions: int) -> list[NDArray[Any]]:
    kinds = (np.int32, "V16", "V16", np.int32, np.int64)
    columns: list[NDArray[Any]] = [np.empty(rows, dtype=kind) for kind in kinds]
    return [*columns, np.empty((rows, dimensions), dtype=np.float16)]


def _grown(column: NDArray[Any], rows: int) -> NDArray[Any]:
    larger = np.empty((rows, *column.shape[1:]), dtype=column.dtype)
    larger[: len(column)] = column
    return larger


def _text(memory: UUID, said: Json) -> Text:
    return Text(
        memory,
        said["version"],
        said["content"],
        said["metadata"],
        said["importance"],
        said["created_at"],
        said["pinned"],
        said["decided"],
    )


def _claim_stdout() -> BinaryIO:
    """Keep the pipe for replies, and send whatever a library prints to stderr."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return replies


def _read_frame(stream: BinaryIO) -> bytes | None:
    header = stream.read(4)
    if len(header) < 4:
        return None
    (size,) = struct.unpack(">I", header)
    body = stream.read(size)
    return body if len(body) == size else None


if __name__ == "__main__":
    main()
