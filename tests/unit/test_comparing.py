"""When a memory of a file and one of the store are the same, and the account of a comparison."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.domain.comparing import FIELDS, differing, digest, names_of, states_agree
from engram.domain.memory import NewMemory
from engram_cli.comparison import LISTED, open_comparison

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OTHER: dict[str, Any] = {
    "content": "y", "namespace": "n", "user_id": "u", "agent_id": "a", "session_id": "s",
    "app_id": "p", "metadata": {"k": 1}, "categories": ["c"], "importance": 0.1, "pinned": True,
    "expires_at": NOW, "valid_until": NOW, "created_at": NOW.replace(year=2020),
}  # fmt: skip


def memory(name: str = "1", **fields: Any) -> NewMemory:
    return NewMemory(**{"content": "x", "namespace": "global", "external_id": name, **fields})


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_that_differs_is_named_alone(field: str) -> None:
    one = memory(created_at=NOW)
    assert differing(digest(one), digest(replace(one, **{field: OTHER[field]}))) == [field]


def test_a_creation_time_that_the_file_does_not_say_makes_no_difference() -> None:
    assert differing(digest(memory()), digest(memory(created_at=NOW))) == []


numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)


@given(numbers)
def test_a_number_is_the_same_however_postgres_writes_it(number: float) -> None:
    from decimal import Decimal

    import orjson

    stored = orjson.loads(format(Decimal(repr(number)), "f"))
    sent = digest(memory(metadata={"n": number}))
    assert differing(sent, digest(memory(metadata={"n": stored}))) == []


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.text() | st.lists(numbers)))
def test_the_order_of_keys_makes_no_difference(metadata: dict[str, Any]) -> None:
    turned = dict(reversed(metadata.items()))
    assert digest(memory(metadata=metadata)) == digest(memory(metadata=turned))


def test_a_live_memory_may_have_been_absorbed_or_have_faded_but_not_the_other_way() -> None:
    assert states_agree("active", "merged")
    assert states_agree("active", "archived")
    assert states_agree("superseded", "superseded")
    assert not states_agree("superseded", "active")
    assert not states_agree("active", "superseded")


def test_names_of_other_kinds_never_collide() -> None:
    named = names_of(memory(id=UUID(int=1)))
    assert len(set(named)) == 2
    assert names_of(memory(str(UUID(int=1)), source="i"))[0] not in named


def account(
    file: list[NewMemory], store: list[tuple[NewMemory, bool]], *, every_source: bool = True
) -> tuple[dict[str, int], dict[str, dict[str, int]], dict[str, list[dict[str, Any]]], int]:
    with open_comparison() as comparison:
        comparison.add_file(file)
        comparison.add_store(store, every_source=every_source, now=NOW)
        comparison.finish()
        return (
            comparison.counts(),
            comparison.by_namespace(),
            comparison.listed(),
            comparison.equal,
        )


def test_every_memory_of_both_sides_is_in_the_account_once() -> None:
    file = [memory("same"), memory("changed"), memory("gone"), memory("same")]
    store = [
        (memory("same"), True),
        (memory("changed", content="z", pinned=True), False),
        (memory("new", namespace="other"), False),
    ]
    counts, by_namespace, listed, equal = account(file, store)
    assert counts == {"missing": 1, "extra": 1, "different": 1, "missing_vectors": 1}
    assert equal == 1
    assert by_namespace == {
        "global": {"missing": 1, "extra": 0, "different": 1, "missing_vectors": 1},
        "other": {"missing": 0, "extra": 1, "different": 0, "missing_vectors": 0},
    }
    assert listed["different"][0]["fields"] == ["content", "pinned"]
    assert listed["missing"][0]["external_id"] == "gone"


def test_a_record_is_found_by_its_id_when_it_has_no_other_name() -> None:
    one = memory(external_id=None, id=UUID(int=7))
    assert account([one], [(one, True)])[3] == 1


def test_memories_of_other_sources_are_no_business_of_a_foreign_file() -> None:
    file, store = [memory(source="mem0")], [(memory(source="crm"), False)]
    assert account(file, store, every_source=False)[0] == {
        "missing": 1, "extra": 0, "different": 0, "missing_vectors": 0
    }  # fmt: skip
    assert account(file, store)[0]["extra"] == 1


def test_what_is_not_live_needs_no_vector() -> None:
    rest = [memory("a", state="archived"), memory("e", expires_at=NOW)]
    assert account(rest, [(one, False) for one in rest])[0]["missing_vectors"] == 0


def test_what_is_listed_is_bounded_and_counts_are_not() -> None:
    counts, by_namespace, listed, _ = account(
        [memory(str(n), namespace=f"n{n}") for n in range(2_000)], []
    )
    assert (counts["missing"], len(listed["missing"]), len(by_namespace)) == (2_000, LISTED, 1_000)
