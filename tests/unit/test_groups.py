"""Memories merge only where all of them match; the rules of who survives and what it carries."""

from datetime import UTC, datetime, timedelta
from itertools import combinations
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.domain.groups import (
    MAX_ACCESS_COUNT,
    Link,
    Member,
    carried,
    linked_groups,
    settle,
)
from engram.domain.guard.verdict import Kind

START = datetime(2026, 1, 1, tzinfo=UTC)


def memory(number: int) -> UUID:
    return UUID(int=number)


def link(a: int, b: int, cosine: float = 0.9, kind: Kind = Kind.SAME) -> Link:
    return Link(memory(a), memory(b), cosine, kind)


def member(number: int, **fields) -> Member:
    base = {"importance": 0.5, "created_at": START, "reinforced_at": START}
    return Member(memory(number), **{**base, **fields})


def numbers(groups) -> list[tuple[int, ...]]:
    return [tuple(one.int for one in group) for group in groups]


# Few cosines, so that equal ones are common.
links_of_eight = st.dictionaries(
    st.sampled_from(list(combinations(range(8), 2))), st.sampled_from([0.9, 0.95, 0.99])
).map(lambda pairs: [link(a, b, cosine) for (a, b), cosine in pairs.items()])


def test_a_chain_does_not_merge_its_ends() -> None:
    assert numbers(linked_groups([link(1, 2, 0.99), link(2, 3, 0.98)])) == [(1, 2)]


def test_all_who_match_one_another_are_one_group() -> None:
    trio = [link(1, 2, 0.9), link(2, 3, 0.99), link(1, 3, 0.91)]
    assert numbers(linked_groups([*trio, link(8, 9)])) == [(1, 2, 3), (8, 9)]


def test_the_most_alike_merge_first() -> None:
    assert numbers(linked_groups([link(1, 2, 0.9), link(2, 3, 0.95)])) == [(2, 3)]


def test_groups_are_as_alike_as_their_least_alike_members() -> None:
    # 3 is nearest to 1, but {1, 2} formed first, and 3 is farther from 2 than from 4.
    links = [link(1, 2, 0.99), link(1, 3, 0.98), link(2, 3, 0.90), link(3, 4, 0.95)]
    assert numbers(linked_groups(links)) == [(1, 2), (3, 4)]


def test_equal_cosines_are_settled_by_the_smaller_ids() -> None:
    assert numbers(linked_groups([link(2, 3), link(1, 2), link(3, 4)])) == [(1, 2), (3, 4)]


def test_without_links_there_is_no_group() -> None:
    assert linked_groups([]) == []


@pytest.mark.parametrize("wrong", [[link(1, 1)], [link(1, 2, 0.9), link(2, 1, 0.91)]])
def test_links_that_contradict_themselves_are_refused(wrong) -> None:
    with pytest.raises(ValueError):
        linked_groups(wrong)


@given(links_of_eight)
def test_in_a_group_every_two_are_linked_and_nobody_is_in_two_groups(links) -> None:
    groups = linked_groups(links)
    linked = {frozenset((one.a, one.b)) for one in links}
    assert all(frozenset(pair) in linked for group in groups for pair in combinations(group, 2))
    everybody = [one for group in groups for one in group]
    assert len(everybody) == len(set(everybody))


@given(links_of_eight)
def test_no_two_groups_are_left_that_could_merge(links) -> None:
    linked = {frozenset((one.a, one.b)) for one in links}
    groups = linked_groups(links)
    alone = {one for pair in linked for one in pair} - {one for group in groups for one in group}
    for one, other in combinations([*groups, *((lonely,) for lonely in alone)], 2):
        assert not all(frozenset((a, b)) in linked for a in one for b in other)


@given(links_of_eight)
def test_grouping_is_the_plain_definition_of_complete_linkage(links) -> None:
    assert linked_groups(links) == plainly(links)


def plainly(links: list[Link]) -> list[tuple[UUID, ...]]:
    cosines = {frozenset((one.a, one.b)): one.cosine for one in links}
    groups = [(one,) for one in sorted({one for pair in cosines for one in pair})]
    while True:
        options = []
        for one, other in combinations(sorted(groups), 2):
            found = [cosines.get(frozenset((a, b))) for a in one for b in other]
            if None not in found:
                options.append((-min(found), one, other))
        if not options:
            return sorted(group for group in groups if len(group) > 1)
        _, one, other = min(options, key=lambda option: (option[0], option[1][0], option[2][0]))
        groups = [group for group in groups if group not in (one, other)]
        groups.append(tuple(sorted(one + other)))


@given(links_of_eight, st.randoms(use_true_random=False))
def test_the_order_of_links_and_of_their_ends_does_not_matter(links, chance: Random) -> None:
    mixed = [Link(one.b, one.a, one.cosine) if chance.random() < 0.5 else one for one in links]
    chance.shuffle(mixed)
    assert linked_groups(mixed) == linked_groups(links)


def test_two_hundred_copies_are_one_group() -> None:
    clique = [link(a, b, 1.0) for a, b in combinations(range(200), 2)]
    assert numbers(linked_groups(clique)) == [tuple(range(200))]


def test_the_text_that_holds_the_others_survives_even_if_it_matters_less() -> None:
    members = [member(1, importance=0.9), member(2, importance=0.1)]
    settled = settle(members, [link(1, 2, kind=Kind.CONTAINS_B)])
    assert (settled.survivor, settled.absorbed) == (memory(2), (memory(1),))


def test_of_equal_texts_the_more_important_survives_then_the_older_then_the_smaller_id() -> None:
    same = [link(1, 2)]
    later = START + timedelta(seconds=1)
    assert settle([member(1), member(2, importance=0.6)], same).survivor == memory(2)
    assert settle([member(1, created_at=later), member(2)], same).survivor == memory(2)
    assert settle([member(2), member(1)], same).survivor == memory(1)


def test_a_pinned_memory_survives_among_equals() -> None:
    settled = settle([member(1, importance=1.0), member(2, pinned=True)], [link(1, 2)])
    assert (settled.survivor, settled.absorbed, settled.apart) == (memory(2), (memory(1),), ())


def test_a_pinned_memory_is_never_absorbed_but_proposed() -> None:
    settled = settle([member(1), member(2, pinned=True)], [link(1, 2, kind=Kind.CONTAINS_A)])
    assert (settled.survivor, settled.absorbed, settled.apart) == (memory(1), (), (memory(2),))


def test_of_two_pinned_memories_neither_is_absorbed() -> None:
    pair = [member(1, pinned=True), member(2, pinned=True), member(3)]
    settled = settle(pair, [link(1, 2), link(1, 3), link(2, 3)])
    assert settled.survivor == memory(1)
    assert (settled.absorbed, settled.apart) == ((memory(3),), (memory(2),))


def test_nothing_is_absorbed_that_the_survivor_does_not_hold() -> None:
    # 1 holds 2, 2 holds 3, but what 1 and 3 share was found the other way round.
    links = [link(1, 2, kind=Kind.CONTAINS_A), link(2, 3, kind=Kind.CONTAINS_A)]
    settled = settle([member(1), member(2), member(3)], [*links, link(1, 3, kind=Kind.CONTAINS_B)])
    assert (settled.survivor, settled.absorbed, settled.apart) == (
        memory(1),
        (memory(2),),
        (memory(3),),
    )


@pytest.mark.parametrize("state", ["superseded", "archived", "merged", "deleted", "staged"])
def test_what_is_not_active_neither_survives_nor_merges(state) -> None:
    gone = member(1, state=state, importance=1.0, pinned=True)
    assert settle([gone, member(2)], [link(1, 2)]) is None
    settled = settle([gone, member(2), member(3)], [link(1, 2), link(1, 3), link(2, 3)])
    assert (settled.survivor, settled.absorbed, settled.apart) == (memory(2), (memory(3),), ())


members_of_five = st.lists(
    st.builds(
        lambda importance, age_s, pinned: member(
            0, importance=importance, created_at=START + timedelta(seconds=age_s), pinned=pinned
        ),
        st.sampled_from([0.1, 0.5]),
        st.sampled_from([0, 1]),
        st.booleans(),
    ),
    min_size=5,
    max_size=5,
)
mergeable = st.sampled_from([Kind.SAME, Kind.CONTAINS_A, Kind.CONTAINS_B])


@given(members_of_five, st.lists(mergeable, min_size=10, max_size=10), st.permutations(range(5)))
def test_whoever_is_absorbed_is_held_by_the_survivor_and_not_pinned(shapes, kinds, order) -> None:
    members = [
        member(n, importance=s.importance, created_at=s.created_at, pinned=s.pinned)
        for n, s in enumerate(shapes)
    ]
    links = [
        link(a, b, kind=kind) for (a, b), kind in zip(combinations(range(5), 2), kinds, strict=True)
    ]
    settled = settle(members, links)
    held = {(one.a, one.b) for one in links if one.kind in (Kind.SAME, Kind.CONTAINS_A)}
    held |= {(one.b, one.a) for one in links if one.kind in (Kind.SAME, Kind.CONTAINS_B)}
    assert all((settled.survivor, one) in held for one in settled.absorbed)
    assert not any(members[one.int].pinned for one in settled.absorbed)
    everybody = sorted((settled.survivor, *settled.absorbed, *settled.apart))
    assert everybody == [memory(n) for n in range(5)]
    assert settle([members[n] for n in order], links[::-1]) == settled


def test_a_survivor_carries_the_most_of_everything_and_the_earliest_creation() -> None:
    day = timedelta(days=1)
    kept = member(1, importance=0.4, access_count=3, created_at=START + day)
    gone = member(2, importance=0.7, access_count=4, last_accessed_at=START + 2 * day)
    old = member(3, created_at=START - day, reinforced_at=START + 3 * day)
    total = carried(kept, [gone, old])
    assert (total.importance, total.access_count, total.created_at) == (0.7, 7, START - day)
    assert (total.reinforced_at, total.last_accessed_at) == (START + 3 * day, START + 2 * day)
    assert carried(kept, [old, gone]) == total


def test_a_count_of_accesses_stays_within_its_column() -> None:
    full = member(1, access_count=MAX_ACCESS_COUNT)
    assert carried(full, [member(2, access_count=1)]).access_count == MAX_ACCESS_COUNT


def test_a_memory_that_absorbs_nothing_carries_what_it_has() -> None:
    alone = carried(member(1, access_count=2), [])
    assert (alone.importance, alone.access_count, alone.last_accessed_at) == (0.5, 2, None)
