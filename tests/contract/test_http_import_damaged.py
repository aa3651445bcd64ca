"""Damaged exports of every format, imported twice: sums exact, and the second adds nothing."""

import io
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engram.importers.formats import FORMATS
from engram.importers.reading import read
from tests.support.exports import damaged, samples
from tests.support.store import Store, open_store
from tests.support.wait import eventually

COUNTS = ("imported", "updated", "duplicates", "superseded", "skipped", "failed")
SAMPLES = samples()
REFUSED = (400, 413, 422)
# Damaged forms of each export: the short form runs in `make test`, the full in `make test-chaos`.
SHORT, FULL = 3, 400


@pytest.fixture
async def store(database_url: str, superuser_url: str, nats_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url, nats_url, superuser_url=superuser_url) as opened:
        yield opened


async def imported(store: Store, body: bytes, filename: str) -> dict[str, Any] | None:
    """Import a body to its end; return its report, None when it was refused as a whole."""
    lines = filename.endswith((".jsonl", ".jsonl.gz"))
    kind = "application/x-ndjson" if lines else "application/octet-stream"
    answer = await store.client.post(
        "/v1/memories/import", content=body, headers={"Content-Type": kind}
    )
    assert answer.status_code in (200, 202, *REFUSED), answer.text
    if answer.status_code in REFUSED:
        assert answer.json()["code"], answer.text
        return None
    report: dict[str, Any] = answer.json()
    if answer.status_code == 202:
        report = await ended(store, answer.headers["location"])
    assert report["received"] == sum(report[name] for name in COUNTS), report
    assert sum(report["by_namespace"].values()) == report["imported"] + report["updated"]
    return report


async def ended(store: Store, location: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        job: dict[str, Any] = (await store.client.get(location)).json()
        return None if job["state"] in ("queued", "running") else job

    return await eventually(look, 30)


async def held(store: Store) -> list[Any]:
    return await store.sql.fetch(
        "SELECT id, version, state, content FROM engram.memory ORDER BY id"
    )


async def imported_twice(store: Store, body: bytes, filename: str) -> int:
    """Import a body twice; return how many memories the first one stored."""
    before = len(await held(store))
    first = await imported(store, body, filename)
    after = await held(store)
    second = await imported(store, body, filename)
    assert await held(store) == after, "the second import changed something"
    if first is None or second is None:
        assert first is second, "a body was refused only one of two times"
        return len(after) - before
    for name in ("imported", "updated", "superseded"):
        assert second[name] == 0, second
    for name in ("received", "failed", "skipped"):
        assert second[name] == first[name], second
    return len(after) - before


def test_there_is_an_export_of_every_format() -> None:
    found = {read(io.BytesIO(data), filename=name).format for name, data in SAMPLES.values()}
    assert found == {one.name for one in FORMATS}


async def damaged_and_twice(store: Store, name: str, times: int) -> None:
    filename, data = SAMPLES[name]
    await imported_twice(store, data, filename)
    assert await store.count() > 0
    taken = 0
    for body in damaged(data, times, seed=times):
        before = len(await held(store))
        report = await imported(store, body, filename)
        taken += report is not None
        stored = len(await held(store)) - before
        # A repeat makes no row, or one that is born absorbed.
        if report is not None:
            new = report["imported"] + report["superseded"]
            assert new <= stored <= new + report["duplicates"], report
        await imported_twice(store, body, filename)
    assert taken or times < FULL, "all was refused: nothing was tried"


async def test_a_damaged_export_adds_up_and_a_second_import_adds_nothing(store: Store) -> None:
    for name in SAMPLES:
        await damaged_and_twice(store, name, SHORT)


@pytest.mark.chaos
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", SAMPLES)
async def test_400_forms_of_damage_add_up_and_a_second_import_adds_nothing(
    store: Store, name: str
) -> None:
    await damaged_and_twice(store, name, FULL)
