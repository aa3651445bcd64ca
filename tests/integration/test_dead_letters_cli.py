"""``engram dead-letters`` against a real store: tables for people, JSON and exit codes."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engram import events
from engram_cli.main import run
from engram_ingest import dead_letters
from tests.support.store import Store, open_store


@pytest.fixture
async def store(
    database_url: str, superuser_url: str, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    """A store that listens where the command line looks, with three letters of ingest."""
    async with (
        open_store(database_url, nats_url, superuser_url=superuser_url) as opened,
        opened.listening() as (host, port),
    ):
        monkeypatch.setenv("ENGRAM_URL", f"http://{host}:{port}")
        monkeypatch.setenv("ENGRAM_API_KEY", opened.key)
        monkeypatch.setenv("COLUMNS", "200")
        for bad in (b"nonsense \x1b[31m", b"{}", b"[]"):
            await opened.lane.write(events.ingest_subject(str(opened.workspace)), bad)
        yield opened


class Cli:
    """Runs command lines and keeps what they wrote."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def __call__(self, *arguments: str) -> tuple[int, str]:
        code = await asyncio.to_thread(run, ["dead-letters", *arguments])
        return code, self._capsys.readouterr().out

    async def json(self, *arguments: str) -> tuple[int, Any]:
        code, out = await self(*arguments, "--json")
        return code, json.loads(out.splitlines()[-1])


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


async def test_letters_are_listed_as_a_table_and_as_json(store: Store, cli: Cli) -> None:
    code, listed = await cli.json("list")
    assert (code, [one["class"] for one in listed["items"]]) == (
        0,
        ["malformed_json", "bad_command", "bad_command"],
    )
    code, shown = await cli("list", "--kind", "ingest", "--class", "malformed_json")
    assert code == 0
    assert listed["items"][0]["id"] in shown
    assert "bad_command" not in shown
    assert (await cli("list", "--discarded"))[1].strip() == "No dead letters."


async def test_one_is_shown_with_its_payload_and_no_control_character(
    store: Store, cli: Cli
) -> None:
    _, listed = await cli.json("list")
    letter_id = listed["items"][0]["id"]
    code, shown = await cli("show", letter_id)
    assert code == 0
    assert "nonsense" in shown
    assert "\x1b[31m" not in shown
    assert (await cli.json("show", letter_id))[1]["payload"] == "nonsense \x1b[31m"
    assert (await cli("show", store.workspace.hex))[0] == 1


async def test_a_replay_that_fails_again_ends_with_1_and_a_dry_run_changes_nothing(
    store: Store, cli: Cli
) -> None:
    code, rehearsed = await cli.json("replay", "--class", "bad_command", "--dry-run")
    assert (code, rehearsed["matched"], rehearsed["failed"]) == (1, 2, 2)
    attempts = "SELECT sum(attempts) FROM engram.dead_letter"
    assert await store.sql.fetchval(attempts) == 3
    code, shown = await cli("replay", "--class", "bad_command")
    assert code == 1
    assert "2 matched, 0 replayed, 0 dropped, 2 failed" in shown
    assert await store.sql.fetchval(attempts) == 5


async def test_discard_names_ids_or_a_filter_or_all_and_nothing_else(
    store: Store, cli: Cli
) -> None:
    _, listed = await cli.json("list")
    for wrong in ((), ("--all", "--kind", "ingest"), ("x", "--all"), ("--kind", "x")):
        assert (await cli("discard", *wrong))[0] == 2
    code, shown = await cli("discard", listed["items"][0]["id"])
    assert (code, shown.strip()) == (0, "1 matched, 1 discarded, 0 failed")
    assert (await cli("discard", listed["items"][0]["id"]))[0] == 1
    code, done = await cli.json("discard", "--kind", "ingest")
    assert (code, done["discarded"]) == (0, 2)
    assert await store.sql.fetchval("SELECT count(*) FROM engram.dead_letter") == 0


async def test_all_pages_are_gone_through_and_added_up(
    store: Store, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "_MOST", 1)
    code, done = await cli.json("replay", "--all")
    assert (code, done["matched"], done["failed"], len(done["errors"])) == (1, 3, 3, 3)
    assert done["dry_run"] is False


async def test_a_key_without_the_scope_ends_with_4(
    store: Store, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGRAM_API_KEY", await store.key_of(store.workspace, ["operator"]))
    assert (await cli("list"))[0] == 4
