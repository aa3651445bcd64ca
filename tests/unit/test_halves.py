"""Vectors are sent exactly as pgvector's own class would send them, one after another."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pgvector import HalfVector

from engram.storage.halves import encode, to_wire

MATRICES = arrays(
    st.sampled_from([np.float16, np.float32]),
    st.tuples(st.integers(1, 5), st.integers(1, 40)),
    elements=st.floats(-60_000, 60_000, width=16),
)


@given(MATRICES)
def test_each_row_is_sent_as_pgvector_sends_it(vectors):
    assert to_wire(vectors) == [HalfVector(row).to_binary() for row in vectors]


def test_columns_of_a_larger_array_are_sent_like_a_copy_of_them():
    part = np.arange(24, dtype=np.float32).reshape(4, 6)[:, 1:4]
    assert to_wire(part) == to_wire(part.copy())


def test_a_single_vector_is_encoded_and_one_that_is_ready_is_left_alone():
    vector = HalfVector([1.0, -2.0, 0.5])
    assert encode(vector) == encode(vector.to_binary()) == vector.to_binary()
