"""The image is clean by hadolint, runs as nobody, and installs locked packages only."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from engram.serving.operations import PATHS
from tests.meta.checkout import ROOT, text
from tests.meta.deployed import DEFAULTS, check_settings, load, run_tool
from tests.meta.test_locks import locked

DOCKERFILE = text("deploy/docker/Dockerfile")
LINES = re.sub(r"\\\n", " ", DOCKERFILE).splitlines()
FINAL = LINES[max(n for n, line in enumerate(LINES) if line.startswith("FROM ")) :]
PROJECT = tomllib.loads(text("pyproject.toml"))
EXTRAS = PROJECT["project"]["optional-dependencies"]


def words(instruction, lines=LINES):
    return [line.split(maxsplit=1)[1] for line in lines if line.startswith(f"{instruction} ")]


def test_hadolint_finds_nothing():
    assert run_tool("hadolint", ROOT / "deploy/docker/Dockerfile") == ""


def test_it_runs_as_a_user_without_a_name_or_rights():
    assert words("USER", FINAL) == ["10001:10001"]


def test_commands_are_in_exec_form_so_that_sigterm_reaches_the_service():
    assert words("ENTRYPOINT") == ['["engram"]']
    assert words("CMD") == ['["--help"]']
    assert words("STOPSIGNAL") == ["SIGTERM"]


def test_it_asks_the_operations_port_and_opens_the_ports_of_the_settings():
    health = words("HEALTHCHECK")[0]
    asked = re.search(r'CMD \["python", "/opt/engram/healthcheck.py", "(.*)"\]', health)
    assert asked[1] in PATHS
    ports = {str(DEFAULTS["ENGRAM_PORT"]), str(DEFAULTS["ENGRAM_OPS_PORT"])}
    assert set(words("EXPOSE")[0].split()) == ports


def test_its_variables_are_settings():
    check_settings(re.findall(r"\b(ENGRAM_\w+)=", "\n".join(words("ENV"))))


def test_what_it_copies_is_there_and_reaches_the_builder():
    allowed = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}
    copied = set()
    for line in words("COPY"):
        if not line.startswith("--from"):
            copied |= {source.rstrip("/") for source in line.split()[:-1]}
    assert copied == allowed
    assert all((ROOT / path).exists() for path in copied)


def test_the_python_is_the_one_the_locks_are_made_for():
    version = re.search(r"ARG PYTHON_VERSION=(\S+)", DOCKERFILE)[1]
    assert f"with Python {version}" in text("requirements/worker.txt")


def test_every_extra_it_may_install_is_locked():
    chosen = re.search(r'ARG EXTRAS="(.*)"', DOCKERFILE)[1].split()
    assert set(chosen) <= {*EXTRAS, "model"}
    composed = load("docker-compose.yml")["services"]["ingest"]["build"]["args"]["EXTRAS"].split()
    for extra in {*chosen, *composed}:
        assert locked(f"requirements/{extra}.txt")


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("worker", [*PROJECT["project"]["dependencies"], *EXTRAS["worker"]]),
        ("voyage", EXTRAS["voyage"]),
        ("build", PROJECT["build-system"]["requires"]),
    ],
)
def test_locks_of_the_image_hold_what_is_asked_for_at_the_version_that_is_tested(lock, wanted):
    versions, tested = locked(f"requirements/{lock}.txt"), locked("requirements/dev.txt")
    assert {canonicalize_name(Requirement(line).name) for line in wanted} <= set(versions)
    assert versions == {name: tested[name] for name in versions}
    assert all(hashes for _, hashes in versions.values())
