"""``engram import``: export files of any known format into the workspace."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final, Literal

import typer

from engram.errors import UsageError
from engram_cli import output
from engram_cli.input_files import open_input
from engram_cli.options import AsJson

if TYPE_CHECKING:
    from rich.progress import TaskID

    from engram.client.types import ImportOptions
    from engram_cli.import_run import ImportRun, Progress, TakeError

ShowProgress = Callable[["Progress"], None]
Strategy = Literal["skip", "merge", "replace"]
_SHOWN_ERRORS: Final = 10


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_files)


def import_files(  # noqa: PLR0913, PLR0917 - an option of the command is an argument here
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Export files or folders, gzipped or not; - is standard input.",
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
    revive: Annotated[
        bool, typer.Option("--revive", help="Store anew what was deleted here.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report, but store nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return once all is embedded.")] = False,
    errors_to: Annotated[
        str | None,
        typer.Option(
            "--errors-to", metavar="PATH", help="Write every error there; or `beside` the file."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Import memories from export files of other systems, or of another engram."""
    if strategy == "replace" and len(files) > 1:
        raise UsageError(
            "usage",
            "The second file would replace what the first one brought.",
            cure="Import one file at a time with --strategy replace.",
        )
    options: ImportOptions = {"strategy": strategy, "dry_run": dry_run}
    if namespace is not None:
        options["namespace"] = namespace
    how = {"format": format_, "revive": revive}
    with (
        _opened(files) as streams,
        _errors(errors_to) as take,
        _bar(files, quiet=as_json) as show,
    ):
        work = _import(streams, options, how, (show, take), wait=wait and not dry_run)
        report = asyncio.run(work)
    output.show(report, as_json=as_json, people=lambda: _show_report(report, dry_run=dry_run))
    if report["failed"]:
        raise typer.Exit(1)


async def _import(
    streams: Sequence[tuple[str, BinaryIO]],
    options: ImportOptions,
    how: dict[str, Any],
    told: tuple[ShowProgress, TakeError | None],
    *,
    wait: bool,
) -> dict[str, Any]:
    from engram.client import AsyncClient
    from engram_cli.credentials import resolve_target
    from engram_cli.import_run import ImportRun

    target = resolve_target()
    show, take = told
    async with AsyncClient(target.url, target.api_key, 120.0) as client:
        run = ImportRun(client, options, on_progress=show, on_error=take, **how)
        with _say_what_goes_on(run):
            return await run.run(streams, wait=wait)


@contextlib.contextmanager
def _say_what_goes_on(run: ImportRun) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, asyncio.CancelledError):
        if run.job is not None:
            output.note(
                f"The server goes on with it: engram imports show {run.job}, "
                f"or engram imports cancel {run.job}."
            )
        raise


@contextlib.contextmanager
def _opened(files: Sequence[Path]) -> Iterator[list[tuple[str, BinaryIO]]]:
    with contextlib.ExitStack() as stack:
        yield [(str(path), open_input(path, stack)) for path in files]


@contextlib.contextmanager
def _errors(chosen: str | None) -> Iterator[TakeError | None]:
    """Write every error as one line of JSON; a file without any makes no file of errors."""
    if chosen is None:
        yield None
        return
    from engram_cli.import_run import errors_path

    with contextlib.ExitStack() as stack:
        opened: dict[Path, Any] = {}

        def take(name: str, error: Mapping[str, Any]) -> None:
            path = errors_path(name, chosen)
            if path not in opened:
                opened[path] = stack.enter_context(path.open("w", encoding="utf-8"))
            opened[path].write(json.dumps({"file": name, **error}) + "\n")

        yield take


@contextlib.contextmanager
def _bar(files: Sequence[Path], *, quiet: bool) -> Iterator[ShowProgress]:
    """Show how far it is on a terminal's standard error; elsewhere nothing."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = output.console(stderr=True)
    total_bytes = sum(path.stat().st_size for path in files if path.is_file())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("sending", total=total_bytes or None)
        yield lambda progress: _update(bar, task, progress, total_bytes)


def _update(bar: Any, task: TaskID, progress: Progress, total_bytes: int) -> None:
    elapsed_s = bar.tasks[0].elapsed or 0.0
    eta = f"  {progress.eta_s:,.0f} s left" if progress.eta_s else ""
    if progress.embedded is not None:
        text = (
            f"stored {progress.stored:,}  embedded {progress.embedded:,} of {progress.to_embed:,}"
        )
        done, total = progress.embedded, progress.to_embed
    elif progress.body_bytes:
        rate = progress.read / elapsed_s if elapsed_s else 0.0
        text = f"read {progress.read:,}  stored {progress.stored:,}  {rate:,.0f}/s"
        done, total = progress.read_bytes, progress.body_bytes
    else:
        text = f"sending  stored {progress.stored:,}"
        done, total = progress.sent_bytes, total_bytes
    bar.update(task, description=text + eta, completed=done, total=total or None)


def _show_report(report: Mapping[str, Any], *, dry_run: bool) -> None:
    from engram_cli.import_run import totals

    counts = ", ".join(f"{count:,} {name}" for name, count in totals(report))
    output.line(f"{report['format']}: {counts}{' (dry run: nothing stored)' if dry_run else ''}")
    if "import_id" in report:
        undo = "" if dry_run else f"; engram imports restore {report['import_id']} undoes it"
        output.line(f"{report['archived']:,} memories replaced{undo}")
    for warning in report["warnings"]:
        output.line(f"warning: {warning}", "yellow")
    for error in report["errors"][:_SHOWN_ERRORS]:
        output.line(f"{_place(error)}: {error['detail']} [{error['code']}]", "red")
    if (further := len(report["errors"]) - _SHOWN_ERRORS) > 0:
        output.line(f"{further:,} more are listed with --json or --errors-to.", "red")


def _place(error: Mapping[str, Any]) -> str:
    line, index = error.get("line"), error.get("index")
    where = f"line {line}" if line else f"item {index}"
    # A whole export may stand in one line, which then names none of its items.
    if line and index is not None and index + 1 != line:
        where += f", item {index}"
    return f"{error['file']}, {where}" if "file" in error else where
