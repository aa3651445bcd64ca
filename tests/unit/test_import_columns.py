"""Batches between two processes: what arrives is what was sent, to the type of every value."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.domain.arrival import Arriving, Plan, arriving
from engram.domain.memory import decode_item
from engram.errors import Fault
from engram.importers.record import Found
from engram_ingest.import_batches import Batch, Task
from engram_ingest.import_columns import of_batch, to_batch
from engram_ingest.import_options import Options

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLAN = Plan(job=UUID(int=2))
TASK = Task(UUID(int=1), UUID(int=2), 0, Options(strategy="merge"), 100)

PLAIN = st.sampled_from([1, 1.0, True, "1", None, [], [1], [True]])
TIMES = st.sampled_from([None, "2027-01-01T00:00:00Z", "2027-01-01T01:00:00.000001+01:00"])
FIELDS = st.fixed_dictionaries(
    {"content": st.sampled_from(["tea", " tea", "\u212b", "ale"])},
    optional={
        "user_id": st.sampled_from([None, "u", "v"]),
        "metadata": st.dictionaries(st.sampled_from(["a", "b"]), PLAIN, max_size=2),
        "categories": st.lists(st.sampled_from(["x", "y"]), max_size=2, unique=True),
        "importance": st.sampled_from([0.5, 1, 1.0]),
        "pinned": st.booleans(),
        "external_id": st.sampled_from([None, "1", "2"]),
        "created_at": TIMES,
        "expires_at": TIMES,
        "valid_until": TIMES,
        "last_accessed_at": TIMES,
        "access_count": st.integers(0, 2),
        "id": st.sampled_from([None, str(UUID(int=7)), str(UUID(int=8))]),
    },
)


def taken(index: int, fields: dict[str, Any]) -> tuple[Found, Arriving]:
    memory = decode_item(fields, imported=True)
    one = arriving(TASK.workspace, uuid4(), memory, "merge", NOW, frozenset(fields), PLAN)
    return Found(index, index + 1, fields, None, memory.external_id), one


def passed(batch: Batch) -> Batch:
    return to_batch(orjson.loads(orjson.dumps(of_batch(batch))), TASK, PLAN, UUID)


def shown(batch: Batch) -> list[str]:
    return [repr((f.index, f.line, f.external_id, i.memory)) for f, i in batch.taken]


@given(st.lists(FIELDS, max_size=4))
def test_items_arrive_as_they_were_sent(listed: list[dict[str, Any]]) -> None:
    batch = Batch([taken(*one) for one in enumerate(listed)], after=len(listed), read_bytes=9)
    arrived = passed(batch)
    assert (arrived.after, arrived.read_bytes, arrived.refused) == (len(listed), 9, [])
    assert [item for _, item in arrived.taken] == [item for _, item in batch.taken]
    assert shown(arrived) == shown(batch)


@pytest.mark.parametrize("other", [1.0, True])
def test_values_that_python_calls_equal_stay_what_they_are(other: object) -> None:
    batch = Batch([taken(0, {"content": "a", "metadata": {"n": 1}})])
    batch.taken.append(taken(1, {"content": "b", "metadata": {"n": other}}))
    assert [repr(item.memory.metadata) for _, item in passed(batch).taken] == [
        *("{'n': 1}", f"{{'n': {other}}}"),
    ]


def test_what_is_alike_is_said_once() -> None:
    batch = Batch([taken(at, {"content": f"tea {at}"}) for at in range(100)])
    columns = of_batch(batch)["taken"]
    whole = [column for column in columns if len(column) > 1]
    assert [len(column) for column in whole] == [100] * 5  # index, line, content, id, sha256


def test_refusals_arrive_with_a_name_that_can_be_said() -> None:
    refused = Found(3, None, None, None, "\ud800")
    batch = Batch(refused=[(refused, Fault("/content", "empty", "is empty"))], after=4)
    [(found, fault)] = passed(batch).refused
    assert (found.index, found.line, found.external_id) == (3, None, "?")
    assert (fault.pointer, fault.code, fault.detail) == ("/content", "empty", "is empty")
