"""The join finds the pairs of a plain float64 product, whatever the vectors and the way."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engram.domain.dedup_near import Near
from engram.domain.pairs import join as joining
from engram.domain.pairs import sketch
from engram.domain.pairs.choice import choose, choose_join, pairs_of, reach
from engram.domain.pairs.exact import Exact
from engram.domain.pairs.few import FEW_ROWS, apart
from engram.domain.pairs.join import Join, prepare
from engram.domain.pairs.sketch import Basis

Found = dict[tuple[int, int], float]


def plain(vectors: NDArray, threshold: float, new: NDArray | None = None) -> Found:
    """Every pair by one float64 product."""
    rows = vectors.astype(np.float64)
    squares = (rows * rows).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = rows @ rows.T / np.sqrt(np.outer(squares, squares))
    wanted = np.triu(np.nan_to_num(cosines, nan=-2.0) >= threshold, 1)
    if new is not None:
        wanted &= new[:, None] | new[None, :]
    return {
        (int(i), int(j)): float(cosines[i, j]) for i, j in zip(*np.nonzero(wanted), strict=True)
    }


def found(join: Join, chunk_pairs: int = 50) -> Found:
    listed: list[tuple[tuple[int, int], float]] = []
    for chunk in join.pairs(chunk_pairs):
        assert 0 < len(chunk.i) <= chunk_pairs
        pairs = zip(chunk.i.tolist(), chunk.j.tolist(), strict=True)
        listed += zip(pairs, chunk.cosines.tolist(), strict=True)
    assert len(dict(listed)) == len(listed), "a pair was given twice"
    return dict(listed)


@contextmanager
def small_tiles() -> Iterator[None]:
    """Make the edges of tiles and panels common."""
    with ExitStack() as stack:
        for name, rows in (("_PANEL_ROWS", 12), ("_TILE_ROWS", 5), ("_TILE_COLUMNS", 7)):
            stack.enter_context(patch.object(joining, name, rows))
        yield


@contextmanager
def free_sketches(*sizes: int) -> Iterator[None]:
    """Let a sketch always be worth it, however much it lets pass."""
    costs = ("_NS_A_FACTOR", "_NS_A_TILE_ELEMENT", "_NS_A_PROJECTED_FACTOR", "_NS_A_CANDIDATE")
    with ExitStack() as stack:
        stack.enter_context(patch.object(sketch, "SIZES", sizes))
        for cost in costs:
            stack.enter_context(patch.object(sketch, cost, 0.0))
        yield


def units(matrix: NDArray) -> NDArray:
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


@st.composite
def vectors_with_everything(draw, threshold: float) -> NDArray:
    """Random rows, copies, zeros, and rows just beside the threshold to another row."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count, dimensions = draw(st.integers(2, 40)), draw(st.sampled_from([2, 3, 16, 24, 64]))
    rank = draw(st.sampled_from([1, 3, dimensions]))
    base = rng.standard_normal((count, rank)) @ rng.standard_normal((rank, dimensions))
    rows = units(base)
    for row in range(1, count):
        other = rows[rng.integers(0, row)]
        match draw(st.sampled_from(["random", "copy", "zero", "beside", "negative"])):
            case "copy":
                rows[row] = other
            case "zero":
                rows[row] = 0.0
            case "negative":
                rows[row] = -other
            case "beside":
                rows[row] = beside(other, threshold, rng)
    return rows.astype(draw(st.sampled_from([np.float16, np.dtype(">f2")])))


def beside(row: NDArray, cosine: float, rng: np.random.Generator) -> NDArray:
    """Return a unit vector at this cosine to a row, up to rounding."""
    across = rng.standard_normal(len(row))
    across -= across @ row * row
    length = np.linalg.norm(across)
    if length < 1e-9 or not row.any():
        return row
    return cosine * row + np.sqrt(1 - cosine**2) * across / length


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from([0.05, 0.5, 0.8, 0.95, 0.999, 1.0]), st.booleans())
def test_the_pairs_and_cosines_of_halves_are_those_of_a_plain_product(data, threshold, pruned):
    vectors = data.draw(vectors_with_everything(threshold))
    new = None
    if data.draw(st.booleans()):
        new = np.array(data.draw(st.lists(st.booleans(), min_size=len(vectors))))[: len(vectors)]
    with small_tiles(), free_sketches(4, 8):
        join = prepare(vectors, threshold, new=new, way="pruned" if pruned else "gemm")
        assert found(join) == clipped(plain(vectors, threshold, new))


def clipped(pairs: Found) -> Found:
    return {pair: min(cosine, 1.0) for pair, cosine in pairs.items()}


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.9, 0.97])
@pytest.mark.parametrize("share_new", [None, 0.02, 0.5])
def test_a_sketched_join_of_clusters_is_complete(threshold, share_new):
    vectors = clusters(1500, 128)
    rng = np.random.default_rng(5)
    new = None if share_new is None else rng.random(len(vectors)) < share_new
    with free_sketches(32):
        join = prepare(vectors, threshold, new=new, way="pruned")
    assert join.size == 32
    assert found(join, 100_000) == clipped(plain(vectors, threshold, new))


def clusters(count: int, dimensions: int) -> NDArray:
    """Clusters in directions of falling weight, a tenth of them near copies, and some copies."""
    rng = np.random.default_rng(3)
    weights = 1 / np.sqrt(np.arange(dimensions) + 2.0)
    centres = rng.standard_normal((20, dimensions)) * weights
    rows = centres[rng.integers(0, 20, count)]
    rows = units(rows + 0.6 * rng.standard_normal((count, dimensions)) * weights)
    for row in range(10, count, 10):
        rows[row] = beside(rows[row // 2], rng.uniform(0.5, 1.0), rng)
    rows[7::50] = rows[3]
    return rows.astype(np.float16)


@settings(deadline=None)
@given(st.data())
def test_no_product_of_sketches_is_below_the_cosine_it_stands_for(data):
    exact = Exact.of(data.draw(vectors_with_everything(0.9)))
    rows = np.flatnonzero(exact.squares > 0)
    dimensions = exact.vectors.shape[1]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    size = data.draw(st.integers(1, dimensions))
    columns, _ = np.linalg.qr(rng.standard_normal((dimensions, size)))
    basis = Basis(columns)
    sketches = basis.sketch(exact, rows)
    cosines = exact.units(rows) @ exact.units(rows).T
    assert (sketches @ sketches.T >= cosines - basis.slack).all()
    assert basis.slack < 2e-5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_longer_floats_and_rows_of_any_length_are_compared_by_direction(dtype):
    rng = np.random.default_rng(11)
    rows = (clusters(300, 64) * rng.uniform(0.01, 100, (300, 1))).astype(dtype)
    expected = plain(rows, 0.85)
    for way in ("gemm", "pruned"):
        pairs = found(prepare(rows, 0.85, way=way))
        assert pairs.keys() == expected.keys()
        assert np.allclose(list(pairs.values()), [expected[p] for p in pairs], atol=1e-14)


def test_a_pair_exactly_at_the_threshold_is_a_pair():
    vectors = np.array([[0.6, 0.8], [1.0, 0.0], [0.8, 0.6]], dtype=np.float64)
    assert found(prepare(vectors, 0.6)).keys() == {(0, 1), (0, 2), (1, 2)}
    assert found(prepare(vectors, np.nextafter(0.6, 1))).keys() == {(0, 2), (1, 2)}


def test_rows_without_a_direction_are_in_no_pair():
    vectors = np.ones((7, 16), dtype=np.float32)
    vectors[1], vectors[2], vectors[3, 0] = 0.0, -0.0, np.nan
    vectors[4, 5], vectors[5] = np.inf, 1e-40
    assert found(prepare(vectors, 0.1)) == {(0, 6): 1.0}
    assert found(prepare(np.zeros((50, 16), np.float16), 0.1)) == {}


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_rows_have_no_pairs(count):
    vectors = np.ones((count, 8), dtype=np.float16)
    assert found(prepare(vectors, 0.9)) == {}
    assert found(prepare(vectors, 0.9, new=np.zeros(count, dtype=bool), way="pruned")) == {}


def test_without_new_rows_nothing_is_compared():
    join = prepare(clusters(60, 64), 0.5, new=np.zeros(60, dtype=bool))
    assert (join.panels, found(join)) == (0, {})


def test_parts_of_a_join_are_the_whole():
    with small_tiles(), free_sketches(8):
        join = prepare(clusters(100, 64), 0.7, way="pruned")
        assert join.panels > 5
        parts = [list(join.distinct_pairs([panel])) for panel in range(join.panels)]
        whole = list(join.distinct_pairs())
    one_by_one = [chunk for part in parts for chunk in part]
    assert all(
        np.array_equal(a, b)
        for one, other in zip(one_by_one, whole, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def test_the_same_vectors_give_the_same_order():
    vectors = clusters(1200, 128)
    first, second = (list(found(prepare(vectors, 0.8, way="pruned"))) for _ in range(2))
    assert first == second


def test_copies_are_compared_once_and_given_in_bounded_chunks():
    vectors = np.repeat(clusters(4, 32)[:1], 1000, axis=0)
    join = prepare(vectors, 0.9)
    assert [len(group) for group in join.twins.groups()] == [1000]
    assert list(join.distinct_pairs()) == []
    sizes = [len(chunk.i) for chunk in join.pairs(10_000)]
    assert (max(sizes) <= 10_000, sum(sizes)) == (True, 1000 * 999 // 2)


def test_a_group_of_near_copies_is_complete():
    rng = np.random.default_rng(1)
    vectors = units(rng.standard_normal(64) + 0.02 * rng.standard_normal((700, 64)))
    join = prepare(vectors.astype(np.float16), 0.9)
    assert sum(len(chunk.i) for chunk in join.pairs()) == 700 * 699 // 2


def test_vectors_that_differ_only_beyond_their_first_bytes_are_told_apart():
    vectors = np.eye(40, dtype=np.float16)[20:]
    assert list(prepare(vectors, 0.9).twins.groups()) == []


@pytest.mark.parametrize(
    ("vectors", "threshold", "new"),
    [
        (np.ones((2, 2)), 0.0, None),
        (np.ones((2, 2)), 1.1, None),
        (np.ones((2, 2)), float("nan"), None),
        (np.ones(2), 0.9, None),
        (np.ones((2, 2), dtype=np.int64), 0.9, None),
        (np.ones((2, 2)), 0.9, np.array([True])),
        (np.ones((2, 2)), 0.9, np.array([0, 1])),
    ],
)
def test_what_is_out_of_range_is_refused(vectors, threshold, new):
    with pytest.raises(ValueError):
        prepare(vectors, threshold, new=new)


def test_small_namespaces_are_multiplied_and_large_ones_are_sketched():
    assert [choose(n, n) for n in (0, 1, 100, 2_000)] == ["gemm"] * 4
    assert [choose(n, n) for n in (20_000, 100_000, 1_000_000)] == ["pruned"] * 3


def test_few_new_rows_of_a_large_namespace_are_asked_of_the_database():
    assert choose(100_000, 10) == choose(20_000, 10) == choose(1_000, 1) == "knn"
    assert choose(100_000, 1_000) == "pruned"
    assert choose(15_000, 150) == "gemm"
    assert choose(100_000, 10_000) == "pruned"
    assert choose(900, 1) == "gemm"  # a statement of its own costs what it saves


@given(st.integers(2, 10**6), st.data())
def test_the_choice_never_turns_back_as_more_rows_are_new(n, data):
    ranks = ["knn", "gemm", "pruned"]
    new = sorted(data.draw(st.lists(st.integers(1, n), min_size=2, max_size=6)))
    ways = [ranks.index(choose(n, one)) for one in new]
    assert all(a <= b for a, b in pairwise(ways))


@given(st.integers(0, 10**6), st.data())
def test_what_has_been_read_is_joined_in_numpy(n, data):
    new = data.draw(st.integers(0, n))
    assert choose(n, new) in ("knn", choose_join(n, new))


def single_distances(vectors: NDArray) -> NDArray:
    """Cosine distances in float32, one product after another: the least exact order there is."""
    rows = vectors.astype(np.float32)
    sums = np.zeros((len(rows), len(rows)), dtype=np.float32)
    for column in rows.T:
        sums += column[:, None] * column[None, :]
    lengths = np.diag(sums).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1.0 - sums / np.sqrt(np.outer(lengths, lengths))


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from([0.05, 0.5, 0.8, 0.95, 0.999, 1.0]))
def test_rows_within_reach_of_new_ones_hold_every_pair_and_every_row_that_is_read(data, threshold):
    vectors = data.draw(vectors_with_everything(threshold)).astype(np.float16)
    new = np.array(data.draw(st.lists(st.booleans(), min_size=40, max_size=40)))[: len(vectors)]
    near = single_distances(vectors)[new] <= reach(threshold, vectors.shape[1])
    rows = np.flatnonzero(near.any(axis=0))
    some, whole = (
        Near.of(vectors[rows], new[rows], threshold),
        Near.of(vectors, new, threshold),
    )
    assert rows[some.rows()].tolist() == whole.rows().tolist()
    kept = found(prepare(vectors[rows], threshold, new=new[rows]))
    assert {(int(rows[i]), int(rows[j])): c for (i, j), c in kept.items()} == found(
        prepare(vectors, threshold, new=new)
    )


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_reach_is_hardly_further_than_the_threshold(threshold):
    assert 0 < reach(threshold, 1024) - (1.0 - threshold) < 3e-4


@given(st.integers(0, 60), st.data())
def test_pairs_with_a_new_row_are_counted(n, data):
    new = data.draw(st.integers(0, n))
    assert pairs_of(n, new) == sum(1 for j in range(n) for i in range(j) if i < new)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from([0.05, 0.5, 0.8, 0.95, 0.999, 1.0]))
def test_few_vectors_are_called_apart_only_where_there_is_no_pair(data, threshold):
    vectors = data.draw(vectors_with_everything(threshold)).astype(np.float16)
    new = np.array(data.draw(st.lists(st.booleans(), min_size=len(vectors))))[: len(vectors)]
    assert not (apart(vectors, threshold) and plain(vectors, threshold))
    assert not (apart(vectors, threshold, new) and plain(vectors, threshold, new))


def test_few_vectors_that_are_far_from_one_another_are_apart():
    vectors = np.eye(16, dtype=np.float16)
    assert apart(vectors, 0.05)
    near = np.vstack((vectors, vectors[3]))
    assert not apart(near, 0.999)
    old = np.ones(17, dtype=bool)
    old[[3, 16]] = False
    assert apart(near, 0.999, old)
    assert not apart(near, 0.999, ~old)


def test_what_one_product_does_not_settle_is_left_to_the_join():
    vectors = np.eye(600, dtype=np.float16)
    assert not apart(vectors[: FEW_ROWS + 1], 0.5)
    assert not apart(vectors[:16].astype(np.float32), 0.5)
    for value in (0.0, np.nan, np.inf):
        assert not apart(np.vstack((vectors[:16], np.full(600, value, np.float16))), 0.5)
