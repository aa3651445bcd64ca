"""What the demo shows: two exports moved in, three searches, one context block, duplicates."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any, Final

from engram_cli import output
from engram_cli.demo.duplicates import show_duplicates
from engram_cli.import_run import ImportRun, Progress, totals

if TYPE_CHECKING:
    from engram.client import AsyncClient, SearchResult

EXPORTS: Final = (
    ("a mem0 export", "mem0-export.json"),
    ("raw Postgres rows", "postgres-export.jsonl"),
)
QUERIES: Final = (
    "the new version is broken, what do we do first",
    "why should money never be stored as a decimal number",
    "can Carol eat the sandwiches",
)
TOPIC: Final = "deploy rules and release windows"
_SHOWN: Final = 3


class Play:
    """One run of the demo against a running engram.

    Args:
        client: talks to it.
        show: told about the progress of an import.
    """

    def __init__(self, client: AsyncClient, show: Callable[[Progress], None]) -> None:
        self._client = client
        self._show = show
        self.spent_s: dict[str, float] = {}

    async def run(self) -> dict[str, Any]:
        """Move the exports in, ask, and return what came of it."""
        reports = await self.import_all()
        searches = [await self._search(query) for query in QUERIES]
        with self._timed("one context block"):
            block = await self._client.context(TOPIC, max_tokens=160)
        output.line(f'\nA block for a system prompt about "{TOPIC}":', "bold")
        output.line(block["context"])
        with self._timed("near-duplicates: dry run, run, undo"):
            duplicates = await show_duplicates(self._client)
        return {
            "imports": reports,
            "searches": searches,
            "context": block,
            "duplicates": duplicates,
            "seconds": self.spent_s,
        }

    async def import_all(self) -> list[dict[str, Any]]:
        """Move the exports in, wait until they are embedded, and return the reports."""
        reports = []
        for title, name in EXPORTS:
            with self._timed(f"import {title}"):
                report = await self._import(name, wait=False)
            counts = ", ".join(f"{count:,} {word}" for word, count in totals(report))
            output.line(f"Imported {title}: {counts}.", "green")
            reports.append(report)
        with self._timed("embed what is left"):
            await self._wait()
        return reports

    async def _import(self, name: str, *, wait: bool) -> dict[str, Any]:
        run = ImportRun(self._client, {"strategy": "skip"}, None, self._show)
        with as_file(files("engram_cli.demo").joinpath("data", name)) as path, path.open("rb") as f:
            return await run.run([(name, f)], wait=wait)

    async def _wait(self) -> None:
        from engram_cli.embedded_wait import wait_until_embedded

        def show(current: int, total: int) -> None:
            self._show(Progress(stored=total, embedded=current, to_embed=total))

        await wait_until_embedded(self._client, show)

    async def _search(self, query: str) -> SearchResult:
        with self._timed(f"search: {query}"):
            answer = await self._client.search(query, limit=_SHOWN)
        output.line(f'\n"{query}"  ({answer["route"]})', "bold")
        rows = [
            (hit["score"], hit["memory"]["content"], hit["memory"]["namespace"])
            for hit in answer["results"]
        ]
        output.table(("score", "memory", "namespace"), rows, empty="nothing found")
        return answer

    @contextlib.contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.spent_s[what] = time.perf_counter() - started
