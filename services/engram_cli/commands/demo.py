"""``engram demo``: the main job on real servers and real input, in under a minute."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram_cli import output
from engram_cli.options import AsJson

if TYPE_CHECKING:
    from engram_cli.demo.stage import Stage
    from engram_cli.import_run import Progress

_DATA = Path(".engram/demo")
_MIGRATE_DATA = Path(".engram/demo-migrate")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    data: Annotated[
        Path | None, typer.Option(help="Data directory of the demo, kept afterwards.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget what an earlier demo stored there.")
    ] = False,
    migrate: Annotated[
        bool, typer.Option("--migrate", help="Show a change of the embedding model instead.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start everything, move two exports in, search them, and show where the time went."""
    if migrate:
        _show_migration(data or _MIGRATE_DATA, as_json=as_json)
    else:
        _show_main_job(data or _DATA, fresh=fresh, as_json=as_json)


def _show_migration(data: Path, *, as_json: bool) -> None:
    from engram_cli.demo.migrate import FROM
    from engram_cli.demo.stage import stage

    # What an earlier run moved is in the new space already: it always begins anew.
    with output.silenced(silent=as_json), stage(data.absolute(), fresh=True, embedding=FROM) as up:
        output.line(f"engram runs at {up.url}: PostgreSQL, NATS and every service.", "green")
        result = asyncio.run(_travel(up, quiet=as_json))
    if as_json:
        output.print_json(result)


async def _travel(where: Stage, *, quiet: bool) -> dict[str, Any]:
    from engram.client import AsyncClient
    from engram_cli.demo.migrate import Journey

    async with AsyncClient(where.url, where.api_key, 120.0) as client:
        with output.progress(quiet=quiet) as update:
            return await Journey(client, _shown_by(update)).run()


def _show_main_job(data: Path, *, fresh: bool, as_json: bool) -> None:
    from engram_cli.demo.stage import stage

    started = time.perf_counter()
    with output.silenced(silent=as_json), stage(data.absolute(), fresh=fresh) as where:
        up_s = time.perf_counter() - started
        output.line(f"engram runs at {where.url}: PostgreSQL, NATS and every service.", "green")
        result = asyncio.run(_play(where, quiet=as_json))
        result["seconds"] = {"start PostgreSQL, NATS, services": up_s, **result["seconds"]}
        _show_times(result["seconds"])
    if as_json:
        output.print_json(result)
        return
    output.line("\nNext: keep it running and ask it yourself, in two terminals:", "bold")
    engram = _command()
    output.line(f"  {engram} up --data {data}")
    output.line(f"  ENGRAM_DATA_DIR={data} {engram} search 'what is the best hour to phone Bob'")
    output.line(f"Then move your own export in: {engram} import FILE --wait  (docs/import.md)")


def _command() -> str:
    """Return how this very command is called where it is not on the PATH."""
    if shutil.which("engram"):
        return "engram"
    beside = Path(sys.executable).with_name("engram")
    inside = beside.is_relative_to(Path.cwd())
    return str(beside.relative_to(Path.cwd()) if inside else beside)


async def _play(where: Stage, *, quiet: bool) -> dict[str, Any]:
    from engram.client import AsyncClient
    from engram_cli.demo.play import Play

    async with AsyncClient(where.url, where.api_key, 120.0) as client:
        with output.progress(quiet=quiet) as update:
            return await Play(client, _shown_by(update)).run()


def _shown_by(update: Callable[[str, int, int], None]) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        if progress.embedded is None:
            update(f"stored {progress.stored:,}", progress.read, progress.read)
        else:
            update(
                f"embedded {progress.embedded:,} of {progress.to_embed:,}",
                progress.embedded,
                progress.to_embed,
            )

    return show


def _show_times(seconds: Mapping[str, float]) -> None:
    output.line("\nWhere the time went:", "bold")
    output.table(("seconds", "step"), [(s, step) for step, s in seconds.items()], empty="")
