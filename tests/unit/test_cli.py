"""The command line: what it prints, how it ends, and what it asks the server."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import types

import pytest

from engram_cli import main
from engram_cli.runtime.datadir import Credentials
from engram_cli.runtime.ports import free_port
from engram_cli.runtime.up import BootstrapResult, Endpoints, Ready
from engram_cli.services import SERVICES, child_specs
from tests.unit.http_stub import problem, serving

RECORD = {"id": "m1", "content": "Likes tea", "namespace": "user:alice", "version": 1}
WORKSPACE = {
    "id": "w1",
    "name": "default",
    "memory_count": 1234,
    "by_state": {"active": 1234},
    "vectors": {"hashing@256": {"current": 1200, "pending": 34, "dead": 0}},
    "usage": {},
}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("ENGRAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ENGRAM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def stub(monkeypatch):
    with serving() as running:
        monkeypatch.setenv("ENGRAM_URL", running.url)
        monkeypatch.setenv("ENGRAM_API_KEY", "secret")
        yield running


@pytest.fixture
def engram(capsys):
    """Runs a command line; returns its exit code, standard output and standard error."""

    def run(*arguments):
        code = main.run([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_help_lists_every_command_and_loads_nothing_heavy():
    script = "import sys; from engram_cli.main import run; run(['--help']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    for command in ("up", "run", "bootstrap", "add", "import", "search", "context", "status"):
        assert f" {command} " in done.stdout
    for command in ("keys", "doctor", "config", "bench"):
        assert f" {command} " in done.stdout
    loaded = set(done.stdout.splitlines()[-1].split())
    assert loaded.isdisjoint({"httpx", "nats", "pydantic", "asyncpg", "numpy", "fastapi", "uvloop"})


def test_python_m_engram_cli_is_the_same_command():
    command = [sys.executable, "-m", "engram_cli", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "nonsense" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["search"],
        ["search", "x", "--limit", "0"],
        ["search", "x", "--invented"],
        ["context", "x", "--format", "html"],
        ["import", "no-such-file.json"],
        ["import", "-", "--strategy", "guess"],
        ["run", "embeder"],
        ["bench", "nonsense"],
        ["add", "x", "--metadata", "{"],
        ["add", "x", "--metadata", "[]"],
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(engram, stub, arguments):
    code, out, err = engram(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    code, out, err = engram(*arguments, "--json")
    assert (code, out) == (2, "")
    assert json.loads(err)["exit_code"] == 2
    assert stub.asked == []


def test_a_mistyped_service_is_answered_with_a_suggestion(engram):
    assert "Did you mean embedder?" in engram("run", "embeder")[2]


def test_without_arguments_the_help_is_shown(engram):
    code, out, err = engram()
    assert code == 2
    assert "Usage: engram" in out + err


@pytest.mark.parametrize(
    ("status", "code"), [(401, 4), (403, 4), (404, 1), (409, 1), (422, 2), (500, 1)]
)
def test_a_refusal_ends_with_the_code_of_its_kind(engram, stub, status, code):
    fault = {"pointer": "/content", "code": "empty", "detail": "is empty"}
    stub.script(problem(status, "the_code", cure="Do this.", errors=[fault]))
    ended, out, err = engram("search", "tea")
    assert (ended, out) == (code, "")
    assert err.splitlines() == [
        "error: D. [the_code]",
        "  /content: is empty [empty]",
        "  Do this.",
    ]
    ended, out, err = engram("search", "tea", "--json")
    document = json.loads(err)
    assert (ended, out) == (code, "")
    assert (document["code"], document["detail"], document["cure"]) == (
        "the_code",
        "D.",
        "Do this.",
    )
    assert document["errors"] == [fault]


def test_an_unreachable_server_ends_with_3(engram, monkeypatch):
    monkeypatch.setenv("ENGRAM_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("ENGRAM_API_KEY", "k")
    monkeypatch.setattr("engram.backoff.Backoff.wait_s", lambda *_: None)
    assert engram("search", "x")[0] == 3


@pytest.mark.parametrize("command", ["status", "doctor"])
def test_an_address_that_is_none_is_told(engram, monkeypatch, command):
    monkeypatch.setenv("ENGRAM_URL", "http://[x")
    monkeypatch.setenv("ENGRAM_API_KEY", "k")
    code, out, err = engram(command)
    assert code in {1, 2}
    assert "ENGRAM_URL" in out + err


def test_without_a_key_it_ends_with_4_and_says_how_to_get_one(engram):
    code, _, err = engram("search", "x")
    assert code == 4
    assert "engram up" in err


def test_interruption_ends_with_130(stub, tmp_path):
    # A server that asks for patience keeps the command waiting; so does nothing else.
    stub.script((503, b"", {"Retry-After": "50"}))
    command = [sys.executable, "-m", "engram_cli", "search", "tea"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        while not stub.asked:
            assert running.poll() is None
            time.sleep(0.01)
        out, err = interrupted(running)
    finally:
        running.kill()
    assert (running.returncode, out, err) == (130, b"", b"")


def interrupted(running):
    """Press Ctrl-C as a person does: again, when it met httpcore just as it took a lock."""
    for _ in range(3):
        running.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return running.communicate(timeout=10)
    raise AssertionError("it does not end")


def test_search_shows_score_text_and_namespace(engram, stub):
    hit = {"memory": RECORD, "score": 0.8312, "similar": []}
    stub.script((200, {"results": [hit], "degraded": False, "space": "s", "route": "exact"}))
    code, out, _ = engram("search", "tea", "--namespace", "user:alice", "--limit", "3")
    assert code == 0
    assert out.splitlines()[1].split() == ["0.831", "Likes", "tea", "user:alice"]
    assert stub.asked[0].json == {"query": "tea", "limit": 3, "namespace": "user:alice"}
    code, out, _ = engram("search", "tea", "--json")
    assert json.loads(out)["results"] == [hit]


def test_search_says_when_it_is_degraded_and_when_nothing_was_found(engram, stub):
    stub.script((200, {"results": [], "degraded": True}))
    code, out, _ = engram("search", "tea")
    assert code == 0
    assert "full-text" in out
    assert "Nothing found." in out


def test_a_memorys_text_cannot_command_the_terminal(engram, stub):
    memory = {**RECORD, "content": "\x1b]0;owned\x07[red]plain[/red] \u202e"}
    stub.script((200, {"results": [{"memory": memory, "score": 1.0}], "degraded": False}))
    out = engram("search", "tea")[1]
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "\u202e" not in out
    assert "[red]plain[/red]" in out


def test_context_writes_the_text_alone(engram, stub):
    stub.script((200, {"context": "- Likes tea", "memories": ["m1"], "tokens": 3}))
    assert engram("context", "tea", "--max-tokens", "9", "--format", "xml")[:2] == (
        0,
        "- Likes tea\n",
    )
    assert stub.asked[0].json == {"query": "tea", "max_tokens": 9, "format": "xml"}


def test_add_stores_and_says_where(engram, stub):
    stub.script((201, RECORD))
    code, out, _ = engram("add", "Likes tea", "--user", "alice", "--metadata", '{"a": 1}', "--wait")
    assert (code, out) == (0, "stored m1 in user:alice\n")
    assert stub.asked[0].path == "/v1/memories?wait=embedded"
    assert stub.asked[0].json == {"content": "Likes tea", "user_id": "alice", "metadata": {"a": 1}}
    stub.script((200, {**RECORD, "folded": True}))
    assert engram("add", "Likes tea")[1] == "folded into m1 in user:alice\n"
    assert json.loads(engram("add", "Likes tea", "--json")[1])["folded"] is True


def test_status_shows_workspace_vectors_and_readiness(engram, stub, monkeypatch):
    monkeypatch.setenv("ENGRAM_OPS_PORT", stub.url.rsplit(":", 1)[1])
    stub.script((200, WORKSPACE), (200, {}))
    code, out, _ = engram("status")
    assert code == 0
    assert "1,234" in out
    assert ["hashing@256", "1,200", "34", "0"] in [row.split() for row in out.splitlines()]
    assert [asked.path for asked in stub.asked] == ["/v1/workspace", "/readyz", "/pipeline"]


def test_status_of_a_service_that_is_not_ready_ends_with_3(engram, stub, monkeypatch):
    monkeypatch.setenv("ENGRAM_OPS_PORT", stub.url.rsplit(":", 1)[1])
    stub.script((200, WORKSPACE), (503, {}))
    code, out, _ = engram("status", "--json")
    answer = json.loads(out)
    assert code == 3
    assert answer["workspace"] == WORKSPACE
    assert answer["health"]["ready"] is False


def test_keys_are_listed_created_and_revoked(engram, stub):
    key = {"id": "k1", "name": "ci", "scopes": ["read", "write"], "created_at": "2026", "key": "S"}
    stub.script((200, {"items": [key], "next_cursor": None}), (201, key), (204, b""))
    code, out, _ = engram("keys", "list")
    assert code == 0
    assert out.splitlines()[1].split() == ["k1", "ci", "read", "write", "2026", "-", "-"]
    assert engram("keys", "create", "--name", "ci", "--scope", "read")[1].startswith("S\n")
    assert engram("keys", "revoke", "k1") == (0, "revoked k1\n", "")
    assert [(asked.method, asked.path) for asked in stub.asked] == [
        ("GET", "/v1/keys?limit=100"),
        ("POST", "/v1/keys"),
        ("DELETE", "/v1/keys/k1"),
    ]
    assert stub.asked[1].json == {"name": "ci", "scopes": ["read"]}


def test_config_masks_secrets_and_says_where_values_come_from(engram, monkeypatch):
    monkeypatch.setenv("ENGRAM_DATABASE_URL", "postgresql://u:hunter2@h/db")
    monkeypatch.setenv("ENGRAM_PORT", "9999")
    code, out, _ = engram("config", "--json")
    rows = {row["name"]: row for row in json.loads(out)["settings"]}
    assert code == 0
    assert "hunter2" not in out + engram("config")[1]
    assert rows["ENGRAM_DATABASE_URL"]["value"] == "********"
    assert (rows["ENGRAM_PORT"]["value"], rows["ENGRAM_PORT"]["default"]) == (9999, 8080)
    assert (rows["ENGRAM_PORT"]["source"], rows["ENGRAM_HOST"]["source"]) == (
        "environment",
        "default",
    )
    assert all(row["description"] for row in rows.values())


def test_an_unknown_setting_is_wrong_usage(engram, monkeypatch):
    monkeypatch.setenv("ENGRAM_PROT", "1")
    code, _, err = engram("config")
    assert code == 2
    assert "ENGRAM_PORT" in err


def findings(out):
    return {finding["check"]: finding for finding in json.loads(out)["findings"]}


def test_doctor_finds_nothing_wrong_with_what_works(engram, stub, monkeypatch):
    monkeypatch.setenv("ENGRAM_OPS_PORT", stub.url.rsplit(":", 1)[1])
    stub.script((200, WORKSPACE), (200, {}))
    code, out, _ = engram("doctor", "--json")
    assert code == 0
    assert json.loads(out)["healthy"] is True
    assert {finding["verdict"] for finding in findings(out).values()} == {"ok"}


def test_doctor_gives_each_failure_a_cure(engram, stub, monkeypatch, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "credentials.json").write_text("{}")
    (data / "credentials.json").chmod(0o644)
    password = "hunter2"
    monkeypatch.setenv("ENGRAM_DATABASE_URL", f"postgresql://u:{password}@127.0.0.1:1/db")
    monkeypatch.setenv("ENGRAM_NATS_URL", stub.url.replace("http", "nats"))
    monkeypatch.setenv("ENGRAM_OPS_PORT", "1")
    monkeypatch.setattr("engram_cli.health._TIMEOUT_S", 0.2)
    stub.script((200, WORKSPACE))
    code, out, _ = engram("doctor", "--json")
    found = findings(out)
    assert code == 1
    failures = {name for name, finding in found.items() if finding["verdict"] == "failure"}
    assert failures == {"credentials", "readiness", "database", "nats"}
    assert all(found[name]["cure"] for name in failures)
    assert password not in out
    assert "failure  database: " in engram("doctor")[1]


async def test_doctor_recognises_real_servers(engram, stub, monkeypatch, database_url, nats_url):
    monkeypatch.setenv("ENGRAM_DATABASE_URL", database_url)
    monkeypatch.setenv("ENGRAM_NATS_URL", nats_url)
    stub.script(problem(401, "unknown_key"))
    code, out, _ = await asyncio.to_thread(engram, "doctor", "--json")
    found = findings(out)
    assert code == 1
    assert found["server and key"]["verdict"] == "failure"
    assert (found["database"]["verdict"], found["nats"]["verdict"]) == ("ok", "ok")
    assert found["store"]["verdict"] == "ok"
    assert "ENGRAM_INGEST" in found["streams: topology"]["detail"]


def test_a_service_gets_the_settings(engram, monkeypatch):
    ran = []

    async def service(settings):
        ran.append(settings.port)

    monkeypatch.setattr("engram_cli.services.load_service", lambda _: service)
    monkeypatch.setenv("ENGRAM_PORT", "7777")
    assert engram("run", "ingest")[0] == 0
    assert ran == [7777]


def test_a_benchmark_gets_its_own_arguments_and_decides_the_exit_code(engram, monkeypatch):
    asked = []
    monkeypatch.setattr("engram_cli.commands.bench.BENCHES", {"mine": "builtins:print"})
    monkeypatch.setattr(
        "engram_cli.commands.bench.load_bench",
        lambda name: lambda arguments, as_json: asked.append((name, arguments, as_json)) or 1,
    )
    assert engram("bench", "mine", "--rows", "10", "--json")[0] == 1
    assert asked == [("mine", ["--rows", "10"], True)]


def ready(ephemeral):
    where = Credentials("http://h:1", "key", "nats://n", "postgresql://d", "/data", "http://h:2")
    return Ready(where, ephemeral)


@pytest.fixture
def started(monkeypatch):
    """Puts a start that ends at once in the place of the real one; returns the options it got."""
    options = []

    async def run_up(given, bootstrap, announce, progress):
        options.append((given, bootstrap))
        progress("making a new database cluster")
        announce(ready(given.ephemeral))
        return signal.SIGTERM

    async def bootstrap(database_url, nats_url):
        return BootstrapResult(f"{database_url} {nats_url}")

    module = types.ModuleType("engram_cli.bootstrap")
    module.bootstrap = bootstrap
    monkeypatch.setitem(sys.modules, "engram_cli.bootstrap", module)
    monkeypatch.setattr("engram_cli.runtime.up.run_up", run_up)
    monkeypatch.setattr("engram.logs.configure", lambda *_: None)
    return options


def test_up_announces_where_everything_is_in_one_line_of_json(engram, started, tmp_path):
    code, out, err = engram("up", "--data", tmp_path, "--port", "0", "--ops-port", "5", "--json")
    assert code == 0
    assert err == "making a new database cluster\n"
    assert json.loads(out) == {
        "url": "http://h:1",
        "api_key": "key",
        "nats_url": "nats://n",
        "database_url": "postgresql://d",
        "data_dir": "/data",
        "ops_url": "http://h:2",
    }
    [(options, _)] = started
    assert (options.data_dir, options.http_port, options.ops_port) == (tmp_path, 0, 5)
    assert options.ephemeral is False


def test_up_tells_people_the_address_but_not_the_key(engram, started):
    code, out, _ = engram("up", "--ephemeral")
    assert code == 0
    assert "http://h:1" in out
    assert "nothing is kept" in out
    assert "key" not in out
    assert started[0][0].ephemeral is True


def test_up_refuses_an_unknown_setting_before_it_starts_anything(engram, started, monkeypatch):
    monkeypatch.setenv("ENGRAM_PROT", "1")
    assert engram("up")[0] == 2
    assert started == []


def test_up_runs_every_service_as_a_child_on_ports_of_its_own(tmp_path):
    endpoints = Endpoints(8080, free_port(), "d", "n", tmp_path)
    specs = child_specs(endpoints)
    endpoints.ports.release()
    assert [spec.name for spec in specs] == list(SERVICES)
    assert [spec.argv[-3:] for spec in specs] == [("engram_cli", "run", name) for name in SERVICES]
    ops_ports = [spec.env["ENGRAM_OPS_PORT"] for spec in specs]
    assert len(set(ops_ports)) == len(SERVICES)
    for spec, port in zip(specs, ops_ports, strict=True):
        assert spec.ready_url == f"http://127.0.0.1:{port}/readyz"


def test_bootstrap_shows_the_first_key_and_needs_both_servers(engram, started, monkeypatch):
    assert engram("bootstrap")[0] == 2
    monkeypatch.setenv("ENGRAM_DATABASE_URL", "postgresql://d")
    monkeypatch.setenv("ENGRAM_NATS_URL", "nats://n")
    code, out, _ = engram("bootstrap", "--json")
    assert (code, json.loads(out)) == (0, {"api_key": "postgresql://d nats://n"})
    assert "postgresql://d nats://n" in engram("bootstrap")[1]
