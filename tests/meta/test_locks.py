"""The locked requirements cover pyproject.toml, by hash, and name no place to fetch from."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.meta.checkout import text

PROJECT = tomllib.loads(text("pyproject.toml"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
ALL = [line for extra in EXTRAS.values() for line in extra]
BASE = PROJECT["project"]["dependencies"]
LOCKS = ("requirements/dev.txt", "requirements/runtime.txt", "requirements/model.txt")


def locked(name):
    """Return each package's version and number of hashes."""
    found = {}
    for block in re.split(r"^(?=[a-z])", text(name), flags=re.MULTILINE):
        pin = re.match(r"([a-z0-9._-]+)==(\S+)", block)
        if pin:
            found[canonicalize_name(pin[1])] = (pin[2], block.count("--hash=sha256:"))
    return found


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        (LOCKS[0], [*BASE, *PROJECT["build-system"]["requires"], *ALL]),
        (LOCKS[1], [*BASE, *EXTRAS["worker"], *EXTRAS["embedded"]]),
    ],
)
def test_every_dependency_is_locked_at_a_version_it_allows(lock, wanted):
    versions = locked(lock)
    for line in wanted:
        asked = Requirement(line)
        version, _ = versions[canonicalize_name(asked.name)]
        assert asked.specifier.contains(version), f"{line}: {lock} has {version}; run `make lock`"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_hash(lock):
    assert locked(lock)
    assert [name for name, (_, hashes) in locked(lock).items() if hashes == 0] == []


def test_what_is_tested_is_what_runs():
    tested, runs = locked(LOCKS[0]), locked(LOCKS[1])
    assert runs == {name: tested[name] for name in runs}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_packages_and_hashes_only(lock):
    options = [line for line in text(lock).splitlines() if re.match(r"-|.*(?:://|file:/)", line)]
    assert options == []
