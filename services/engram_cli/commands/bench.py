"""``engram bench``: hands over to a benchmark of ``engram_cli.bench``."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from typing import Annotated, Final

import typer

from engram.errors import UsageError
from engram_cli.options import AsJson

# Name -> "module:function"; the function takes the remaining arguments and whether to write JSON,
# and returns the exit code. This is the registration point of benchmarks.
BENCHES: Final[Mapping[str, str]] = {
    "dedup": "engram_cli.bench.dedup:run",
    "e2e": "engram_cli.bench.e2e:run",
    "freshness": "engram_cli.bench.freshness:run",
    "lanes": "engram_cli.bench.lanes:run",
    "migrate": "engram_cli.bench.migrate:run",
    "provider": "engram_cli.bench.provider:run",
    "search": "engram_cli.bench.search:run",
    "rss": "engram_cli.bench.rss:run",
    "import": "engram_cli.bench.imports:run",
    "soak": "engram_cli.bench.soak:run",
    "capacity": "engram_cli.bench.capacity:run",
}

Bench = Callable[[list[str], bool], int]


def register(app: typer.Typer) -> None:
    """Add the command; what follows the name goes to the benchmark."""
    passing = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command("bench", context_settings=passing)(bench)


def bench(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Which one: capacity, dedup, e2e, freshness, import, lanes, migrate, provider, "
            "rss, search or soak.",
        ),
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="The bounded form: less of it, under a minute.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure engram on this machine, on servers of its own; ends with 1 if stored data is wrong.

    Further options are the benchmark's own.
    """
    arguments = [*context.args, *(["--quick"] if quick else [])]
    raise typer.Exit(load_bench(name)(arguments, as_json))


def load_bench(name: str) -> Bench:
    """Return a benchmark; its module is imported only now.

    Raises:
        UsageError: there is no such benchmark.
    """
    if name not in BENCHES:
        close = difflib.get_close_matches(name, BENCHES, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Benchmarks: {', '.join(BENCHES)}."
        raise UsageError("unknown_bench", f"There is no benchmark {name!r}.", cure=hint)
    module, _, function = BENCHES[name].partition(":")
    run: Bench = getattr(importlib.import_module(module), function)
    return run
