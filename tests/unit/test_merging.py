"""What survivors carry, and what replaying a history without some of it comes to."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from engram.domain.merging import Entry, Values, disagreeing, replayed, together

START = datetime(2026, 1, 1, tzinfo=UTC)
times = st.integers(0, 10**9).map(lambda us: START + timedelta(microseconds=us))
values = st.builds(
    Values,
    importance=st.floats(0.01, 1),
    access_count=st.integers(0, 1000),
    created_at=times,
    reinforced_at=times,
    last_accessed_at=st.none() | times,
    expires_at=st.none() | times,
    updated_at=times,
)


@given(values)
def test_the_ledger_gives_back_what_it_was_given(one: Values) -> None:
    assert Values.from_json(one.to_json()) == one


@given(values, st.lists(values, min_size=1, max_size=4), times)
def test_a_survivor_carries_the_most_of_all(
    before: Values, parts: list[Values], at: datetime
) -> None:
    after = together(before, parts, at)
    everyone = [before, *parts]
    assert after.importance == max(one.importance for one in everyone)
    assert after.access_count == sum(one.access_count for one in everyone)
    assert after.created_at == min(one.created_at for one in everyone)
    assert (after.expires_at is None) == any(one.expires_at is None for one in everyone)
    assert after.updated_at == at


def history(own: Values, groups: list[list[Values]]) -> tuple[list[Entry], Values]:
    """Return the entries of a survivor without edits in between, and what it ends with."""
    entries, now = [], own
    for number, parts in enumerate(groups):
        at = START + timedelta(days=number + 1)
        after = together(now, parts, at)
        entries.append(Entry(now, after, tuple(parts), at))
        now = after
    return entries, now


groups = st.lists(st.lists(values, min_size=1, max_size=3), min_size=1, max_size=4)


@given(values, groups)
def test_replaying_a_history_in_which_nothing_is_missing_changes_nothing(
    own: Values, absorbed: list[list[Values]]
) -> None:
    entries, now = history(own, absorbed)
    found, shift = replayed(entries)
    assert found == entries
    assert shift is not None
    assert shift.moved(now) == now


@given(values, groups, st.data())
def test_replaying_without_some_members_is_the_history_without_them(
    own: Values, absorbed: list[list[Values]], data: st.DataObject
) -> None:
    entries, now = history(own, absorbed)
    kept = [[one for one in group if data.draw(st.booleans())] for group in absorbed]
    left = [replace(entry, parts=tuple(p)) for entry, p in zip(entries, kept, strict=True)]
    wanted, end = history(own, kept)
    found, shift = replayed(left)
    assert shift is not None
    assert shift.moved(now) == end
    assert [(one.before, one.after) for one in found] == [(one.before, one.after) for one in wanted]
    assert replayed(found)[0] == found


@given(values, groups, st.floats(0.01, 1), st.integers(1, 9))
def test_what_was_set_since_stays_and_accesses_since_are_kept(
    own: Values, absorbed: list[list[Values]], importance: float, accesses: int
) -> None:
    entries, now = history(own, absorbed)
    edited = replace(now, importance=importance, access_count=now.access_count + accesses)
    _, shift = replayed([replace(entry, parts=()) for entry in entries])
    assert shift is not None
    moved = shift.moved(edited)
    assert moved.importance == (own.importance if importance == now.importance else importance)
    assert moved.access_count == own.access_count + accesses
    assert moved.created_at == own.created_at


def test_metadata_disagrees_when_one_key_has_two_values() -> None:
    assert disagreeing([{"a": 1, "b": 2}, {"a": 1}, {"c": 3}, {}]) is None
    assert disagreeing([{"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}]) is None
    assert disagreeing([{"a": 1}, {"b": 2}, {"b": [2]}]) == "b"
    assert disagreeing([{"a": 1}, {"a": True}]) == "a"
