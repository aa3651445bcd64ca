"""docs/errors.md lists every error code under its class, and every code of a single fault."""

import ast
import functools
import re
from collections import defaultdict

import pytest

from engram import errors
from engram.errors import EngramError
from engram_ingest import bodies
from tests.meta.checkout import ROOT, code, rows, text

CLASSES = {
    name: kind
    for module in (errors, bodies)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, EngramError)
}
# Written into problem documents directly, for what the framework itself refuses.
OF_ROUTING = {"no_such_route", "wrong_method", "http_error", "internal"}
FAULTS = {"Fault": 1, "_fault": 1, "FieldError": 0, "ItemError": 0}
SECTIONS = re.split(r"^## ", text("docs/errors.md"), flags=re.MULTILINE)[1:]


@functools.cache
def calls():
    """Return the name and the call of every call in the code."""
    return [
        (getattr(node.func, "id", getattr(node.func, "attr", "")), node)
        for folder in ("shared", "services")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]


def literals(node):
    """Return the texts an argument may be; none when it is computed."""
    if isinstance(node, ast.IfExp):
        return literals(node.body) | literals(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) else set()


def raised():
    found = defaultdict(set)
    for name, call in calls():
        if name in CLASSES and call.args:
            found[name] |= literals(call.args[0])
    found["EngramError"] |= OF_ROUTING
    return found


def faults():
    found = set()
    for name, call in calls():
        if name in FAULTS and len(call.args) > FAULTS[name]:
            found |= literals(call.args[FAULTS[name]])
    return found


def documented():
    """Return the codes of each class's section, with the section's HTTP status and exit code."""
    found = {}
    for section in SECTIONS:
        heading = re.match(r"(\w+): HTTP (\d+), exit code (\d+)", section)
        if heading:
            codes = {code(row[0]) for row in rows(section)}
            found[heading[1]] = (int(heading[2]), int(heading[3]), codes)
    return found


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_each_class_has_its_section_with_exactly_its_codes(name):
    kind = CLASSES[name]
    assert documented()[name] == (kind.status, kind.exit_code, raised()[name])


def test_every_section_is_of_a_class_that_exists():
    assert set(documented()) == set(CLASSES)


def test_codes_are_literals_so_that_they_can_be_listed():
    computed = [
        ast.unparse(call)[:80]
        for name, call in calls()
        if name in CLASSES and call.args and not literals(call.args[0])
    ]
    # The clients rebuild the error they were answered with.
    assert all("problem" in call or "_text" in call for call in computed), computed


def test_fault_codes_are_listed_and_no_others():
    section = next(part for part in SECTIONS if part.startswith("Codes of single faults"))
    assert {code(row[0]) for row in rows(section)} == faults()


def test_every_documented_error_names_its_cure():
    uncured = [
        row[0]
        for part in SECTIONS
        if not part.startswith("Codes")
        for row in rows(part)
        if len(row[2]) < 5
    ]
    assert uncured == []
