"""The circuit breaker and the window of calls in flight, as rules."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engram.domain.breaker import (
    FAILURES,
    MIN_PROBE_S,
    PROOF_S,
    Breaker,
    failed,
    may_probe,
    opened,
    probing,
    proven,
    succeeded,
)
from engram.domain.window import Window

steps_s = st.sampled_from([0.0, 0.01, 0.4, 1.0, 5.0, 61.0]) | st.floats(0, 20)
kinds = st.sampled_from(["failure", "refusal", "success", "look"])


@given(st.lists(st.tuples(steps_s, kinds, st.floats(1, 60)), max_size=80))
def test_while_open_it_is_called_once_an_interval_at_most(sequence):
    """The provider is down: every call and every probe fails."""
    breaker, now = Breaker(), 0.0
    probes: list[tuple[float, float]] = []
    for step_s, kind, pause_s in sequence:
        now += step_s
        if breaker.state == "closed" and kind in {"failure", "refusal"}:
            breaker = failed(breaker, now, outage=kind == "failure")
        elif kind == "success":
            breaker = succeeded(breaker)  # a late answer of a call sent before
        if may_probe(breaker, now):
            breaker = probing(breaker, now)
            assert not may_probe(breaker, now) or breaker.state == "suspect"
            breaker = opened(breaker, now, pause_s)
            probes.append((now, pause_s))
        assert breaker.pausing == (breaker.state != "closed")
    for (earlier, pause_s), (later, _) in pairwise(probes):
        assert later - earlier >= pause_s - 1e-9


def test_texts_alone_never_open_it():
    breaker = Breaker()
    for second in range(100):
        breaker = failed(breaker, float(second), outage=True)
        assert not breaker.pausing


def test_a_known_good_text_closes_it_at_once():
    for breaker in (Breaker("suspect"), Breaker("half_open"), Breaker("open", failures=9)):
        assert proven(breaker).state == "closed"
        assert proven(breaker).failures == 0


def test_a_fresh_proof_vouches_for_the_provider_until_failures_outnumber_it():
    breaker = proven(probing(failed(Breaker(), 10.0, outage=True), 10.0))
    for _ in range(50):
        breaker = failed(breaker, 11.5, outage=False)
    assert breaker.state == "closed"
    for _ in range(FAILURES):
        breaker = failed(breaker, 11.5, outage=True)
    assert breaker.state == "suspect"


def test_a_success_between_failures_begins_the_count_anew():
    breaker = proven(probing(failed(Breaker(), 10.0, outage=True), 10.0))
    for _ in range(20):
        breaker = succeeded(failed(breaker, 12.0, outage=True))
    assert breaker.state == "closed"
    assert failed(breaker, 10.0 + PROOF_S, outage=False).state == "suspect"


def test_opening_again_only_ever_makes_it_later():
    breaker = opened(Breaker(), 0.0, 60.0)
    assert opened(breaker, 1.0, 5.0).probe_at == 60.0
    assert opened(breaker, 1.0, 100.0).probe_at == 101.0
    assert opened(Breaker(), 0.0, -5.0).probe_at == MIN_PROBE_S


def test_a_late_success_does_not_close_it():
    assert succeeded(opened(Breaker(), 0.0, 5.0)).state == "open"


@given(st.lists(st.tuples(steps_s, st.booleans(), st.integers(0, 40)), max_size=200))
def test_the_window_stays_between_one_and_its_most(sequence):
    window, now = Window.remote(), 0.0
    for step_s, good, in_flight in sequence:
        now += step_s
        window = window.grown(in_flight) if good else window.shrunk(now)
        assert 1 <= window.calls <= window.most


def test_the_window_grows_while_it_is_full_and_halves_once_for_calls_that_fail_together():
    window = Window.remote()
    assert window.grown(window.calls - 1) == window
    while window.calls < window.most:
        window = window.grown(window.calls)
    for _ in range(10):
        window = window.shrunk(100.0)
    assert window.calls == window.most // 2
    # From here on it takes a whole window of answers to gain one call.
    for _ in range(window.calls + 1):
        window = window.grown(window.calls)
    assert window.calls == window.most // 2 + 1
