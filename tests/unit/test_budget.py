"""The rate budget: no sequence of calls and clocks gets more than the quota in any window."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.domain.budget import (
    DOCUMENT_FLOOR,
    MIN_SHARE,
    OWED_FOR_S,
    QUERY_SHARE,
    Level,
    Quota,
    correct,
    cut,
    fingerprint,
    quota_of,
    refilled,
    take,
)

quotas = st.builds(
    Quota,
    requests=st.integers(3, 100_000),
    tokens=st.integers(1_000, 50_000_000),
    window_s=st.sampled_from([6.0, 60.0]),
    grant_s=st.sampled_from([0.05, 0.5]),
)
# Seconds until the next event (clocks stand, go back and leap), tokens wanted, who, and whether
# the grant is sent at once or at the last moment.
events = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.001, 0.02, 0.3, 1.0, 7.0, 61.0, -5.0]) | st.floats(0, 3),
        st.integers(0, 400_000),
        st.booleans(),
        st.booleans(),
    ),
    max_size=120,
)


def most_in_a_window(sent: list[tuple[float, float]], window_s: float) -> float:
    """The largest sum of what was sent in any half-open window."""
    return max(
        (sum(amount for at, amount in sent if start <= at < start + window_s) for start, _ in sent),
        default=0.0,
    )


@given(quotas, events)
def test_no_window_ever_holds_more_than_the_quota(quota, sequence):
    level, now = Level(), 1000.0
    tokens: list[tuple[float, float]] = []
    calls: list[tuple[float, float]] = []
    for step_s, wanted, query, late in sequence:
        now += step_s
        level, wait_s = take(level, quota, now, wanted, query=query)
        if wait_s == 0:
            sent_at = now + (quota.grant_s if late else 0.0)
            tokens.append((sent_at, quota.cost(wanted, query=query)))
            calls.append((sent_at, 1.0))
    assert most_in_a_window(tokens, quota.window_s) <= quota.tokens * (1 + 1e-9)
    assert most_in_a_window(calls, quota.window_s) <= quota.requests * (1 + 1e-9)


@given(quotas, st.integers(1, 300_000), st.sampled_from([0.0, 0.4]))
def test_the_rate_never_exceeds_the_quota_however_greedily_it_is_asked(quota, wanted, lag):
    """Asking again exactly when told to: the densest sequence there can be."""
    level, now, sent = Level(), 0.0, []
    for _ in range(400):
        level, wait_s = take(level, quota, now, wanted)
        if wait_s == 0:
            sent.append((now + lag * quota.grant_s, quota.cost(wanted)))
        now += max(wait_s, 1e-4)
    assert most_in_a_window(sent, quota.window_s) <= quota.tokens * (1 + 1e-9)


@pytest.mark.parametrize("tokens", [3_000_000, 8_000_000, 16_000_000])
def test_a_saturated_budget_sustains_95_percent_of_the_quota(tokens):
    quota = Quota(2_000, tokens)
    level, now, sent = Level(), 0.0, 0
    while now < 600:
        level, wait_s = take(level, quota, now, quota.max_call_tokens)
        sent += quota.max_call_tokens if wait_s == 0 else 0
        # Nobody wakes on time: every waiter is 50 ms late.
        now += wait_s + 0.05 if wait_s else 0.001
    assert sent / 10 >= 0.95 * tokens


@given(quotas, events)
def test_a_wait_is_never_worth_nothing(quota, sequence):
    level, now = Level(), 0.0
    for step_s, wanted, query, _ in sequence:
        now += abs(step_s)
        level, wait_s = take(level, quota, now, wanted, query=query)
        if wait_s > 0:
            later = now + wait_s * (1 + 1e-6) + 1e-6
            assert take(level, quota, later, wanted, query=query)[1] == 0


def test_queries_take_what_documents_must_leave():
    quota = Quota(2_000, 8_000_000)
    level = refilled(Level(), quota, 60.0)
    while (answer := take(level, quota, 60.0, 10_000))[1] == 0:
        level = answer[0]
    assert level.tokens >= QUERY_SHARE * quota.burst_tokens
    assert take(level, quota, 60.0, 10_000, query=True)[1] == 0


def test_a_429_halves_once_for_calls_that_were_in_flight_together_and_grows_back_slowly():
    quota = Quota(2_000, 8_000_000)
    level = refilled(Level(), quota, 100.0)
    for _ in range(8):
        level = cut(level, quota, 100.2, None)
    assert level.share == 0.5
    assert refilled(level, quota, 110.2).share == pytest.approx(0.6)
    assert refilled(level, quota, 1_000.0).share == 1.0
    for second in range(20):
        level = cut(level, quota, 101.5 + second, None)
    assert level.share >= MIN_SHARE
    assert level.share < 0.1


@given(quotas, st.floats(0.01, 3600), st.booleans())
def test_nothing_is_granted_before_retry_after(quota, retry_after_s, query):
    level = cut(refilled(Level(), quota, 50.0), quota, 50.0, retry_after_s)
    for part in (0.0, 0.5, 0.999):
        assert take(level, quota, 50.0 + part * retry_after_s, 1, query=query)[1] > 0


@given(quotas, st.floats(allow_nan=True, allow_infinity=True))
def test_no_retry_after_shuts_a_budget_for_ever(quota, retry_after_s):
    level = cut(Level(), quota, 0.0, retry_after_s)
    assert take(level, quota, 100_000.0, 1)[1] == 0


@given(quotas, st.floats(-1e6, 1e6))
def test_a_correction_never_lifts_the_level_above_a_burst(quota, more):
    level = correct(refilled(Level(), quota, 1_000.0), quota, more)
    assert level.tokens <= quota.burst_tokens
    assert level.tokens <= refilled(Level(), quota, 1_000.0).tokens - min(more, 0) + 1e-6


def test_an_underestimate_is_paid_back_before_the_next_call():
    quota = Quota(2_000, 8_000_000)
    level, wait_s = take(refilled(Level(), quota, 60.0), quota, 60.0, 10_000)
    assert wait_s == 0
    level = correct(level, quota, 500_000)
    _, wait_s = take(level, quota, 60.0, 10_000)
    assert wait_s == pytest.approx((500_000 - 80_000 + 24_000 - 10_000) / 130_247, rel=0.2)


@pytest.mark.parametrize(
    ("model", "tier", "requests", "tokens"),
    [
        ("voyage-4-lite", 1, 2_000, 16_000_000),
        ("voyage-3.5-lite", 2, 4_000, 32_000_000),
        ("voyage-4", 1, 2_000, 8_000_000),
        ("voyage-3.5", 3, 6_000, 24_000_000),
        ("voyage-4-large", 1, 2_000, 3_000_000),
        ("voyage-3-large", 2, 4_000, 6_000_000),
        ("voyage-of-tomorrow", 1, 2_000, 3_000_000),
    ],
)
def test_the_documented_tiers_are_presets(model, tier, requests, tokens):
    assert quota_of("voyage", model, tier=tier) == Quota(requests, tokens)


def test_a_local_model_is_unlimited_and_a_server_unless_it_is_told():
    for provider in ("minilm", "hashing", "null"):
        assert quota_of(provider, "any", rpm=100, tpm=1_000) is None
    assert quota_of("openai", "any") is None
    assert quota_of("openai", "any", rpm=100).requests == 100
    assert quota_of("openai", "any", rpm=100).tokens > 10**11
    assert quota_of("voyage", "voyage-4", tpm=5_000).tokens == 5_000


def test_a_fingerprint_tells_keys_apart_and_holds_nothing_of_them():
    assert fingerprint("pa-secret") != fingerprint("pa-secreu")
    assert len(fingerprint("pa-secret")) == 16
    assert "secret" not in fingerprint("pa-secret")
    assert fingerprint(None) == fingerprint("")


def test_what_was_granted_early_and_sent_late_still_fits_into_its_window():
    """A full burst, sent at the last moment, and then everything that comes back."""
    quota = Quota(1_000_000, 8_000_000)
    level, now, sent = refilled(Level(), quota, 100.0), 100.0, []
    while now < 100.0 + quota.grant_s + quota.window_s:
        level, wait_s = take(level, quota, now, 4_000, query=True)
        if wait_s == 0:
            sent.append((max(now, 100.0 + quota.grant_s), 4_000.0))
        now += max(wait_s, 1e-4) if wait_s else 0.0
    assert sum(amount for at, amount in sent if at < sent[0][0] + quota.window_s) <= quota.tokens


def test_a_clock_that_swings_to_and_fro_earns_nothing():
    quota = Quota(2_000, 8_000_000)
    level = refilled(Level(), quota, 100.0)
    level = correct(level, quota, level.tokens)
    for _ in range(50):
        level = refilled(refilled(level, quota, 95.0), quota, 100.0)
    assert level.tokens == 0


def test_a_storm_of_queries_leaves_documents_their_floor():
    quota = Quota(2_000, 8_000_000)
    level, now, documents, queries = Level(), 0.0, 0, 0
    while now < 60:
        now += 0.02
        level, wait_s = take(level, quota, now, 20_000)
        documents += 20_000 * (wait_s == 0)
        for _ in range(40):
            level, wait_s = take(level, quota, now, 5_000, query=True)
            queries += 5_000 * (wait_s == 0)
    allowed = 60 * quota.tokens_per_s
    assert documents >= 0.9 * DOCUMENT_FLOOR * allowed
    assert queries >= 0.8 * allowed


def test_queries_owe_documents_nothing_once_those_have_given_up():
    quota = Quota(2_000, 8_000_000)
    level, wait_s = take(Level(at=0.0), quota, 0.0, 50_000)
    assert wait_s > 0
    filled = replace(level, tokens=quota.cost(50_000, query=True), requests=2.0)
    assert take(filled, quota, 0.001, 50_000, query=True)[1] > 0
    assert take(filled, quota, OWED_FOR_S, 50_000, query=True)[1] == 0


def test_a_call_larger_than_a_burst_is_not_kept_waiting_by_small_ones() -> None:
    quota = Quota(2_000, 8_000_000)
    level = replace(Level(), tokens=quota.burst_tokens, requests=quota.burst_requests)
    for step in range(1, 41):
        level, _ = take(level, quota, step * 0.05, 13, query=True)
    _, wait_s = take(level, quota, 2.0, 1_000_000)
    assert wait_s == 0
