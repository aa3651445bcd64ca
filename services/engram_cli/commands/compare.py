"""``engram compare``: is everything of a file in the store, and the same?"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram.errors import InvalidError, UsageError
from engram_cli import output
from engram_cli.input_files import open_input
from engram_cli.options import AsJson

if TYPE_CHECKING:
    from engram.client.types import ImportOptions
    from engram.domain.memory import NewMemory
    from engram.importers.reading import Import
    from engram_cli.comparison import Comparison

_EXIT_DIFFERENCES = 1
_SHOWN = 20
_SAY_EVERY = 1_000
# Left out on purpose by every import, too.
_LEFT_OUT = frozenset({"deleted", "kind_not_imported"})
_KINDS = ("missing", "extra", "different", "missing_vectors")
Show = Callable[[str], None]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(compare)


def compare(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Any file or folder that can be imported.")
    ],
    format_: Annotated[
        str | None, typer.Option("--format", help="Its format; default: detected.")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(help="Where the import put everything, whatever the file says.")
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Import what is missing, change what is different."),
    ] = False,
    delete_extra: Annotated[
        bool,
        typer.Option("--delete-extra", help="With --repair: delete what the file does not have."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Hold a file against the store; ends with 1 when anything differed."""
    from engram_cli.comparison import open_comparison

    if delete_extra and not repair:
        raise UsageError(
            "usage", "--delete-extra deletes nothing without --repair.", cure="Add --repair."
        )

    with output.progress(quiet=as_json) as bar, open_comparison() as comparison:
        faults, kind = _read_file(file, format_, namespace, comparison, lambda t: bar(t, 0, 0))
        _read_store(comparison, namespace, kind == "native", lambda t: bar(t, 0, 0))
        comparison.finish()
        report = _report(file, kind, comparison, faults)
        if repair:
            how = {"namespace": namespace, "format": format_, "delete_extra": delete_extra}
            report["repaired"] = _repair(file, comparison, how, lambda t: bar(t, 0, 0))
    output.show(report, as_json=as_json, people=lambda: _show(report))
    if report["unreadable"] or any(report[name] for name in _KINDS):
        raise typer.Exit(_EXIT_DIFFERENCES)


def _read_file(
    file: Path, format_: str | None, namespace: str | None, comparison: Comparison, show: Show
) -> tuple[Counter[str], str]:
    from engram.importers.reading import read

    faults: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        stream = open_input(file, stack)
        reading = read(stream, format=format_, filename=file.name)
        memories = _memories(reading, namespace, faults)
        comparison.add_file(_told(memories, "file", show))
    return faults, reading.format


def _memories(reading: Import, namespace: str | None, faults: Counter[str]) -> Iterator[NewMemory]:
    from engram.domain.memory import decode_item

    for found in reading:
        if found.item is None:
            code = found.fault.code if found.fault else "unreadable"
            faults["left_out" if code in _LEFT_OUT else "unreadable"] += 1
            continue
        item = found.item if namespace is None else {**found.item, "namespace": namespace}
        try:
            yield decode_item(item, imported=True)
        except InvalidError:
            faults["unreadable"] += 1


def _read_store(
    comparison: Comparison, namespace: str | None, every_source: bool, show: Show
) -> None:
    from engram_cli.credentials import resolve_target
    from engram_cli.export_stream import open_export

    query = {"embedded": "true", **({"namespace": namespace} if namespace is not None else {})}
    with open_export(resolve_target(), query) as chunks:
        records = _told(_records(chunks), "store", show)
        comparison.add_store(records, every_source=every_source, now=datetime.now(UTC))


def _records(chunks: Iterator[bytes]) -> Iterator[tuple[NewMemory, bool]]:
    import orjson

    from engram.domain.memory import decode_item

    for line in _lines(chunks):
        record = orjson.loads(line)
        yield decode_item(record, imported=True), record["embedded"]


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest


def _told(items: Iterator[Any], what: str, show: Show) -> Iterator[Any]:
    for count, item in enumerate(items, 1):
        if count % _SAY_EVERY == 0:
            show(f"{what}: {count:,}")
        yield item


def _report(file: Path, kind: str, comparison: Comparison, faults: Counter[str]) -> dict[str, Any]:
    return {
        "file": str(file),
        "format": kind,
        "in_file": comparison.in_file,
        "in_store": comparison.in_store,
        "equal": comparison.equal,
        **comparison.counts(),
        "repeated": comparison.repeated,
        "left_out": faults["left_out"],
        "unreadable": faults["unreadable"],
        "by_namespace": comparison.by_namespace(),
        "listed": comparison.listed(),
    }


def _repair(file: Path, comparison: Comparison, how: dict[str, Any], show: Show) -> dict[str, int]:
    import asyncio

    from engram_cli.repairing import repair

    show("repair")
    options: ImportOptions = {"strategy": "merge"}
    if how["namespace"] is not None:
        options["namespace"] = how["namespace"]
    return asyncio.run(
        repair(comparison, file, options, how["format"], delete_extra=how["delete_extra"])
    )


def _show(report: dict[str, Any]) -> None:
    names = ("in_file", "in_store", "equal", *_KINDS, "repeated", "left_out", "unreadable")
    told = ", ".join(f"{report[name]:,} {name.replace('_', ' ')}" for name in names)
    output.line(f"{report['format']}: {told}")
    if "repaired" in report:
        done = ", ".join(f"{number:,} {what}" for what, number in report["repaired"].items())
        output.line(f"repaired: {done}")
    rows = [[name, *(counts[kind] for kind in _KINDS)] for name, counts in _worst(report)]
    if rows:
        output.table(("namespace", *_KINDS), rows, empty="")
    for kind in _KINDS:
        for line in report["listed"][kind][:_SHOWN]:
            fields = f" ({', '.join(line['fields'])})" if "fields" in line else ""
            name = line["external_id"] or line["id"]
            output.line(f"{kind}: {line['source']} {name}{fields}", "red")


def _worst(report: dict[str, Any]) -> list[tuple[str, dict[str, int]]]:
    ranked = sorted(report["by_namespace"].items(), key=lambda entry: -sum(entry[1].values()))
    return ranked[:_SHOWN]
