"""The benchmarks' check of the database: right data passes, and every kind of wrong is seen."""

import asyncio
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from engram_cli.bench import checks
from engram_cli.bench.checks import faults_of
from engram_cli.bench.e2e import Load, load
from engram_cli.bench.stack import Stack, running
from engram_cli.bench.workload import memories

COUNT = 600
CONTENTS = [memory.content for memory in memories(COUNT)]
ANOTHER = "(SELECT embedding FROM {v} WHERE memory_id <> $1 LIMIT 1)"


@dataclass
class Loaded:
    """A running engram with imported memories, and the loop it is used from."""

    runner: asyncio.Runner
    stack: Stack
    load: Load


@pytest.fixture(scope="module")
def loaded() -> Iterator[Loaded]:
    with asyncio.Runner() as runner:
        opened = running()
        stack = runner.run(opened.__aenter__())
        try:
            yield Loaded(runner, stack, runner.run(load(stack, memories(COUNT))))
        finally:
            runner.run(opened.__aexit__(None, None, None))


async def faults_after(stack: Stack, change: str) -> list[str]:
    """Check inside a transaction that never commits."""
    async with stack.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            victim = await connection.fetchval(f"SELECT memory_id FROM {stack.vectors} LIMIT 1")
            await connection.execute(change.replace("{v}", stack.vectors), victim)
            return await faults_of(dataclasses.replace(stack, pool=connection), CONTENTS)
        finally:
            await transaction.rollback()


def test_what_an_import_left_passes(loaded):
    assert loaded.runner.run(faults_of(loaded.stack, CONTENTS)) == []


def test_the_cpu_of_every_process_is_told(loaded):
    assert 0 < loaded.load.stored_s <= loaded.load.total_s
    cpu_s = loaded.load.cpu_s
    assert {"client", "ingest", "embedder", "curator", "postgres", "nats"} <= cpu_s.keys()
    assert min(cpu_s["postgres"], cpu_s["ingest"], cpu_s["embedder"]) > 0


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("DELETE FROM {v} WHERE memory_id = $1", "599 vectors instead of 600"),
        ("UPDATE {v} SET memory_id = gen_random_uuid() WHERE memory_id = $1", "599 vectors"),
        ("UPDATE {v} SET version = 2 WHERE memory_id = $1", "599 current"),
        (f"UPDATE {{v}} SET embedding = {ANOTHER} WHERE memory_id = $1", "599 different vectors"),
        (
            "UPDATE {v} SET embedding = embedding + embedding WHERE memory_id = $1",
            "1 of 600 sampled vectors",
        ),
        ("UPDATE engram.memory SET state = 'archived' WHERE id = $1", "599 memories"),
        ("UPDATE engram.memory SET content = 'other' WHERE id = $1", "1 of 600 sampled vectors"),
    ],
)
def test_what_is_wrong_is_seen(loaded, monkeypatch, change, fault):
    monkeypatch.setattr(checks, "SAMPLE", COUNT)
    found = loaded.runner.run(faults_after(loaded.stack, change))
    assert any(said.startswith(fault) for said in found), found
