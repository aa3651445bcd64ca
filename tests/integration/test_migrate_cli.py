"""``engram migrate`` against a real store, with a migrator and an embedder beside it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engram_cli.main import run
from tests.support.migrating import driving
from tests.support.store import Store, open_store

TARGET = "hashing:ngram-1@512"


@pytest.fixture
async def store(
    database_url: str, superuser_url: str, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    """A store that listens where the command line looks."""
    async with (
        open_store(database_url, nats_url, superuser_url=superuser_url, embedder=True) as opened,
        opened.listening() as (host, port),
    ):
        monkeypatch.setenv("ENGRAM_URL", f"http://{host}:{port}")
        monkeypatch.setenv("ENGRAM_API_KEY", opened.key)
        monkeypatch.setenv("COLUMNS", "240")
        yield opened


class Cli:
    """Runs command lines and keeps what they wrote."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.errors = ""

    async def __call__(self, *arguments: str) -> tuple[int, str]:
        code = await asyncio.to_thread(run, ["migrate", *arguments])
        captured = self._capsys.readouterr()
        self.errors = captured.err
        return code, captured.out

    async def json(self, *arguments: str) -> Any:
        code, out = await self(*arguments, "--json")
        assert code == 0, self.errors
        return json.loads(out.splitlines()[-1])


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


async def test_the_whole_way_by_command_line(store: Store, cli: Cli) -> None:
    for n in range(40):
        await store.post(f"likes tea number {n}", namespace=f"user:{n % 2}")
    async with driving(store):
        code, out = await cli("plan", "--to", TARGET, "--order", "smallest")
        assert code == 0
        for shown in ("40 in 2 namespaces", "$0.0000", "engram migrate start"):
            assert shown in out
        assert (await cli.json("start"))["phase"] in ("dual_write", "backfill")
        watched = await cli.json("status", "--watch", "--every", "0.1")
        assert watched["namespaces"] == {"complete": 2}
        code, out = await cli("status", "--namespaces")
        assert code == 0
        for shown in ("40 of 40", "backfill", "2 of 2 namespaces", "user:0", "cost so far"):
            assert shown in out
        assert (await cli.json("verify"))["phase"] == "verified"
        assert (await cli.json("cutover"))["phase"] == "cut_over"
        assert (await cli.json("rollback"))["phase"] == "verified"
        assert (await cli.json("cutover"))["phase"] == "cut_over"
        assert (await cli.json("release"))["phase"] == "released"
    listed = await cli.json("list")
    assert [item["phase"] for item in listed["items"]] == ["released"]
    code, out = await cli("list")
    assert "released" in out


async def test_options_change_and_a_backfill_is_held(store: Store, cli: Cli) -> None:
    await store.post("likes tea")
    async with driving(store):
        await cli("plan", "--to", TARGET)
        await cli.json("start")
        assert (await cli.json("pause"))["paused"]
        changed = await cli.json("set", "--share", "0.25", "--sample", "10", "--queries", "3")
        assert changed["options"]["share"] == 0.25
        assert not (await cli.json("resume"))["paused"]
        code, _ = await cli("set")
        assert code == 2
        assert (await cli.json("abort"))["phase"] == "aborted"


async def test_what_blocks_is_shown_and_ends_with_1(store: Store, cli: Cli) -> None:
    code, out = await cli("plan", "--to", "hashing@256")
    assert code == 1
    assert "same_space" in out


async def test_a_verb_that_is_refused_ends_with_1_and_says_why(store: Store, cli: Cli) -> None:
    code, _ = await cli("verify")
    assert code == 1
    assert "migration_not_found" in cli.errors
    await cli("plan", "--to", TARGET)
    code, _ = await cli("release")
    assert code == 1
    assert "wrong_phase" in cli.errors


async def test_what_the_migrator_refuses_later_is_shown_too(store: Store, cli: Cli) -> None:
    await cli("plan", "--to", "openai:no-such-model@64", "--no-measure")
    async with driving(store):
        code, _ = await cli("start")
        assert code == 1
        assert "missing_key" in cli.errors
        code, out = await cli("status")
        assert "refused" in out
        assert "planned" in out


async def test_without_a_migrator_a_verb_says_that_it_was_not_done(store: Store, cli: Cli) -> None:
    await cli("plan", "--to", TARGET)
    code, _ = await cli("start", "--timeout", "0.3")
    assert code == 3
    assert "migrator_not_done" in cli.errors


async def test_judged_queries_that_cannot_be_read_are_refused(
    store: Store, cli: Cli, tmp_path: Path
) -> None:
    judged = tmp_path / "judged.jsonl"
    judged.write_text("not json\n")
    await cli("plan", "--to", TARGET)
    code, _ = await cli("verify", "--judged", str(judged))
    assert code == 2
    assert "judged_unreadable" in cli.errors
