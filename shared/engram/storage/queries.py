"""Reads the named statements of sql/*.sql."""

from functools import cache
from importlib.resources import files

_MARK = "-- name: "


@cache
def statements(file: str) -> dict[str, str]:
    """Return the statements of ``sql/<file>.sql`` by name.

    A statement starts at a line ``-- name: its_name`` and runs to the next one. Comments stay in:
    they cost nothing and show up in ``pg_stat_statements``.
    """
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in files("engram.storage").joinpath(f"sql/{file}.sql").read_text().splitlines():
        if line.startswith(_MARK):
            lines = found.setdefault(line.removeprefix(_MARK).strip(), [])
        else:
            lines.append(line)
    return {name: "\n".join(body).strip() for name, body in found.items()}


def statement(file: str, name: str) -> str:
    """Return one statement of ``sql/<file>.sql``."""
    return statements(file)[name]


def over_vectors(file: str, name: str, space: int) -> str:
    """Return a statement with ``{vectors}`` replaced by the table of a space.

    The name is built from an integer, never from input.
    """
    return statement(file, name).replace("{vectors}", vector_table(space))


def vector_table(space: int) -> str:
    """Return the qualified table that holds a space's vectors."""
    return f"engram_vec.space_{int(space)}"
