"""The publisher SDK loads the standard library, nats-py and httpx, and nothing else."""

import json
import subprocess
import sys

import pytest

# nats-py and httpx, and what they themselves need.
ALLOWED = {"engram", "nats", "httpx", "httpcore", "h11", "certifi", "idna", "anyio"}
# The SDK's own modules: none of the services' halves.
OWN = {
    "engram",
    "engram.backoff",
    "engram.client",
    "engram.client.answers",
    "engram.client.asynchronous",
    "engram.client.calls",
    "engram.client.exchange",
    "engram.client.imports",
    "engram.client.synchronous",
    "engram.client.types",
    "engram.command_batches",
    "engram.errors",
    "engram.events",
    "engram.publisher",
    "engram.tracing",
}
# nats-py and httpx use more where it happens to be installed (aiohttp, click, zstandard), as it is
# here. Refusing every other import shows what a bare `pip install engram` would do.
REPORT = """
import importlib, json, sys

class Bare:
    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root not in sys.stdlib_module_names and root not in allowed:
            raise ModuleNotFoundError(name, name=root)

allowed = set(json.loads(sys.argv[1]))
before = set(sys.modules)
sys.meta_path.insert(0, Bare())
for name in sys.argv[2:]:
    importlib.import_module(name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def loaded_by(*modules, allowed=ALLOWED):
    done = subprocess.run(
        [sys.executable, "-c", REPORT, json.dumps(sorted(allowed)), *modules],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", ["engram.publisher", "engram.client", "engram.dualwrite"])
def test_it_can_be_imported_where_only_nats_and_httpx_are_installed(module):
    assert module in loaded_by(module)


def test_together_they_load_no_other_module_of_engram():
    loaded = loaded_by("engram.publisher", "engram.client")
    assert {name for name in loaded if name.partition(".")[0] == "engram"} == OWN


def test_publishing_does_not_need_httpx():
    assert "engram.publisher" in loaded_by("engram.publisher", allowed={"engram", "nats"})


def test_the_events_need_the_standard_library_alone():
    assert "engram.events" in loaded_by("engram.events", allowed={"engram"})


def test_the_refusal_refuses():
    with pytest.raises(AssertionError, match="ModuleNotFoundError: numpy"):
        loaded_by("numpy")
