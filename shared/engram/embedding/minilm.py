"""all-MiniLM-L6-v2 on this machine, in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import numpy as np

from engram.domain.batching import cut, pack
from engram.domain.spaces import SpaceSpec
from engram.domain.vectors import Matrix, normalise
from engram.embedding.minilm_process import ModelProcess
from engram.embedding.provider import Embedded, Kind, Limits, ProviderError, accept, nothing
from engram.embedding.turns import Turns

# What a query may have to wait for: sixteen short texts, or a part of a long one. Under a second of
# a quiet core in English; a character of Chinese is a word piece, which makes it about three.
_SLICE_TEXTS: Final = 16
_SLICE_CHARS: Final = 4_000
_RANKS: Final[dict[Kind, int]] = {"query": 0, "document": 1}
# Start-up and the longest slice there can be, on a machine ten times as busy as it should be.
_CALL_TIMEOUT_S: Final = 120.0


class MiniLMProvider:
    """384 dimensions, English, about 160 short texts a second and core; no key and no network.

    The event loop never waits for the model, and queries go before documents: documents are
    embedded in slices of up to 16 texts, and a query takes the next turn.
    """

    limits = Limits(max_inputs=64, max_tokens=16_384)

    def __init__(self, spec: SpaceSpec) -> None:
        self.spec = spec
        self._process = ModelProcess(spec.dimensions, _CALL_TIMEOUT_S)
        self._turns = Turns()
        self._running: set[asyncio.Task[tuple[Matrix, int]]] = set()
        self._closed = False

    @property
    def worker_pid(self) -> int | None:
        """The model's process, None while it has not been started."""
        return self._process.pid

    async def embed(self, texts: Sequence[str], kind: Kind) -> Embedded:
        """Embed texts into (n, 384) unit vectors; queries and documents alike but for their turn.

        A text above 254 word pieces is read in windows, and its vector is the mean of theirs,
        weighted by their pieces. Shorter ones get what sentence-transformers gives.
        """
        if not texts:
            return nothing(self.spec)
        parts = [(row, part) for row, text in enumerate(texts) for part in cut(text, _SLICE_CHARS)]
        sums = np.zeros((len(texts), self.spec.dimensions), dtype=np.float32)
        tokens = 0
        for run in pack(parts, lambda part: len(part[1]), _SLICE_TEXTS, _SLICE_CHARS):
            vectors, count = await self._slice([parts[index][1] for index in run], kind)
            np.add.at(sums, [parts[index][0] for index in run], vectors)
            tokens += count
        return accept(normalise(sums), self.spec, len(texts), tokens)

    async def warm_up(self) -> None:
        """Start the process and load the model, so that the first query need not wait for it."""
        await self.embed(["warm up"], "query")

    async def close(self) -> None:
        """Stop the process, without waiting for work that nobody will read."""
        self._closed = True
        running = tuple(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._process.stop()

    async def _slice(self, texts: Sequence[str], kind: Kind) -> tuple[Matrix, int]:
        """One turn. A caller who gives up leaves it running: killing the model costs more."""
        task = asyncio.create_task(self._in_turn(texts, kind))
        self._running.add(task)
        task.add_done_callback(self._done)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._closed and task.cancelled():
                raise ProviderError("connection", "The provider has been closed.") from None
            raise

    def _done(self, task: asyncio.Task[tuple[Matrix, int]]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may have left: then nobody else looks, and asyncio logs

    async def _in_turn(self, texts: Sequence[str], kind: Kind) -> tuple[Matrix, int]:
        async with self._turns.turn(_RANKS[kind]):
            if self._closed:
                raise ProviderError("connection", "The provider has been closed.")
            return await self._process.call(texts)
