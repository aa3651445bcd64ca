"""``engram backup`` and ``engram restore``: the whole store, every workspace and vector of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from engram.errors import UsageError
from engram_cli import output
from engram_cli.options import AsJson

Data = Annotated[
    Path | None,
    typer.Option(help="Data directory; default: ENGRAM_DATABASE_URL, else ENGRAM_DATA_DIR."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(backup)
    app.command()(restore)


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Write the whole store as it is at one moment, running or not, to one verified file."""
    if file.is_dir():
        raise UsageError(
            "usage", f"{file} is a folder.", cure="Name a file, such as engram.backup."
        )
    manifest = asyncio.run(_back_up(file, data))
    _tell(file, manifest, "written", as_json=as_json)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `engram backup` wrote.")],
    data: Data = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only see that the file is whole and can be read here.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into a data directory or database without a store, and verify it."""
    manifest = asyncio.run(_restore(file, data, check=check))
    _tell(file, manifest, "whole" if check else "restored", as_json=as_json)


async def _back_up(file: Path, data: Path | None) -> dict[str, Any]:
    from engram_cli.backup_file import BackupWriter, open_backup, verify
    from engram_cli.backup_place import source
    from engram_cli.backup_run import back_up
    from engram_cli.whole_file import written_whole

    async with source(data) as place:
        output.note(f"Backing up {place.name} …")
        with written_whole(file) as stream:
            writer = BackupWriter(stream)
            try:
                manifest = await back_up(place, writer)
            except BaseException:
                writer.abandon()
                raise
    # Read back from the disk: a backup that cannot be read is none.
    with open_backup(file) as (found, packed):
        verify(found, packed)
    return manifest


async def _restore(file: Path, data: Path | None, *, check: bool) -> dict[str, Any]:
    from engram_cli.backup_file import open_backup, verify
    from engram_cli.backup_place import target
    from engram_cli.backup_run import refuse_newer
    from engram_cli.backup_run import restore as restore_into

    with open_backup(file) as (manifest, packed):
        refuse_newer(manifest)
        verify(manifest, packed)
        if not check:
            async with target(data) as place:
                output.note(f"Restoring into {place.name} …")
                await restore_into(place, manifest, packed)
    return manifest


def _tell(file: Path, manifest: dict[str, Any], done: str, *, as_json: bool) -> None:
    rows = {name: table["rows"] for name, table in manifest["tables"].items()}
    report = {
        "file": str(file),
        "state": done,
        "bytes": file.stat().st_size,
        "created_at": manifest["created_at"],
        "engram": manifest["engram"],
        "schema_version": manifest["schema_version"],
        "memories": rows["engram.memory"],
        "rows": rows,
    }
    words = (
        f"{file}: {done}; {report['memories']:,} memories, {sum(rows.values()):,} rows in "
        f"{len(rows)} tables, {report['bytes']:,} bytes, taken {manifest['created_at']}"
    )
    output.show(report, as_json=as_json, people=lambda: output.line(words))
