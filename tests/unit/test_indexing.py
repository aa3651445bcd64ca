"""Which indexes are built, merged and dropped, and which way a search goes."""

import itertools
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from engram.domain.indexing import (
    EXACT_ROWS,
    LOADING_TAIL_ROWS,
    MAX_RANGES,
    MAX_SCOPES,
    TAIL_ROWS,
    Build,
    Range,
    Scope,
    Size,
    choose_route,
    plan_build,
    unwanted,
    wanted_scopes,
)

W = UUID(int=1)
WHOLE, NAMED = Scope(W), Scope(W, "user:a")


def grown(tails: list[int]) -> list[list[Range]]:
    """The ranges after each tail has been planned and built."""
    ranges: list[Range] = []
    history = []
    names = itertools.count()
    seq = 0
    for tail in tails:
        seq += tail
        covered = max((item.high for item in ranges), default=0)
        build = plan_build(Size(WHOLE, seq, seq), ranges, seq - covered)
        if build is not None:
            ranges = [item for item in ranges if item.name not in build.replaces]
            ranges.append(Range(f"r{next(names)}", WHOLE, build.low, build.high, build.rows))
        history.append(sorted(ranges, key=lambda item: item.low))
    return history


@given(st.lists(st.integers(1, 100_000), max_size=60))
def test_ranges_never_exceed_four_nor_leave_a_gap_and_the_tail_stays_short(
    tails: list[int],
) -> None:
    total = 0
    for tail, ranges in zip(tails, grown(tails), strict=True):
        total += tail
        assert len(ranges) <= MAX_RANGES
        ends = [0, *(item.high for item in ranges)]
        assert [item.low for item in ranges] == ends[:-1]
        assert all(item.rows == item.high - item.low for item in ranges)
        assert total - ends[-1] <= TAIL_ROWS


def test_a_row_is_indexed_a_few_times_only_while_a_million_arrive() -> None:
    history = grown([TAIL_ROWS] * 50)
    built, known = 0, set()
    for ranges in history:
        built += sum(item.rows for item in ranges if item.name not in known)
        known |= {item.name for item in ranges}
    assert built <= 8 * 50 * TAIL_ROWS


def test_a_bulk_of_rows_becomes_one_range_at_once() -> None:
    assert plan_build(Size(WHOLE, 10**6, 2 * 10**6), [], TAIL_ROWS) == Build(
        WHOLE, 0, 2 * 10**6, 10**6
    )


def test_nothing_is_built_while_the_tail_is_short() -> None:
    ranges = [Range("a", WHOLE, 0, 50_000, 50_000)]
    assert plan_build(Size(WHOLE, 60_000, 60_000), ranges, 10_000) is None


def test_a_load_is_indexed_after_it_or_where_the_tail_would_grow_too_long() -> None:
    ranges = [Range("a", WHOLE, 0, 50_000, 50_000)]
    size = Size(WHOLE, 10**6, 10**6)
    assert plan_build(size, ranges, TAIL_ROWS, loading=True) is None
    assert plan_build(size, [], LOADING_TAIL_ROWS, loading=True) is not None
    assert plan_build(size, ranges, TAIL_ROWS) is not None


def test_ranges_whose_rows_have_gone_are_built_anew_as_one() -> None:
    ranges = [Range("a", WHOLE, 0, 90, 90_000), Range("b", WHOLE, 90, 130, 40_000)]
    build = plan_build(Size(WHOLE, 30_000, 140), ranges, 5)
    assert build == Build(WHOLE, 0, 140, 30_000, ("b", "a"))


def test_a_scope_gets_an_index_above_a_tail_and_keeps_it_down_to_the_exact_size() -> None:
    between = [Size(WHOLE, EXACT_ROWS + 1, 9)]
    assert wanted_scopes(between, set()) == []
    assert wanted_scopes(between, {WHOLE}) == between
    assert wanted_scopes([Size(WHOLE, EXACT_ROWS, 9)], {WHOLE}) == []
    assert wanted_scopes([Size(WHOLE, TAIL_ROWS + 1, 9)], set()) != []


def test_a_dominant_namespace_shares_its_workspaces_index_and_others_get_their_own() -> None:
    sizes = [
        Size(WHOLE, 200_000, 9),
        Size(Scope(W, "big"), 120_000, 9),
        Size(Scope(W, "half"), 60_000, 9),
    ]
    assert [size.scope.namespace for size in wanted_scopes(sizes, set())] == [None, "half"]
    kept = wanted_scopes(sizes, {Scope(W, "big")})
    assert Scope(W, "big") in {size.scope for size in kept}


@given(st.lists(st.integers(0, 10**6), max_size=200), st.sets(st.integers(0, 199)))
def test_only_the_largest_scopes_are_indexed(rows: list[int], indexed: set[int]) -> None:
    sizes = [Size(Scope(UUID(int=i)), count, 9) for i, count in enumerate(rows)]
    wanted = wanted_scopes(sizes, {Scope(UUID(int=i)) for i in indexed})
    assert len(wanted) <= MAX_SCOPES
    assert all(size.rows > EXACT_ROWS for size in wanted)


def test_ranges_of_scopes_no_longer_wanted_are_named() -> None:
    ranges = [Range("a", WHOLE, 0, 9, 9), Range("b", NAMED, 0, 9, 9)]
    assert unwanted(ranges, {WHOLE}) == [ranges[1]]


def test_a_small_namespace_is_scanned_although_an_index_could_serve_it() -> None:
    ranges = [Range("a", NAMED, 0, 9, 90_000), Range("b", WHOLE, 0, 9, 90_000)]
    assert choose_route("user:a", EXACT_ROWS, ranges).kind == "exact"
    assert choose_route("user:a", EXACT_ROWS + 1, ranges).ranges == (ranges[0],)


def test_a_namespace_uses_its_workspaces_index_only_as_a_large_part_of_it() -> None:
    whole = [Range("b", WHOLE, 0, 9, 100_000)]
    assert choose_route("user:a", 60_000, whole).ranges == tuple(whole)
    assert choose_route("user:a", 20_000, whole).kind == "exact"


def test_a_whole_workspace_never_uses_the_index_of_one_of_its_namespaces() -> None:
    assert choose_route(None, 0, [Range("a", NAMED, 0, 9, 90_000)]).kind == "exact"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=8))
def test_whatever_ranges_are_stored_a_route_never_skips_a_row(
    ends: list[tuple[int, int]],
) -> None:
    ranges = [Range(f"r{i}", WHOLE, low, high, 1) for i, (low, high) in enumerate(ends)]
    route = choose_route(None, 0, ranges)
    reached = 0
    for item in route.ranges:
        assert item.low == reached < item.high
        reached = item.high
