"""``engram merges`` and ``engram dedup`` against a real store: tables, JSON, exit codes."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from engram.storage import dedup_runs, findings, ledger, merging
from engram.storage.connection import about
from engram.storage.findings import Finding, Kind
from engram.storage.merging import Group, Member
from engram_cli.main import run
from tests.support.merging import LEASE
from tests.support.store import Store, open_store


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
        monkeypatch.setenv("COLUMNS", "250")
        yield opened


class Cli:
    """Runs command lines and keeps what they wrote."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def __call__(self, line: str) -> tuple[int, str]:
        code = await asyncio.to_thread(run, line.split())
        return code, self._capsys.readouterr().out

    async def json(self, line: str) -> Any:
        code, out = await self(f"{line} --json")
        assert code == 0, line
        return json.loads(out.splitlines()[-1])


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


async def begun(store: Store) -> dedup_runs.Run:
    async with about(store.service.pool, [store.workspace]) as connection:
        made, _ = await dedup_runs.begin(
            connection, store.workspace, actor="curator", options={}, rule_version="7",
            merge_cap=None, lease=LEASE,
        )  # fmt: skip
        return made


async def merged(store: Store, *texts: str) -> tuple[dedup_runs.Run, str, list[str]]:
    """Merge texts in a run of their own; return run, merge and memories."""
    of_run = await begun(store)
    ids = [(await store.post(text))["id"] for text in texts]
    group = Group(UUID(ids[0]), 1, tuple(Member(UUID(one), 1, 0.98) for one in ids[1:]))
    async with about(store.service.pool, [store.workspace]) as connection:
        now = datetime.now(UTC)
        done = await merging.apply_group(connection, of_run.cause(), group, now)
        await dedup_runs.progress(connection, of_run, {"pairs": 12}, LEASE)
    return of_run, str(done.merge_id), ids


async def found(store: Store, kind: Kind, *texts: str) -> list[str]:
    """Leave two texts to a person; return their ids."""
    ids = [(await store.post(text))["id"] for text in texts]
    one, other = ((UUID(memory), 1) for memory in ids)
    cause = merging.Cause(store.workspace, "curator")
    async with about(store.service.pool, [store.workspace]) as connection:
        finding = Finding(one, other, 0.93, "number", survivor=UUID(ids[0]))
        await findings.record(connection, kind, cause, [finding], datetime.now(UTC))
    return ids


async def test_merges_are_listed_shown_and_undone(store: Store, cli: Cli) -> None:
    assert "Nothing was merged." in (await cli("merges list"))[1]
    of_run, merge_id, ids = await merged(store, "likes tea", "Likes tea", "likes tea!")
    listed = await cli.json(f"merges list --memory {ids[1]}")
    assert [one["id"] for one in listed["items"]] == [merge_id]
    assert (await cli.json(f"merges list --run {UUID(int=0)}"))["items"] == []
    assert merge_id in (await cli(f"merges list --run {of_run.id}"))[1]
    code, shown = await cli(f"merges show {merge_id}")
    assert code == 0
    assert all(text in shown for text in ("likes tea!", "Likes tea", ids[2], "0.98"))
    done = await cli.json(f"merges undo {merge_id} --member {ids[1]}")
    assert (done["restored"], done["merges"]) == (1, 0)
    code, out = await cli(f"merges undo {merge_id}")
    assert (code, out.strip()) == (0, "1 restored, 1 merges undone, 1 left (already)")
    assert (await cli("merges undo nonsense"))[0] == 1


async def test_a_large_merge_is_shown_whole(
    store: Store, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MAX_MEMBERS", 2)
    _, merge_id, ids = await merged(store, *(f"tea {n}" for n in range(6)))
    shown = await cli.json(f"merges show {merge_id}")
    assert sorted(one["memory_id"] for one in shown["members"]) == sorted(ids[1:])


async def test_runs_are_listed_shown_cancelled_and_undone(store: Store, cli: Cli) -> None:
    assert "No runs." in (await cli("dedup runs list"))[1]
    of_run, _, _ = await merged(store, "tea", "Tea")
    assert str(of_run.id) in (await cli("dedup runs list"))[1]
    assert (await cli(f"dedup runs undo {of_run.id}"))[0] == 1
    code, shown = await cli(f"dedup runs show {of_run.id}")
    assert (code, "pairs" in shown, "12" in shown) == (0, True, True)
    assert (await cli.json(f"dedup runs cancel {of_run.id}"))["state"] == "cancelled"
    assert (await cli.json(f"dedup runs undo {of_run.id}"))["restored"] == 1
    [listed] = (await cli.json("dedup runs list --limit 1"))["items"]
    assert (listed["merged"], listed["restored"]) == (1, 1)


async def test_proposals_are_listed_shown_accepted_and_rejected(store: Store, cli: Cli) -> None:
    assert "No proposals." in (await cli("dedup proposals list"))[1]
    await found(store, "proposal", "likes tea", "enjoys tea")
    ids = await found(store, "proposal", "likes milk", "enjoys milk")
    first, second = (one["id"] for one in (await cli.json("dedup proposals list"))["items"])
    code, listed = await cli("dedup proposals list --namespace global")
    assert (code, "likes tea (survivor)" in listed, "enjoys milk" in listed) == (0, True, True)
    code, shown = await cli(f"dedup proposals show {second}")
    assert (code, all(one in shown for one in ids), "likes milk" in shown) == (0, True, True)
    code, out = await cli(f"dedup proposals reject {first}")
    assert (code, out.split(":")[0]) == (0, "rejected")
    done = await cli.json(f"dedup proposals accept {second} --survivor {ids[1]}")
    assert (await cli.json(f"merges show {done['merge_id']}"))["survivor"] == ids[1]
    assert (await cli(f"dedup proposals accept {second}"))[0] == 1
    past = await cli.json("dedup proposals list --state rejected")
    assert [one["id"] for one in past["items"]] == [first]


async def test_conflicts_are_listed_shown_resolved_and_opened_again(store: Store, cli: Cli) -> None:
    ids = await found(store, "conflict", "lives in Ulm", "lives in Bonn")
    [conflict] = (await cli.json("dedup conflicts list"))["items"]
    assert "lives in Bonn (newer)" in (await cli("dedup conflicts list"))[1]
    assert "lives in Ulm" in (await cli(f"dedup conflicts show {conflict['id']}"))[1]
    assert (await cli(f"dedup conflicts resolve {conflict['id']} --keep neither"))[0] == 2
    done = await cli.json(f"dedup conflicts resolve {conflict['id']} --keep older")
    assert done["kept"] == ids[0]
    assert "No conflicts." in (await cli("dedup conflicts list"))[1]
    assert (await cli.json(f"dedup conflicts undo {conflict['id']}"))["state"] == "open"
    assert len((await cli.json("dedup conflicts list"))["items"]) == 1
