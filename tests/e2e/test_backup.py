"""Backup and restore as a user runs them: of a running store, verified, only into an empty one."""

import asyncio
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from engram_cli.runtime.cluster import read_passwords
from tests.e2e.test_up import client_of, ready, up
from tests.support import servers
from tests.support.wait import eventually


def engram(*arguments: str, code: int = 0, **env: str) -> dict[str, Any]:
    """Run a command with --json and return what it wrote, or its problem."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ENGRAM_")}
    done = subprocess.run(
        [sys.executable, "-m", "engram_cli", *arguments, "--json"],
        env={**kept, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    wrote = done.stdout if code == 0 else done.stderr
    answer: dict[str, Any] = json.loads(wrote.strip().splitlines()[-1])
    return answer


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's own account may enter."""
    with servers.open_folder("engram-test-backup-") as made:
        yield made


async def store_many(client: httpx.AsyncClient, prefix: str, count: int) -> None:
    items = [{"content": f"{prefix} {n}", "external_id": f"{prefix}{n}"} for n in range(count)]
    answer = await client.post("/v1/memories/import?wait=embedded", json=items)
    assert answer.json()["imported"] == count


async def found(client: httpx.AsyncClient, text: str) -> list[str]:
    answer = await client.post("/v1/memories/search", json={"query": text, "limit": 1})
    return [hit["memory"]["content"] for hit in answer.json()["results"]]


@pytest.mark.timeout(240)
async def test_a_running_store_is_backed_up_restored_and_found_again(folder: Path) -> None:
    file, source, target = folder / "b.zip", folder / "source", folder / "target"
    with up(source) as process:
        where = await ready(process)
        async with client_of(where) as client:
            await store_many(client, "green tea", 200)
            gone = (await client.post("/v1/memories", json={"content": "erased"})).json()
            await client.delete(f"/v1/memories/{gone['id']}")
            exported = (await client.get("/v1/export")).content
            writing = asyncio.create_task(store_many(client, "meanwhile", 400))
            made = await asyncio.to_thread(engram, "backup", str(file), "--data", str(source))
            await writing
        assert made["memories"] >= 201
        assert file.stat().st_mode & 0o077 == 0
    assert engram("restore", str(file), "--check", "--data", str(target))["state"] == "whole"
    assert not target.exists()
    restored = engram("restore", str(file), "--data", str(target))
    assert restored["rows"] == made["rows"]
    await unguarded(target)
    with up(target) as process:
        again = await ready(process)
        async with client_of(again) as client:
            await eventually(lambda: same(client, exported), 30)
            assert await found(client, "green tea 7") == ["green tea 7"]
            await store_many(client, "afterwards", 5)
            assert await found(client, "afterwards 3") == ["afterwards 3"]
        headers = {"Authorization": f"Bearer {where['api_key']}"}
        async with httpx.AsyncClient(base_url=again["url"], headers=headers) as old_key:
            assert (await old_key.get("/v1/workspace")).status_code == 200
        refused = engram("restore", str(file), "--data", str(target), code=3)
        assert refused["code"] == "data_dir_locked"


async def same(client: httpx.AsyncClient, exported: bytes) -> bool:
    """Whether every memory that was exported before the backup is there again, to the byte."""
    lines = set((await client.get("/v1/export")).content.splitlines())
    return set(exported.splitlines()) <= lines


async def unguarded(data: Path) -> None:
    """See that row-level security came back with the tables, and their owners."""
    from engram_cli.runtime.postgres import PostgresServer

    server = PostgresServer(data)
    await server.start()
    try:
        login = await asyncpg.connect(server.database_url)
        assert await login.fetchval("SELECT count(*) FROM engram.memory") == 0
        owners = await login.fetch(
            "SELECT DISTINCT schemaname, tableowner FROM pg_tables "
            "WHERE schemaname LIKE 'engram%' ORDER BY 1"
        )
        assert [tuple(row) for row in owners] == [
            ("engram", "engram"), ("engram_vec", "engram_vec")
        ]  # fmt: skip
        await login.close()
    finally:
        await server.stop()


@pytest.fixture(scope="module")
def backup() -> Iterator[tuple[Path, Path]]:
    """A backup of a store that does not run any more, and its data directory."""
    with servers.open_folder("engram-test-backup-") as made:
        asyncio.run(_filled(made / "data"))
        engram("backup", str(made / "b.zip"), "--data", str(made / "data"))
        yield made / "b.zip", made / "data"


async def _filled(data: Path) -> None:
    with up(data) as process:
        async with client_of(await ready(process)) as client:
            await store_many(client, "kept", 3)


@pytest.mark.timeout(180)
def test_a_place_that_holds_a_store_is_refused_and_unchanged(backup: tuple[Path, Path]) -> None:
    file, data = backup
    before = read_passwords(data / "postgres")
    refused = engram("restore", str(file), "--data", str(data), code=1)
    assert refused["code"] == "store_not_empty"
    assert read_passwords(data / "postgres") == before


def test_a_damaged_a_foreign_and_a_newer_file_are_refused_before_anything_is_made(
    backup: tuple[Path, Path], tmp_path: Path
) -> None:
    file, _ = backup
    data = bytearray(file.read_bytes())
    middle = data.index(b"PGDMP") + 2_000
    data[middle] ^= 0xFF
    damaged, cut, foreign, newer = (tmp_path / name for name in ("d", "c", "f", "n"))
    damaged.write_bytes(data)
    cut.write_bytes(file.read_bytes()[:-100])
    foreign.write_text('{"memories": []}')
    with zipfile.ZipFile(file) as packed, zipfile.ZipFile(newer, "w") as changed:
        manifest = json.loads(packed.read("manifest.json"))
        changed.writestr("store.pgdump", packed.read("store.pgdump"))
        changed.writestr("manifest.json", json.dumps({**manifest, "schema_version": 9_999}))
    for path, code, name in (
        (damaged, 2, "damaged_backup"),
        (cut, 2, "not_a_backup"),
        (foreign, 2, "not_a_backup"),
        (newer, 3, "schema_too_new"),
    ):
        target = tmp_path / f"target-{path.name}"
        assert engram("restore", str(path), "--data", str(target), code=code)["code"] == name
        assert not target.exists()


@pytest.mark.timeout(180)
def test_rows_that_differ_from_the_manifest_are_found_and_removed_again(
    backup: tuple[Path, Path], folder: Path
) -> None:
    file, _ = backup
    lying = folder / "lying.zip"
    with zipfile.ZipFile(file) as packed, zipfile.ZipFile(lying, "w") as changed:
        manifest = json.loads(packed.read("manifest.json"))
        manifest["tables"]["engram.memory"]["sha256"] = "0" * 64
        changed.writestr("store.pgdump", packed.read("store.pgdump"))
        changed.writestr("manifest.json", json.dumps(manifest))
    refused = engram("restore", str(lying), "--data", str(folder / "target"), code=1)
    assert refused["code"] == "restore_differs"
    assert "engram.memory" in refused["detail"]
    # Nothing was left there: the true one goes in.
    assert engram("restore", str(file), "--data", str(folder / "target"))["memories"] == 3


async def test_a_cluster_is_backed_up_by_its_address_if_the_login_sees_the_rows(
    database_url: str, superuser_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "b.zip"
    run = asyncio.to_thread
    refused = await run(engram, "backup", str(file), code=4, ENGRAM_DATABASE_URL=database_url)
    assert refused["code"] == "backup_needs_bypass"
    assert not file.exists()
    made = await run(engram, "backup", str(file), ENGRAM_DATABASE_URL=superuser_url)
    assert (made["memories"], "engram.memory" in made["rows"]) == (0, True)
    refused = await run(engram, "restore", str(file), code=1, ENGRAM_DATABASE_URL=superuser_url)
    assert refused["code"] == "store_not_empty"


def test_a_directory_without_a_store_has_nothing_to_back_up(tmp_path: Path) -> None:
    refused = engram("backup", str(tmp_path / "b"), "--data", str(tmp_path / "none"), code=3)
    assert refused["code"] == "no_store"
    assert list(tmp_path.iterdir()) == []
