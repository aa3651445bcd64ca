"""``engram import``: export files of any known format into the workspace."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final, Literal, cast

import typer

from engram.errors import UsageError
from engram_cli import output
from engram_cli.options import AsJson

if TYPE_CHECKING:
    from rich.progress import TaskID

    from engram.client.types import ImportOptions
    from engram_cli.import_run import Progress

ShowProgress = Callable[["Progress"], None]
Strategy = Literal["skip"]
_SHOWN_ERRORS: Final = 10


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_files)


def import_files(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Export files, gzipped or not; - is standard input.",
        ),
    ],
    format_: Annotated[
        str | None, typer.Option("--format", help="Their format; default: detected.")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(help="Put every item here, whatever the file says.")
    ] = None,
    strategy: Annotated[
        Strategy, typer.Option(help="What becomes of items that are there already.")
    ] = "skip",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report, but store nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return once all is embedded.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import memories from export files of other systems, or of another engram."""
    options: ImportOptions = {"strategy": strategy, "dry_run": dry_run}
    if namespace is not None:
        options["namespace"] = namespace
    with _opened(files) as streams, _bar(files, quiet=as_json) as show:
        work = _import(streams, options, format_, show, wait=wait and not dry_run)
        report = asyncio.run(work)
    output.show(report, as_json=as_json, people=lambda: _show_report(report, dry_run=dry_run))
    if report["failed"]:
        raise typer.Exit(1)


async def _import(
    streams: Sequence[tuple[str, BinaryIO]],
    options: ImportOptions,
    format_: str | None,
    show: ShowProgress,
    *,
    wait: bool,
) -> dict[str, Any]:
    from engram.client import AsyncClient
    from engram_cli.credentials import resolve_target
    from engram_cli.import_run import ImportRun

    target = resolve_target()
    async with AsyncClient(target.url, target.api_key, 120.0) as client:
        return await ImportRun(client, options, format_, show).run(streams, wait=wait)


@contextlib.contextmanager
def _opened(files: Sequence[Path]) -> Iterator[list[tuple[str, BinaryIO]]]:
    with contextlib.ExitStack() as stack:
        yield [(str(path), _open(path, stack)) for path in files]


def _open(path: Path, stack: contextlib.ExitStack) -> BinaryIO:
    if str(path) == "-":
        return _seekable(sys.stdin.buffer, stack)
    try:
        return stack.enter_context(path.open("rb"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError("unreadable_file", f"{path} cannot be read: {reason}.") from error


def _seekable(stream: BinaryIO, stack: contextlib.ExitStack) -> BinaryIO:
    # Reading needs two passes. Copied here, in the main thread, so that Ctrl-C ends it: a worker
    # thread that waits for a silent pipe could not be interrupted.
    if stream.seekable():
        return stream
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    shutil.copyfileobj(stream, copy)
    copy.seek(0)
    return cast("BinaryIO", copy)


@contextlib.contextmanager
def _bar(files: Sequence[Path], *, quiet: bool) -> Iterator[ShowProgress]:
    """Show how far it is on a terminal's standard error; elsewhere nothing."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = output.console(stderr=True)
    total_bytes = sum(path.stat().st_size for path in files if path.is_file())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("reading", total=total_bytes or None)
        yield lambda progress: _update(bar, task, progress)


def _update(bar: Any, task: TaskID, progress: Progress) -> None:
    elapsed_s = bar.tasks[0].elapsed or 0.0
    rate = progress.answered / elapsed_s if elapsed_s else 0.0
    text = f"read {progress.read:,}  stored {progress.stored:,}  {rate:,.0f}/s"
    if progress.embedded is None:
        bar.update(task, description=text, completed=progress.read_bytes)
        return
    text = f"stored {progress.stored:,}  embedded {progress.embedded:,} of {progress.to_embed:,}"
    bar.update(task, description=text, completed=progress.embedded, total=progress.to_embed)


def _show_report(report: Mapping[str, Any], *, dry_run: bool) -> None:
    from engram_cli.import_run import totals

    counts = ", ".join(f"{count:,} {name}" for name, count in totals(report))
    output.line(f"{report['format']}: {counts}{' (dry run: nothing stored)' if dry_run else ''}")
    for warning in report["warnings"]:
        output.line(f"warning: {warning}", "yellow")
    for error in report["errors"][:_SHOWN_ERRORS]:
        output.line(f"{_place(error)}: {error['detail']} [{error['code']}]", "red")
    if (further := len(report["errors"]) - _SHOWN_ERRORS) > 0:
        output.line(f"{further:,} more are listed with --json.", "red")


def _place(error: Mapping[str, Any]) -> str:
    where = f"line {error['line']}" if error.get("line") else f"item {error.get('index')}"
    return f"{error['file']}, {where}" if "file" in error else where
