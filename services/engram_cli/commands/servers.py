"""``engram up``, ``run`` and ``bootstrap``: start everything, one service, or prepare a cluster."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engram_cli import output
from engram_cli.options import AsJson

if TYPE_CHECKING:
    from engram.settings import Settings
    from engram_cli.runtime.up import BootstrapResult, Ready

Port = Annotated[int, typer.Option(min=0, max=65535, help="Port of the HTTP API; 0: a free one.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command("run")(run_service)
    app.command()(bootstrap)


def up(
    data: Annotated[
        Path | None, typer.Option(help="Data directory; default: ENGRAM_DATA_DIR.")
    ] = None,
    port: Port = 8080,
    ops_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of health and metrics; 0: a free one.")
    ] = 8081,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="Keep nothing: a temporary data directory.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run everything here: PostgreSQL, NATS and every service, until interrupted."""
    from engram import logs
    from engram.settings import load
    from engram_cli.runtime.up import UpOptions, run_up
    from engram_cli.services import child_specs

    settings = load()  # a mistyped setting is told here and now, not by a child's log
    logs.configure("up", settings.log_level, settings.log_format)
    options = UpOptions(
        services=child_specs,
        data_dir=data,
        ephemeral=ephemeral,
        http_port=port,
        ops_port=ops_port,
        forks=True,
    )

    def announce(ready: Ready) -> None:
        _announce(ready, as_json=as_json)

    async def make(database_url: str, nats_url: str, needs_key: bool) -> BootstrapResult:
        # Imported while the services are, not before they begin to be.
        from engram_cli.bootstrap import bootstrap

        return await bootstrap(database_url, nats_url, needs_key)

    received = asyncio.run(run_up(options, make, announce, output.note))
    # SIGTERM is how a system stops a service in good order; Ctrl-C is a person's interruption.
    raise typer.Exit(130 if received is signal.SIGINT else 0)


def run_service(
    service: Annotated[str, typer.Argument(help="ingest, embedder, curator or migrator.")],
    as_json: AsJson = False,
) -> None:
    """Run one service against ENGRAM_DATABASE_URL and ENGRAM_NATS_URL."""
    import uvloop

    from engram.settings import load
    from engram_cli.services import load_service

    _ = as_json  # errors are written as JSON; a service writes nothing else to standard output
    main, settings = load_service(service), load()

    async def serve() -> None:
        await main(settings)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


def bootstrap(
    wait_for: Annotated[
        str, typer.Option(help="Make nothing: wait for another's, before this service starts.")
    ] = "",
    wait_s: Annotated[float, typer.Option(min=0, help="Longest such wait, in seconds.")] = 300,
    as_json: AsJson = False,
) -> None:
    """Make schema, roles, streams and a first key; safe to repeat, as after an upgrade."""
    from engram.settings import load

    settings = load()
    if wait_for:
        _wait(settings, wait_for, wait_s, as_json=as_json)
    else:
        _make(settings, as_json=as_json)


def _wait(settings: Settings, service: str, wait_s: float, *, as_json: bool) -> None:
    from engram_cli.bootstrap_wait import wait_until_bootstrapped
    from engram_cli.services import load_service

    load_service(service)
    urls = settings.require_database(), settings.require_nats()
    asyncio.run(wait_until_bootstrapped(*urls, service, wait_s))

    def people() -> None:
        output.line("Schema and streams are there.")

    output.show({"bootstrapped": True}, as_json=as_json, people=people)


def _make(settings: Settings, *, as_json: bool) -> None:
    from engram_cli.bootstrap import bootstrap as make

    made = asyncio.run(make(settings.require_database(), settings.require_nats()))

    def people() -> None:
        output.line("Schema, roles and streams are up to date.")
        if made.api_key:
            output.line(f"First API key, not shown again: {made.api_key}", "bold")

    output.show({"api_key": made.api_key}, as_json=as_json, people=people)


def _announce(ready: Ready, *, as_json: bool) -> None:
    where = ready.credentials
    if as_json:
        output.print_json(
            {
                "url": where.url,
                "api_key": where.api_key,
                "nats_url": where.nats_url,
                "database_url": where.database_url,
                "data_dir": where.data_dir,
                "ops_url": where.ops_url,
            }
        )
        return
    kept = "nothing is kept" if ready.ephemeral else f"data in {where.data_dir}"
    output.line(f"engram is ready at {where.url} ({kept}); Ctrl-C stops it.", "green")
