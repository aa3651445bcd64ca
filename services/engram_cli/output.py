"""What the command line writes: JSON for programs, tables and colours for people."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from engram.errors import EngramError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


_silent = False


def print_json(value: Any) -> None:
    """Write one line of JSON to standard output, at once."""
    print(json.dumps(value, ensure_ascii=not _stdout_is_unicode(), default=str), flush=True)


def show(value: Any, *, as_json: bool, people: Callable[[], None]) -> None:
    """Write ``value`` as JSON, or let ``people`` write it for people."""
    if as_json:
        print_json(value)
    else:
        people()


def console(*, stderr: bool = False) -> Console:
    """Return rich's console; colours only on a terminal, and not under ``NO_COLOR``."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, quiet=_silent and not stderr)


@contextlib.contextmanager
def silenced(*, silent: bool) -> Iterator[None]:
    """Write nothing for people while inside, when a program reads the output."""
    global _silent  # noqa: PLW0603 - one process writes to one terminal
    before, _silent = _silent, silent
    try:
        yield
    finally:
        _silent = before


@contextlib.contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show one bar on a terminal's standard error; elsewhere nothing.

    Yields:
        A function of (description, completed, total).
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    err = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=err, disable=quiet or not err.is_terminal, transient=True
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda text, done, total: bar.update(
            task, description=text, completed=done, total=total
        )


def line(text: str = "", style: str = "") -> None:
    """Write one line, as it is: no markup is read from it."""
    console().print(plain(text, style), soft_wrap=True)


def note(text: str) -> None:
    """Write what takes long to standard error, where it is no part of the result."""
    console(stderr=True).print(plain(text, "dim"), soft_wrap=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Write a table, or ``empty`` when there are no rows; ``None`` shows as a dash."""
    from rich.table import Table

    filled = [list(row) for row in rows]
    if not filled:
        line(empty, "dim")
        return
    grid = Table(box=None, header_style="bold", pad_edge=False)
    for number, name in enumerate(columns):
        numeric = all(isinstance(row[number], int | float) for row in filled)
        grid.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in filled:
        grid.add_row(*(plain(_cell(value)) for value in row))
    console().print(grid)


def plain(text: str, style: str = "") -> Text:
    """Return text that a terminal shows and never obeys: memories are written by strangers."""
    from rich.text import Text

    shown = "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    return Text(shown, style=style)


def print_error(error: EngramError, *, as_json: bool) -> None:
    """Write an error to standard error: code, detail and cure, or a problem document."""
    if as_json:
        print(json.dumps(problem(error)), file=sys.stderr, flush=True)
        return
    err = console(stderr=True)
    err.print(
        plain("error: ", "bold red") + plain(f"{error.detail} ") + plain(f"[{error.code}]", "dim"),
        soft_wrap=True,
    )
    for fault in error.faults:
        err.print(plain(f"  {fault.pointer or '/'}: {fault.detail} [{fault.code}]"), soft_wrap=True)
    if error.cure:
        err.print(plain(f"  {error.cure}", "cyan"), soft_wrap=True)


def problem(error: EngramError) -> dict[str, Any]:
    """Return an error as the problem document (RFC 9457) that the HTTP API would send."""
    document: dict[str, Any] = {
        "type": f"urn:engram:error:{error.code}",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "cure": error.cure,
        "exit_code": error.exit_code,
        "errors": [
            {"pointer": fault.pointer, "code": fault.code, "detail": fault.detail}
            for fault in error.faults
        ],
    }
    if error.retry_after_s is not None:
        document["retry_after_s"] = error.retry_after_s
    return document


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _stdout_is_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
