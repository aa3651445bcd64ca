"""``engram decay`` and ``engram schedule`` against a real store, with a curator beside it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engram.serving.process import background
from engram_cli.main import run
from engram_curator.schedule import run_schedule
from engram_curator.service import duties
from tests.support.fading import aged, in_state
from tests.support.store import Store, open_store
from tests.support.wait import eventually

LONG_AGO = 400.0


@pytest.fixture
async def store(
    database_url: str, superuser_url: str, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    """A store that listens where the command line looks."""
    async with (
        open_store(database_url, nats_url, superuser_url=superuser_url) as opened,
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

    async def __call__(self, *arguments: str) -> tuple[int, str]:
        code = await asyncio.to_thread(run, list(arguments))
        return code, self._capsys.readouterr().out

    async def json(self, *arguments: str) -> tuple[int, Any]:
        code, out = await self(*arguments, "--json")
        return code, json.loads(out.splitlines()[-1])


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


def curator(store: Store) -> Any:
    table = {name: duty for name, duty in duties().items() if name.startswith("decay")}
    return background(run_schedule(store.service, table))


async def test_preview_run_and_restore_go_round(store: Store, cli: Cli) -> None:
    async with curator(store):

        async def idle() -> bool:
            sql = "SELECT count(*) FROM engram.sweep WHERE last_finished IS NOT NULL"
            return await store.sql.fetchval(sql) == 3

        await eventually(idle)
        ids = await aged(store, 100, LONG_AGO)
        code, shown = await cli("decay", "preview")
        assert code == 0
        assert "20 of 100 due memories would be archived now" in shown
        code, rehearsed = await cli.json("decay", "run", "--dry-run", "--namespace", "user:a")
        assert (code, rehearsed["archived"]) == (0, 20)
        assert await in_state(store, "archived") == set()
        code, done = await cli.json("decay", "run")
        assert (code, done["state"], done["archived"], done["slowed"]) == (0, "done", 20, 1)
        code, shown = await cli("decay", "run")
        assert code == 0
        assert "16 archived by run" in shown
        assert "1 namespaces held back by the cap: user:a" in shown
        code, shown = await cli("decay", "runs")
        assert done["id"] in shown
        code, shown = await cli("decay", "restore", done["id"])
        assert (code, shown.strip()) == (0, "20 restored, 0 kept as they are")
        left = min(await in_state(store, "archived"))
        code, shown = await cli("decay", "restore", "--memory", str(left))
        assert (code, shown.strip()) == (0, f"{left} is active")
        assert len(await in_state(store, "archived")) == 15
        assert set(ids) >= await in_state(store, "archived")


async def test_without_a_curator_a_run_waits_and_says_so(store: Store, cli: Cli) -> None:
    code, _ = await cli("decay", "run", "--timeout", "0.3")
    assert code == 3
    assert await store.sql.fetchval("SELECT state FROM engram.decay_run") == "queued"


async def test_what_is_to_be_restored_must_be_clear(store: Store, cli: Cli) -> None:
    assert (await cli("decay", "restore"))[0] == 2
    assert (await cli("decay", "restore", "x", "--memory", "y"))[0] == 2
    assert (await cli("decay", "restore", "x"))[0] == 1


async def test_settings_are_shown_changed_and_cleared(store: Store, cli: Cli) -> None:
    changes = ("--half-life", "7", "--floor", "0.1", "--grace", "1", "--archive", "off")
    code, found = await cli.json("decay", "settings", "--prefix", "session:", *changes)
    own = {"half_life_days": 7.0, "floor": 0.1, "grace_days": 1.0, "enabled": False}
    assert (code, found["prefix"], found["own"]) == (0, "session:", own)
    code, found = await cli.json("decay", "settings", "--namespace", "session:1")
    assert found["effective"] == own
    await cli("decay", "settings", "--prefix", "session:", "--floor", "inherit")
    code, shown = await cli("decay", "settings", "--namespace", "session:1")
    assert code == 0
    assert "0.05" in shown
    for wrong in (("--floor", "much"), ("--archive", "perhaps"), ("--floor", "2")):
        assert (await cli("decay", "settings", *wrong))[0] == 2


async def test_the_schedule_is_listed_changed_and_switched(store: Store, cli: Cli) -> None:
    assert "No curator has run yet" in (await cli("schedule", "list"))[1]
    async with curator(store):

        async def ran() -> bool:
            return "ok" in (await cli("schedule", "list"))[1]

        await eventually(ran)
    code, shown = await cli("schedule", "set", "decay", "--every", "12h")
    assert code == 0
    assert "12h" in shown
    code, found = await cli.json("schedule", "off", "decay")
    assert (code, found["enabled"], found["every_s"]) == (0, False, 43_200)
    assert (await cli("schedule", "run", "decay", "now"))[0] == 1
    assert (await cli.json("schedule", "on", "decay"))[1]["enabled"] is True
    assert (await cli("schedule", "run", "decay", "now"))[0] == 0
    assert await store.sql.fetchval(
        "SELECT next_due <= now() FROM engram.sweep WHERE name = 'decay'"
    )
    for wrong in (("run", "decay", "later"), ("set", "decay", "--every", "soon")):
        assert (await cli("schedule", *wrong))[0] == 2
    assert (await cli("schedule", "set", "none", "--every", "1d"))[0] == 1
