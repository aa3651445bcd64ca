"""``engram export``, ``compare``, ``import`` on real stores: nothing was lost, and it is shown."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engram_cli.main import run
from tests.support.store import Store, open_store

COUNTS = ("equal", "missing", "extra", "different", "missing_vectors", "unreadable")


@pytest.fixture
async def store(
    database_url: str, superuser_url: str, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    """A store that listens where the command line looks, with an embedder."""
    async with (
        open_store(database_url, nats_url, superuser_url=superuser_url, embedder=True) as opened,
        opened.listening() as (host, port),
    ):
        monkeypatch.setenv("ENGRAM_URL", f"http://{host}:{port}")
        monkeypatch.setenv("ENGRAM_API_KEY", opened.key)
        monkeypatch.setenv("COLUMNS", "200")
        yield opened


class Cli:
    """Runs command lines and keeps what they wrote."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def __call__(self, *arguments: object) -> tuple[int, str]:
        code = await asyncio.to_thread(run, [str(argument) for argument in arguments])
        return code, self._capsys.readouterr().out

    async def json(self, *arguments: object) -> tuple[int, Any]:
        code, out = await self(*arguments, "--json")
        return code, json.loads(out.splitlines()[-1])


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


async def filled(store: Store) -> None:
    for n in range(6):
        await store.post(f"memory {n}", user_id=f"u{n % 2}", metadata={"n": n})
    await store.post("a repeat", external_id="r1", source="crm")
    await store.post("a  repeat", external_id="r2", source="crm")
    await store.client.post("/v1/memories?wait=embedded", json={"content": "the last one"})


async def test_what_was_exported_compares_equal_here_and_after_an_import_elsewhere(
    store: Store, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(store)
    file, again = tmp_path / "out.ndjson.gz", tmp_path / "again.ndjson.gz"
    assert (await cli("export", file))[0] == 0
    code, report = await cli.json("compare", file)
    assert (code, [report[name] for name in COUNTS]) == (0, [9, 0, 0, 0, 0, 0])
    _, key = await store.other_workspace("empty")
    monkeypatch.setenv("ENGRAM_API_KEY", key)
    code, report = await cli.json("compare", file)
    assert (code, report["missing"], report["extra"]) == (1, 9, 0)
    code, report = await cli.json("import", file, "--wait")
    assert (code, report["received"], report["failed"]) == (0, 9, 0)
    assert (await cli.json("compare", file))[0] == 0
    assert (await cli("export", again))[0] == 0
    assert again.read_bytes() == file.read_bytes()


async def test_a_folder_compares_as_it_is_imported_and_is_repaired_from(
    store: Store, cli: Cli, tmp_path: Path
) -> None:
    folder = tmp_path / "exports"
    (folder / "old").mkdir(parents=True)
    for number, path in enumerate((folder / "a.jsonl", folder / "old" / "b.jsonl")):
        path.write_text(f'{{"content": "fact {number}", "user_id": "u"}}\n')
    assert (await cli.json("import", folder, "--wait"))[1]["imported"] == 2
    assert (await cli.json("compare", folder))[0] == 0
    (folder / "c.jsonl").write_text('{"content": "fact 2", "user_id": "u"}\n')
    code, report = await cli.json("compare", folder, "--repair")
    assert (code, report["missing"], report["repaired"]["imported"]) == (1, 1, 1)
    assert (await cli.json("compare", folder))[1]["missing"] == 0


async def test_an_export_that_is_imported_by_a_job_comes_out_the_same_too(
    store: Store, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text("".join(json.dumps({"content": f"text {n}"}) + "\n" for n in range(1_300)))
    assert (await cli("import", items, "--wait"))[0] == 0
    ids = [row["id"] for row in await store.sql.fetch("SELECT id FROM engram.memory ORDER BY id")]
    # Absorbed by what comes a thousand lines later.
    await store.sql.execute(
        "UPDATE engram.memory SET state = 'merged', merged_into = $2 WHERE id = $1",
        *(ids[3], ids[1_200]),
    )
    file, again = tmp_path / "out.ndjson", tmp_path / "again.ndjson"
    await cli("export", file)
    workspace, key = await store.other_workspace("empty")
    monkeypatch.setenv("ENGRAM_API_KEY", key)
    code, report = await cli.json("import", file)
    assert (code, report["received"], report["failed"]) == (0, 1_300, 0)
    await cli("export", again)
    assert again.read_bytes() == file.read_bytes()
    survivor = "SELECT survivor FROM engram.merge WHERE workspace = $1"
    assert await store.sql.fetchval(survivor, workspace) == ids[1_200]


async def test_every_difference_is_found_and_named(store: Store, cli: Cli, tmp_path: Path) -> None:
    await filled(store)
    file = tmp_path / "out.ndjson"
    await cli("export", file)
    changed, gone, *_ = [json.loads(line)["id"] for line in file.read_text().splitlines()]
    await store.client.patch(f"/v1/memories/{changed}", json={"pinned": True})
    await store.client.delete(f"/v1/memories/{gone}")
    await store.client.post("/v1/memories?wait=embedded", json={"content": "new"})
    await store.sql.execute("DELETE FROM engram_vec.space_1 WHERE memory_id = $1::uuid", changed)
    code, report = await cli.json("compare", file)
    assert (code, [report[name] for name in COUNTS]) == (1, [7, 1, 1, 1, 1, 0])
    assert report["listed"]["different"][0]["fields"] == ["pinned"]
    assert report["listed"]["missing"][0]["id"] == gone
    assert report["by_namespace"]["user:u0"] == {
        "missing": 0, "extra": 0, "different": 1, "missing_vectors": 1
    }  # fmt: skip
    code, shown = await cli("compare", file)
    assert code == 1
    assert "different: native" in shown
    assert "memory 0" not in shown


async def test_a_foreign_file_compares_with_what_it_became(
    store: Store, cli: Cli, tmp_path: Path
) -> None:
    await filled(store)
    file = tmp_path / "mem0.json"
    rows = [
        {"id": f"m{n}", "memory": f"Likes tea {n}", "user_id": "alice", "metadata": {"x": 1e2},
         "created_at": "2026-01-01T00:00:00Z", "expiration_date": "2040-01-01"}
        for n in range(3)
    ]  # fmt: skip
    file.write_text(json.dumps([*rows, {"id": "empty", "memory": "", "user_id": "alice"}]))
    assert (await cli("import", file, "--namespace", "moved", "--wait", "--json"))[0] == 1
    code, report = await cli.json("compare", file, "--namespace", "moved")
    assert (code, [report[name] for name in COUNTS]) == (1, [3, 0, 0, 0, 0, 1])
    code, report = await cli.json("compare", file)
    assert (report["different"], report["listed"]["different"][0]["fields"]) == (3, ["namespace"])


async def test_an_export_in_mem0s_shape_goes_in_as_mem0s(
    store: Store, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(store)
    file, again = tmp_path / "mem0.json", tmp_path / "again.json"
    await cli("export", file, "--format", "mem0")
    _, key = await store.other_workspace("empty")
    monkeypatch.setenv("ENGRAM_API_KEY", key)
    code, report = await cli.json("import", file, "--wait")
    assert (code, report["format"], report["imported"]) == (0, "mem0", 8)
    assert (await cli.json("compare", file))[0] == 0
    await cli("export", again, "--format", "mem0")
    rows = [
        sorted(json.loads(path.read_text())["results"], key=lambda row: row["id"])
        for path in (file, again)
    ]
    assert rows[0] == rows[1]
