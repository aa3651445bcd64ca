"""docs/cli.md names every command and every option of the command line, and no others."""

import re
from pathlib import Path

import typer.main

from engram_cli.main import build_app

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def commands(command, path):
    """Yield the path and the options of every command that can be run."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, {o for p in command.params for o in p.opts if o.startswith("--")} - {"--help"}
        return
    for name, sub in inner.items():
        yield from commands(sub, f"{path} {name}")


def documented():
    """Return each section's heading command with the options in its text."""
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found = {}
    for section in sections:
        heading, _, body = section.partition("\n")
        if name := re.match(r"`(engram(?: [a-z-]+)+)", heading):
            found[name[1]] = set(re.findall(r"`(--[a-z-]+)", body))
    return found


def existing():
    return dict(commands(typer.main.get_command(build_app()), "engram"))


def test_every_command_has_its_section_and_every_section_its_command():
    assert sorted(documented()) == sorted(existing())


def test_every_option_is_documented_where_its_command_is():
    page = documented()
    missing = {name: options - page.get(name, set()) for name, options in existing().items()}
    assert {name: options for name, options in missing.items() if options} == {}


def test_no_documented_option_is_invented():
    real = existing()
    invented = {name: options - real.get(name, set()) for name, options in documented().items()}
    assert {name: options for name, options in invented.items() if options} == {}
