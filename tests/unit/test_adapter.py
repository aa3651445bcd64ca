"""Adapters: a map is fitted on pairs, measured on others, and told when waiting is better."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.domain import adapter
from engram.domain.vectors import Matrix, normalise

TOPICS, OLD, NEW = 24, 48, 32


def texts(count: int, seed: int = 1) -> Matrix:
    """Return what texts mean, as few numbers: what two models have in common."""
    chance = np.random.default_rng(seed)
    return chance.normal(size=(count, TOPICS)).astype(np.float32)


def spaces(meant: Matrix, noise: float, seed: int = 2) -> tuple[Matrix, Matrix]:
    """Return the same texts in two spaces, each with its own axes and its own noise."""
    chance = np.random.default_rng(seed)
    made = []
    for dimensions in (OLD, NEW):
        axes = chance.normal(size=(TOPICS, dimensions))
        own = noise * chance.normal(size=(len(meant), dimensions)) * np.sqrt(TOPICS)
        made.append(normalise(meant @ axes + own))
    return made[0], made[1]


def test_a_map_of_a_shared_meaning_brings_old_vectors_to_where_new_ones_lie() -> None:
    found, measured = adapter.fit(*spaces(texts(2_000), noise=0.05))
    assert found.kind == "ridge"
    assert measured.cosine > 0.97
    assert measured.overlap > 0.8
    assert measured.pairs + measured.held_out == 2_000


def test_two_models_that_share_nothing_are_told_to_wait() -> None:
    _, old = spaces(texts(1_000, seed=3), noise=0.1)
    _, new = spaces(texts(1_000, seed=4), noise=0.1)
    _, measured = adapter.fit(old, new)
    assert measured.overlap < 0.2
    # Neither does the old space answer like the new one: no map is worth less than a bad map.
    assert abs(measured.overlap - measured.overlap_waiting) < 0.1


@pytest.mark.parametrize(
    ("overlap", "waiting", "is_worth_reading"),
    [(0.6, 0.5, True), (0.6, 0.58, False), (0.6, 0.7, False), (0.2, 0.0, False)],
)
def test_a_map_is_read_only_when_it_clearly_beats_the_old_space(
    overlap: float, waiting: float, is_worth_reading: bool
) -> None:
    found = adapter.Measured(100, 25, 0.9, 0.8, overlap, 0.9, waiting)
    assert found.is_worth_reading is is_worth_reading


def test_a_pure_rotation_is_found_to_the_rounding() -> None:
    chance = np.random.default_rng(5)
    old = normalise(chance.normal(size=(800, OLD)))
    turn = np.linalg.qr(chance.normal(size=(OLD, OLD)))[0]
    found, measured = adapter.fit(old, old @ turn)
    assert measured.cosine > 0.999
    assert measured.overlap > 0.99
    assert np.allclose(found.apply(old[:3]), old[:3] @ turn, atol=0.02)


def test_the_held_out_pairs_are_never_fitted_on() -> None:
    old, new = spaces(texts(1_000), noise=0.05)
    spoilt = new.copy()
    spoilt[::5] = normalise(np.random.default_rng(6).normal(size=spoilt[::5].shape))
    honest, _ = adapter.fit(old, new)
    fooled, measured = adapter.fit(old, spoilt)
    assert np.array_equal(honest.matrix, fooled.matrix)
    assert measured.overlap < 0.2


def test_half_a_backfill_answers_better_than_none_of_it() -> None:
    _, measured = adapter.fit(*spaces(texts(2_000), noise=0.3))
    assert measured.overlap < measured.overlap_half < 1.0


@pytest.mark.parametrize("count", [0, adapter.MIN_PAIRS - 1])
def test_too_few_pairs_are_refused(count: int) -> None:
    old, new = spaces(texts(adapter.MIN_PAIRS), noise=0.1)
    with pytest.raises(ValueError, match="pairs"):
        adapter.fit(old[:count], new[:count])


def test_vectors_of_one_direction_only_do_not_break_the_fit() -> None:
    same = np.tile(normalise(np.ones((1, OLD))), (adapter.MIN_PAIRS, 1))
    found, _ = adapter.fit(same, same[:, :NEW])
    assert np.isfinite(found.matrix).all()
    assert np.allclose(np.linalg.norm(found.apply(same[:2]), axis=1), 1.0, atol=1e-5)


@given(rows=st.integers(1, 20), seed=st.integers(0, 1_000))
def test_mapped_vectors_can_always_be_stored(rows: int, seed: int) -> None:
    old = normalise(np.random.default_rng(seed).normal(size=(rows, OLD)))
    mapped = FITTED.apply(old)
    assert mapped.shape == (rows, NEW)
    assert mapped.dtype == np.float32
    assert np.allclose(np.linalg.norm(mapped, axis=1), 1.0, atol=1e-5)


FITTED, _ = adapter.fit(*spaces(texts(600), noise=0.2))
