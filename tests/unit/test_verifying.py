"""What a verification measures, and when it says no."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.domain.verifying import (
    Difference,
    Judged,
    Read,
    compare,
    ndcg,
    overlap,
    p95,
    query_of,
    reasons_of,
    recall,
)

ids = st.lists(st.integers(0, 30), unique=True, max_size=20)


@given(ids, ids)
def test_overlap_is_a_share_that_does_not_care_who_is_first(old: list[int], new: list[int]) -> None:
    assert overlap(old, new) == overlap(new, old)
    assert 0 <= overlap(old, new) <= 1
    assert overlap(old, old) == 1


def test_a_space_that_finds_half_overlaps_by_half_at_most() -> None:
    assert overlap([1, 2, 3, 4], [1, 2]) == 0.5
    assert overlap([1, 2], []) == 0
    assert overlap(list(range(20)), list(range(5, 25))) == 0.5


@given(ids, st.sets(st.integers(0, 30), min_size=1))
def test_recall_and_gain_are_shares_and_perfect_orders_are_1(
    found: list[int], relevant: set[int]
) -> None:
    assert 0 <= recall(found, relevant) <= 1
    assert 0 <= ndcg(found, relevant) <= 1 + 1e-9
    assert recall(list(relevant), relevant) == 1
    assert math.isclose(ndcg(list(relevant), relevant), 1)


def test_gain_counts_the_place_and_recall_does_not() -> None:
    assert recall([9, 1], {1}) == recall([1, 9], {1}) == 1
    assert ndcg([9, 1], {1}) == pytest.approx(1 / math.log2(3))


@given(st.text(), st.floats(0, 1, exclude_max=True))
def test_a_query_is_a_contiguous_part_of_the_texts_words(text: str, chance: float) -> None:
    words, taken = text.split(), query_of(text, chance).split()
    assert len(taken) >= min(len(words), 5)
    assert any(words[at : at + len(taken)] == taken for at in range(len(words) + 1))


def test_the_percentile_is_a_measured_value() -> None:
    assert p95([]) is None
    assert p95([3.0]) == 3.0
    assert p95([float(n) for n in range(1, 101)]) == 95.0


def test_a_namespace_without_a_difference_has_no_reason() -> None:
    assert reasons_of(Difference(rows=7), [1.0, 0.999]) == []


@pytest.mark.parametrize(
    ("difference", "code"),
    [
        (Difference(missing=1), "missing"),
        (Difference(dead=1), "dead_letters"),
        (Difference(extra=2), "extra"),
        (Difference(bad=3), "bad_vectors"),
    ],
)
def test_every_kind_of_difference_is_a_reason(difference: Difference, code: str) -> None:
    assert [reason.code for reason in reasons_of(difference, [])] == [code]
    assert difference.mismatches > 0


@pytest.mark.parametrize("cosine", [0.9, -1.0, math.nan])
def test_a_sample_that_does_not_resemble_what_is_stored_is_a_reason(cosine: float) -> None:
    assert [r.code for r in reasons_of(Difference(rows=3), [1.0, cosine])] == ["unlike_samples"]


def reads(count: int, *, new_finds: int) -> list[Read]:
    return [
        Read([n], [n] if n < new_finds else [-1], n, 0.9, 0.8, 0.01, 0.02) for n in range(count)
    ]


def test_a_space_that_finds_as_much_passes_with_its_figures() -> None:
    compared = compare(reads(40, new_finds=40))
    assert compared.reasons == compared.notes == ()
    assert compared.figures["overlap"] == compared.figures["found_new"] == 1
    assert compared.figures["score_drift"] == pytest.approx(-0.1)


def test_a_space_that_finds_clearly_less_fails() -> None:
    compared = compare(reads(40, new_finds=30))
    assert [reason.code for reason in compared.reasons] == ["finds_less"]
    assert compare(reads(10, new_finds=0)).reasons == ()  # chance, but the overlap is told
    assert [note.code for note in compare(reads(10, new_finds=0)).notes] == ["low_overlap"]


def test_a_slow_space_is_told_and_not_refused() -> None:
    slow = [Read([1], [1], 1, 0.9, 0.9, 0.01, 0.5)] * 30
    assert [note.code for note in compare(slow).notes] == ["slower"]


def test_judged_queries_refuse_a_worse_space_and_need_a_few() -> None:
    worse = [Judged([1, 2], [3, 1], {1, 2})] * 5
    assert [r.code for r in compare([], worse).reasons] == ["judged_recall", "judged_ndcg"]
    assert compare([], worse[:4]).reasons == ()
    assert compare([], [Judged([1], [1], {1})] * 9).reasons == ()


def test_nothing_read_gives_figures_without_numbers() -> None:
    compared = compare([])
    assert compared.reasons == compared.notes == ()
    assert compared.figures["overlap"] is None
