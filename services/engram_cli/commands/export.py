"""``engram export``: everything the workspace holds, into a file or a pipe."""

from __future__ import annotations

import contextlib
import gzip
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, cast

import typer

from engram.errors import UsageError
from engram_cli import output
from engram_cli.options import AsJson, Namespace

if TYPE_CHECKING:
    from engram_cli.credentials import Target

Shape = Literal["native", "mem0", "agentmemory"]
_STDOUT = Path("-")
_LEVEL = 6


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)


def export(
    file: Annotated[
        Path, typer.Argument(metavar="[FILE]", help="Where to; default: standard output.")
    ] = _STDOUT,
    format_: Annotated[
        Shape, typer.Option("--format", help="native keeps everything; the others are for moving.")
    ] = "native",
    namespace: Namespace = None,
    zipped: Annotated[
        bool, typer.Option("--gzip", help="Compress; without it when FILE ends in .gz.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write every memory that is not deleted to a file that is there in full or not at all."""
    from engram_cli.credentials import resolve_target

    if as_json and file == _STDOUT:
        raise UsageError(
            "usage",
            "With --json the report goes to standard output.",
            cure="Name a file for the export.",
        )
    query = {"format": format_, **({"namespace": namespace} if namespace is not None else {})}
    target = resolve_target()
    total = _expected(target) if namespace is None else 0
    with (
        output.progress(quiet=as_json) as show,
        _opened(file, zipped=zipped or file.suffix == ".gz") as sink,
    ):
        written = _copy(target, query, sink, lambda count: show(f"{count:,} lines", count, total))
    report = {"file": str(file), "format": format_, **written}
    if file != _STDOUT:
        _tell(report, as_json=as_json)


def _tell(report: dict[str, Any], *, as_json: bool) -> None:
    def people() -> None:
        count = "" if report["memories"] is None else f"{report['memories']:,} memories, "
        output.line(f"{report['file']}: {count}{report['bytes']:,} bytes, {report['format']}")

    output.show(report, as_json=as_json, people=people)


def _copy(
    target: Target, query: dict[str, str], sink: BinaryIO, show: Callable[[int], None]
) -> dict[str, int | None]:
    from engram_cli.export_stream import open_export

    lines = size = 0
    with open_export(target, query) as chunks:
        for chunk in chunks:
            sink.write(chunk)
            size += len(chunk)
            lines += chunk.count(b"\n")
            show(lines)
    # One memory a line is what native promises; other shapes have other lists too.
    return {"memories": lines if query["format"] == "native" else None, "bytes": size}


@contextlib.contextmanager
def _opened(file: Path, *, zipped: bool) -> Iterator[BinaryIO]:
    from engram_cli.whole_file import written_whole

    with contextlib.ExitStack() as stack:
        if file == _STDOUT:
            sink: BinaryIO = sys.stdout.buffer
        else:
            sink = stack.enter_context(written_whole(file))
        if zipped:
            # Without a time of its own: the same memories give the same file.
            packed = gzip.GzipFile(
                filename="", fileobj=sink, mode="wb", compresslevel=_LEVEL, mtime=0
            )
            sink = cast("BinaryIO", stack.enter_context(packed))
        yield sink
        sink.flush()


def _expected(target: Target) -> int:
    """Return about how many memories will come, for the bar."""
    from engram.client import Client

    with Client(target.url, target.api_key) as client:
        by_state = client.workspace()["by_state"]
    return sum(count for state, count in by_state.items() if state not in ("deleted", "staged"))
