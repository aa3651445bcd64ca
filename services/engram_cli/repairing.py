"""Repairs what a comparison found: the file's memories go in again, what is extra may go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engram.errors import NotFoundError
from engram_cli.input_files import open_input

if TYPE_CHECKING:
    from engram.client.types import ImportOptions
    from engram_cli.comparison import Comparison

_AT_ONCE = 16


async def repair(
    comparison: Comparison,
    file: Path,
    options: ImportOptions,
    format_: str | None,
    *,
    delete_extra: bool,
) -> dict[str, int]:
    """Import what is missing, change what is different, and delete what is extra if asked to.

    The whole file goes in once more with the strategy ``merge``: what agrees is left as it is, and
    the reader that named each memory in the comparison names it here.

    Returns:
        How many were ``imported``, ``updated``, ``deleted``, and ``failed``.

    Raises:
        EngramError: the server cannot be reached; the same repair can be run again.
    """
    from engram.client import AsyncClient
    from engram_cli.credentials import resolve_target
    from engram_cli.import_run import ImportRun

    done = {"imported": 0, "updated": 0, "deleted": 0, "failed": 0}
    target = resolve_target()
    async with AsyncClient(target.url, target.api_key, 120.0) as client:
        if comparison.needs_import():
            run = ImportRun(client, options, format_, on_progress=lambda _: None)
            with contextlib.ExitStack() as stack:
                stream = open_input(file, stack)
                report = await run.run([(file.name, stream)], wait=False)
            done["imported"] = report["imported"] + report["superseded"]
            done["updated"] = report["updated"]
            done["failed"] = report["failed"]
        if delete_extra:
            for names in comparison.extra_ids(_AT_ONCE):
                done["deleted"] += await _delete(client, names)
    return done


async def _delete(client: Any, ids: Sequence[str]) -> int:
    outcomes = await asyncio.gather(*(client.delete(one) for one in ids), return_exceptions=True)
    for outcome in outcomes:
        # Somebody deleted it meanwhile: that is what was wanted.
        if isinstance(outcome, BaseException) and not isinstance(outcome, NotFoundError):
            raise outcome
    return sum(outcome is None for outcome in outcomes)
