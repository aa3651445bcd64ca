"""What the comparing process makes of rows when not all of a scope are among them."""

import numpy as np
import pytest

from engram.domain.dedup_decision import Thresholds
from engram_curator.dedup_worker import Vectors, Work, _Sizes

OWNERS = (bytes(range(16)), bytes(16))


def rows(cosine, owners):
    """One old row and a new one at this cosine to it, for each owner."""
    count = 2 * len(owners)
    embeddings = np.tile([[1.0, 0.0], [cosine, np.sqrt(1 - cosine**2)]], (len(owners), 1))
    return Vectors(
        np.ones(count, dtype=np.int32),
        np.array([owner for owner in owners for _ in range(2)], dtype="V16"),
        np.array([bytes([number + 1] * 16) for number in range(count)], dtype="V16"),
        np.ones(count, dtype=np.int32),
        np.tile([5, 11], len(owners)).astype(np.int64),
        embeddings.astype(np.float16),
    )


def near(cosine, sizes, owners=OWNERS[:1]):
    vectors = rows(cosine, owners)
    part = slice(0, 2 * len(owners))
    return list(vectors.scopes(1, part, 10, Thresholds(0.5, 0.5), _Sizes.of(sizes)))


@pytest.mark.parametrize(("size", "found"), [(2, 1), (20_000, 1), (20_001, 0)])
def test_how_near_counts_goes_by_the_whole_scope_and_not_by_what_was_sent(size, found):
    assert len(near(0.7, [(1, OWNERS[0].hex(), size)])) == found
    assert len(near(0.9, [(1, OWNERS[0].hex(), size)])) == 1


def test_each_owner_has_a_size_of_its_own():
    sizes = [(1, OWNERS[0].hex(), 20_001), (1, OWNERS[1].hex(), 2), (2, OWNERS[0].hex(), 2)]
    [scope] = near(0.7, sizes, OWNERS)
    assert sorted(memory.bytes[0] for memory in scope.rows) == [3, 4]
    assert _Sizes.of(sizes).of_namespace(1, 4) == 20_003


def test_without_sizes_all_rows_were_sent():
    assert len(near(0.7, None)) == 1
    assert _Sizes.of(None).of_namespace(1, 4) == 4


def test_a_request_of_an_unknown_kind_is_refused():
    with pytest.raises(KeyError):
        Work().answer({"op": "dance"}, None)
