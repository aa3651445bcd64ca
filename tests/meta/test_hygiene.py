"""Nothing in the checkout depends on one machine, and no rule is silenced without a reason."""

import re

import pytest

from tests.meta.checkout import ROOT, files

# Each in a form that does not find itself.
FOREIGN = {
    "a home directory": r"/(?:[r]oot|[h]ome/\w+|[U]sers/\w+)/",
    "a workplace": r"/[w]ork/(?:main|shared)|/[o]pt/(?:wheels|pypi)",
    "a package registry": r"[p]ypi\.org|[p]ythonhosted|[d]evpi|[a]rtifactory",
    "an index of packages": r"--(?:extra-)?[i]ndex-url|--[f]ind-links|--[t]rusted-host",
}


def lines(*suffixes):
    for path in files(*suffixes):
        name = path.relative_to(ROOT).as_posix()
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            yield f"{name}:{number}", line


@pytest.mark.parametrize("what", FOREIGN)
def test_no_file_names(what):
    assert [where for where, line in lines() if re.search(FOREIGN[what], line)] == []


def test_every_silenced_rule_is_named_and_has_a_reason():
    bare = [
        where
        for where, line in lines(".py")
        if re.search(r"#\s*[n]oqa", line)
        and not re.search(r"# [n]oqa: [A-Z]+\d+(, [A-Z]+\d+)* - \w.{3,}", line)
    ]
    assert bare == []


def test_every_silenced_type_error_is_named_and_has_a_reason():
    bare = [
        where
        for where, line in lines(".py")
        if re.search(r"#\s*[t]ype: ignore", line)
        and not re.search(r"# [t]ype: ignore\[[a-z-]+\]\s+# \w.{3,}", line)
    ]
    assert bare == []


def test_nothing_is_left_to_be_done_in_comments():
    marks = r"\b(?:[T]ODO|[F]IXME|[X]XX)\b"
    assert [where for where, line in lines(".py", ".sql", ".md") if re.search(marks, line)] == []


def test_no_test_is_skipped():
    marks = r"pytest\.(?:mark\.)?(?:[s]kip|[x]fail|[i]mportorskip)"
    assert [where for where, line in lines(".py") if re.search(marks, line)] == []
