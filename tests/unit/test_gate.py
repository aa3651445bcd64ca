"""The way to a provider: bounded calls in flight, and none while a known-good text fails."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from engram.domain.retry import ErrorClass
from engram.domain.spaces import parse_embedding
from engram.embedding.probe import KNOWN_GOOD
from engram.embedding.provider import Embedded, Kind, Limits, ProviderError
from engram_embedder import gate as module
from engram_embedder.gate import Gate, Gates
from tests.support.wait import eventually


class Scripted:
    """A provider that fails as told, and answers when ``go`` is set."""

    spec = parse_embedding("openai:local-model@2")
    limits = Limits(100, 1_000)

    def __init__(self) -> None:
        self.fails: ErrorClass | None = None
        self.go = asyncio.Event()
        self.go.set()
        self.calls: list[str] = []
        self.open_now = self.most_open = 0

    async def embed(self, texts: Sequence[str], kind: Kind) -> Embedded:
        del kind
        self.calls.append(texts[0])
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        fails = self.fails
        try:
            await self.go.wait()
            for _ in range(20):
                await asyncio.sleep(0)  # others get their turn, as with a real call
        finally:
            self.open_now -= 1
        if fails is not None:
            raise ProviderError(fails, "Scripted.")
        return Embedded(np.ones((len(texts), 2), dtype=np.float32), 1)

    async def close(self) -> None:
        """Nothing is open."""


class Clock:
    """A steady clock that only a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


async def fail(gate: Gate, provider: Scripted, text: str = "a text") -> bool:
    """Make one failing call and say whether the provider is down."""
    with pytest.raises(ProviderError) as failed:
        await gate.embed(provider, [text])
    return await gate.is_down(provider, failed.value)


async def test_calls_in_flight_stay_within_the_window_and_it_grows_while_it_is_full(
    clock: Clock,
) -> None:
    gate, provider = Gate("openai", "m"), Scripted()
    provider.go.clear()
    calls = [asyncio.create_task(gate.embed(provider, [f"{n}"])) for n in range(80)]
    await eventually(lambda: provider.open_now == 4)
    provider.go.set()
    await asyncio.gather(*calls)
    assert 4 < provider.most_open <= 32


async def test_timeouts_and_429_halve_the_window_and_other_failures_do_not(clock: Clock) -> None:
    gate, provider = Gate("openai", "m"), Scripted()
    for fails, left in (("timeout", 2), ("rate_limited", 1), ("rejected", 1)):
        provider.fails = fails
        clock.now += 10
        with pytest.raises(ProviderError):
            await gate.embed(provider, ["a text"])
        assert gate._window.calls == left


async def test_an_outage_costs_one_probe_an_interval_and_no_other_call(clock: Clock) -> None:
    gate, provider = Gate("openai", "m"), Scripted()
    provider.fails = "server"
    assert await fail(gate, provider)
    assert provider.calls == ["a text", KNOWN_GOOD]
    probes = 0
    for _ in range(600):
        clock.now += 1
        before = len(provider.calls)
        with pytest.raises(ProviderError):
            await gate.embed(provider, ["waits"])
        await asyncio.gather(*(gate.probe_if_due(provider) for _ in range(3)))
        probes += len(provider.calls) - before
    assert set(provider.calls[1:]) == {KNOWN_GOOD}
    assert 600 / 8.5 <= probes <= 600 / 5


async def test_it_closes_when_the_known_good_text_passes(clock: Clock) -> None:
    gate, provider = Gate("openai", "m"), Scripted()
    provider.fails = "connection"
    assert await fail(gate, provider)
    provider.fails = None
    clock.now += 8
    await gate.probe_if_due(provider)
    assert not gate.paused
    assert len((await gate.embed(provider, ["a text"])).vectors) == 1


async def test_a_text_that_fails_alone_never_pauses_its_neighbours(clock: Clock) -> None:
    gate, provider = Gate("openai", "m"), Scripted()
    for _ in range(50):
        error = ProviderError("server", "Only for this text.")
        assert not await gate.is_down(provider, error)
        await gate.embed(provider, ["a neighbour"])
        clock.now += 0.5
    assert provider.calls.count("a neighbour") == 50
    # Known-good answers hold for a while: they are not asked for at each failure.
    assert provider.calls.count(KNOWN_GOOD) <= 50 * 0.5 / 5 + 1


async def test_work_waits_for_the_answer_of_a_probe_and_is_not_sent_if_that_fails(
    clock: Clock,
) -> None:
    gate, provider = Gate("openai", "m"), Scripted()
    provider.fails = "server"
    with pytest.raises(ProviderError) as failed:
        await gate.embed(provider, ["first"])
    provider.go.clear()
    down = asyncio.create_task(gate.is_down(provider, failed.value))
    await eventually(lambda: provider.calls == ["first", KNOWN_GOOD])
    neighbour = asyncio.create_task(gate.embed(provider, ["neighbour"]))
    other = asyncio.create_task(gate.is_down(provider, failed.value))
    provider.go.set()
    assert (await down, await other) == (True, True)
    with pytest.raises(ProviderError):
        await neighbour
    assert provider.calls == ["first", KNOWN_GOOD]


async def test_a_rate_limited_probe_means_that_somebody_answers(clock: Clock) -> None:
    gate, provider = Gate("openai", "m"), Scripted()
    provider.fails = "rate_limited"
    assert not await gate.is_down(provider, ProviderError("server", "Scripted."))


async def test_a_probe_that_is_cancelled_keeps_nobody_out_for_long(clock: Clock) -> None:
    gate, provider = Gate("openai", "m"), Scripted()
    provider.go.clear()
    probe = asyncio.create_task(gate.is_down(provider, ProviderError("server", "Scripted.")))
    await eventually(lambda: provider.calls)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    provider.go.set()
    clock.now += 1
    await gate.probe_if_due(provider)
    assert not gate.paused


async def test_spaces_of_one_model_share_a_gate() -> None:
    gates = Gates()
    assert gates.of("voyage", "voyage-4") is gates.of("voyage", "voyage-4")
    assert gates.of("voyage", "voyage-4") is not gates.of("voyage", "voyage-4-lite")
