"""The command ``engram``: assembles the commands and turns every ending into an exit code."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import Final

import typer
from typer.exceptions import TyperException

from engram.errors import EngramError, UsageError
from engram_cli import output

# One line adds a command: a module with `register(app)`.
COMMAND_MODULES: Final = (
    "engram_cli.commands.servers",
    "engram_cli.commands.memories",
    "engram_cli.commands.importing",
    "engram_cli.commands.import_jobs",
    "engram_cli.commands.export",
    "engram_cli.commands.compare",
    "engram_cli.commands.backup",
    "engram_cli.commands.audit",
    "engram_cli.commands.status",
    "engram_cli.commands.doctor",
    "engram_cli.commands.configuration",
    "engram_cli.commands.keys",
    "engram_cli.commands.dead_letters",
    "engram_cli.commands.dedup",
    "engram_cli.commands.merges",
    "engram_cli.commands.decay",
    "engram_cli.commands.schedule",
    "engram_cli.commands.migrate",
    "engram_cli.commands.spaces",
    "engram_cli.commands.demo",
    "engram_cli.commands.bench",
)
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130


def build_app() -> typer.Typer:
    """Return the assembled application; nothing but typer itself is imported for it."""
    app = typer.Typer(
        name="engram",
        help="Memories of AI agents: embedded, searchable, free of duplicates and movable.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in COMMAND_MODULES:
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name).register(app)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors are printed, never raised."""
    as_json = "--json" in arguments
    try:
        code = build_app()(args=list(arguments), prog_name="engram", standalone_mode=False)
    except EngramError as error:
        output.print_error(error, as_json=as_json)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except TyperException as error:
        if error.format_message():  # without arguments the help is shown, and is the message
            output.print_error(_wrong_usage(error), as_json=as_json)
        return EXIT_USAGE
    return code if isinstance(code, int) else 0


def main() -> None:
    """Entry point of the script ``engram``."""
    sys.exit(run(sys.argv[1:]))


def _wrong_usage(error: TyperException) -> UsageError:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "engram"
    return UsageError("usage", error.format_message(), cure=f"See `{command} --help`.")
