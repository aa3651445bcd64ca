"""Imports slow down while others ask, lose no item by it, and hurry again afterwards."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.errors import Fault
from engram.importers.record import Found
from engram_ingest.import_batches import Batch
from engram_ingest.import_pace import Pace


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def batch_of(indexes, refused):
    batch = Batch(after=max(indexes) + 1, read_bytes=77)
    for index in indexes:
        found = Found(index, None, None, None, None)
        if index in refused:
            batch.refused.append((found, Fault("", "bad", "is bad")))
        else:
            batch.taken.append((found, object()))
    return batch


def indexes_of(batch):
    return sorted(found.index for found, _ in (*batch.taken, *batch.refused))


@given(st.integers(1, 700), st.sets(st.integers(0, 700)), st.integers(0, 10_000))
def test_steps_are_the_batch_in_order_and_move_on_to_the_same_place(count, refused, start):
    pace = Pace()
    pace.note("/v1/memories")
    batch = batch_of(range(start, start + count), {start + n for n in refused})
    steps = list(pace.steps(batch))
    assert [i for step in steps for i in indexes_of(step)] == list(range(start, start + count))
    assert [step.after for step in steps] == [indexes_of(step)[-1] + 1 for step in steps]
    assert [step.read_bytes for step in steps] == [0] * (len(steps) - 1) + [77]
    assert max(len(step) for step in steps) <= 100


def test_alone_a_batch_is_stored_as_a_whole(clock):
    pace = Pace(clock)
    batch = batch_of(range(1_000), set())
    assert list(pace.steps(batch)) == [batch]
    pace.note("/v1/memories/search")
    assert pace.shared
    clock.now += 1.5
    assert not pace.shared
    assert list(pace.steps(batch)) == [batch]


@pytest.mark.parametrize("route", ["/v1/imports/{import_id}", "/v1/memories/import", "none"])
def test_whoever_watches_an_import_does_not_slow_it_down(clock, route):
    pace = Pace(clock)
    pace.note(route)
    assert not pace.shared


async def test_while_others_ask_a_step_is_followed_by_a_rest(clock):
    pace = Pace(clock)
    started = time.monotonic()
    await pace.rest(30.0)
    assert time.monotonic() - started < 0.1
    pace.note("/v1/memories")
    await pace.rest(0.05)
    assert time.monotonic() - started > 0.09
