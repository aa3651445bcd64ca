"""Which vectors may be stored."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.domain.vectors import ContractViolation, bad_rows, normalise, validate

GOOD = [3.0, 4.0]
BAD = {
    "not finite": [[np.nan, 1], [np.inf, 1], [-np.inf, 0], [np.nan, np.inf], [1e300, 0]],
    "overflows float16": [[65505.0, 0], [0, -1e6], [1e30, 1e30]],
    "zero norm": [[0.0, 0], [1e-7, 0], [1e-45, 0]],
}


@pytest.mark.parametrize(
    ("row", "reason"), [(row, reason) for reason, rows in BAD.items() for row in rows]
)
def test_a_bad_row_is_named_among_good_ones(row, reason):
    vectors = np.array([GOOD, row, GOOD])
    assert bad_rows(vectors) == {1: reason}
    with pytest.raises(ContractViolation) as caught:
        validate(vectors, 3, 2)
    assert caught.value.rows == {1: reason}


def test_a_row_that_rounds_to_nothing_in_float16_is_bad_though_its_norm_is_not():
    row = np.full((1, 3072), 2.0**-25, dtype=np.float32)
    assert np.linalg.norm(row) > 1e-6
    assert not row.astype(np.float16).any()
    assert bad_rows(row) == {0: "vanishes in float16"}


def test_the_largest_float16_is_good():
    assert not bad_rows(np.array([[65504.0, 0]]))


@pytest.mark.parametrize(
    ("shape", "reason"),
    [((2, 2), "expected 3 vectors, got 2"), ((3, 3), "expected 2 dimensions, got 3")],
)
def test_a_wrong_shape_trusts_no_row(shape, reason):
    with pytest.raises(ContractViolation, match=reason) as caught:
        validate(np.ones(shape), 3, 2)
    assert caught.value.rows == {}


@pytest.mark.parametrize("array", [np.ones(6), np.ones((3, 2, 1)), np.float64(1)])
def test_what_is_no_matrix_is_refused(array):
    with pytest.raises(ContractViolation, match="expected a matrix"):
        validate(np.asarray(array), 3, 2)


def test_wrong_count_and_wrong_length_are_both_said():
    with pytest.raises(ContractViolation) as caught:
        validate(np.ones((1, 1)), 3, 2)
    assert len(caught.value.reasons) == 2


def test_no_vectors_for_no_texts_are_fine():
    assert validate(np.empty((0, 4)), 0, 4).shape == (0, 4)


def test_vectors_of_no_length_are_bad():
    assert bad_rows(np.empty((2, 0))) == {0: "zero norm", 1: "zero norm"}


def test_rows_are_scaled_only_where_the_space_is_normalised():
    vectors = np.array([GOOD])
    np.testing.assert_allclose(validate(vectors, 1, 2), [[0.6, 0.8]], atol=1e-7)
    np.testing.assert_array_equal(validate(vectors, 1, 2, normalised=False), vectors)


def test_normalising_leaves_its_input_and_hopeless_rows_alone():
    vectors = np.array([GOOD, [0, 0], [np.nan, 1]], dtype=np.float32)
    before = vectors.copy()
    scaled = normalise(vectors)
    np.testing.assert_array_equal(vectors, before)
    np.testing.assert_array_equal(scaled[1:], before[1:])


numbers = st.floats(width=32) | st.floats(-1, 1, width=32)


@given(st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=1, max_size=8))
def test_what_passes_is_finite_and_of_length_one_in_float16_too(rows):
    vectors = np.array(rows, dtype=np.float32)
    bad = bad_rows(vectors)
    good = np.delete(vectors, list(bad), axis=0)
    stored = validate(good, len(good), 3).astype(np.float16)
    assert np.isfinite(stored).all()
    np.testing.assert_allclose(np.linalg.norm(stored.astype(np.float64), axis=1), 1, atol=2e-3)
