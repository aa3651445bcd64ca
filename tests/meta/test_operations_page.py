"""docs/operations.md tells of every check of readiness, with the severity it has in the code."""

import re

from engram import tracing
from engram.settings import variable_names
from tests.meta.checkout import ROOT, code, rows, text

PAGE = text("docs/operations.md")
SOURCES = ("shared/engram/serving/checks.py", "shared/engram/serving/watchdog.py")


def found_in_code():
    """Return the name and severity of every finding that is made by name."""
    source = "".join(text(name) for name in SOURCES)
    made = re.findall(r'Finding\(\s*"(\w+)",(?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)', source)
    blocks = re.finditer(r'Finding\(\s*"(\w+)"((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)', source)
    pairs = {(match[1], "warning" if '"warning"' in match[2] else "failure") for match in blocks}
    assert {name for name, _ in pairs} == set(made)
    return pairs


def test_every_finding_of_readiness_is_in_the_page_and_no_other():
    section = PAGE.split("## Readiness")[1].split("\n## ")[0]
    assert {(code(row[0]), row[1]) for row in rows(section)} == found_in_code()


def test_every_span_is_in_the_page_and_no_other():
    section = PAGE.split("## Traces")[1].split("\n## ")[0]
    told = {name for row in rows(section) for name in re.findall(r"`([a-z ]+)`", row[0])}
    made = set()
    for folder in ("shared", "services"):
        for path in (ROOT / folder).rglob("*.py"):
            source = path.read_text(encoding="utf-8")
            made |= set(re.findall(r'tracing\.span\(\s*"([a-z ]+)"', source))
    assert told == made


def test_settings_and_the_header_it_names_exist():
    named = set(re.findall(r"`(ENGRAM_[A-Z_]+)", PAGE))
    assert named <= set(variable_names().values())
    assert f"`{tracing.HEADER}`" in PAGE
