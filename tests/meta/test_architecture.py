"""The dependency rule of ARCHITECTURE.md holds."""

import ast
import sys

import pytest
from importlinter.cli import lint_imports

from tests.meta.checkout import ROOT, files

PURE = {"numpy", "engram"}
OWN = ("engram.domain", "engram.errors")


def imports(path):
    """Yield the full name of everything a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_the_import_contracts_hold(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", is_debug_mode=False) == 0


def test_the_domain_is_the_standard_library_and_numpy():
    for path in (ROOT / "shared/engram/domain").glob("*.py"):
        for name in imports(path):
            root = name.partition(".")[0]
            assert root in sys.stdlib_module_names | PURE, f"{path.name} imports {name}"
            assert root != "engram" or name.startswith(OWN), f"{path.name} imports {name}"


@pytest.mark.parametrize("call", ["now", "time", "monotonic", "random", "uuid4", "urandom"])
def test_the_domain_is_given_the_clock_and_chance(call):
    for path in (ROOT / "shared/engram/domain").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            assert not (called and node.func.attr == call), f"{path.name}:{node.lineno}"


def test_files_stay_readable_at_a_sitting():
    long = {}
    for path in files(".py"):
        lines = path.read_text(encoding="utf-8").count("\n")
        if "tests" not in path.parts and lines > 350:
            long[path.relative_to(ROOT).as_posix()] = lines
    assert long == {}


def test_every_module_says_what_it_owns():
    for path in files(".py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree) or not tree.body, path.relative_to(ROOT)
