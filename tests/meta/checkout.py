"""What the meta tests look at: the files of this checkout, and the tables in its pages."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FOLDERS = ("shared", "services", "tests", "docs", "examples", "deploy", "requirements", ".ci")
_BINARY = {".gz", ".png", ".safetensors", ".pyc"}


def files(*suffixes: str) -> Iterator[Path]:
    """Yield the project's own text files, all of them or those with these suffixes."""
    found = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in _FOLDERS:
        found += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in sorted(found):
        wanted = path.suffix in suffixes if suffixes else path.suffix not in _BINARY
        if wanted and "__pycache__" not in path.parts:
            yield path


def text(name: str) -> str:
    """Return a file of the checkout as text."""
    return (ROOT / name).read_text(encoding="utf-8")


def rows(page: str) -> list[list[str]]:
    """Return the cells of every table row of a page that starts with a code span.

    Bars inside code spans are not used in our tables, so a bar always parts two cells.
    """
    lines = re.findall(r"^\| (`.*) \|$", page, flags=re.MULTILINE)
    return [[cell.strip() for cell in re.split(r" \|(?: |(?=\|))", line)] for line in lines]


def code(cell: str) -> str:
    """Return what stands in a cell's first code span, or nothing."""
    found = re.match(r"`([^`]*)`", cell)
    return found[1] if found else ""
