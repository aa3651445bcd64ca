"""Streams in a cluster whose servers have not all joined yet: waited for, then said plainly."""

from typing import Any

import nats.js.errors
import pytest

from engram.broker import topology
from engram.errors import UnavailableError


class Young:
    """A cluster that places nothing before it was asked so many times.

    Args:
        refusals: how often it refuses.
        code: of what it refuses with.
    """

    def __init__(self, refusals: int, code: int = 10005) -> None:
        self.refusals = refusals
        self.code = code
        self.made: list[str] = []

    async def stream_info(self, name: str) -> Any:
        raise nats.js.errors.NotFoundError(code=404, err_code=10059, description=name)

    async def add_stream(self, config: Any) -> None:
        if self.refusals:
            self.refusals -= 1
            raise nats.js.errors.BadRequestError(code=400, err_code=self.code)
        self.made.append(config.name)

    async def consumer_info(self, stream: str, name: str) -> Any:
        assert stream in self.made
        raise nats.js.errors.NotFoundError(code=404, err_code=10014, description=name)

    async def add_consumer(self, stream: str, config: Any) -> None:
        assert (stream in self.made, config.durable_name != "") == (True, True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology, "_JOINING_POLL_S", 0.0)


async def test_streams_are_made_once_enough_servers_have_joined() -> None:
    young = Young(refusals=5)
    made = await topology.reconcile(young, [], replicas=3)  # type: ignore[arg-type] # a stand-in
    assert list(made.streams) == young.made == [str(config.name) for config in topology.STREAMS]


async def test_servers_that_never_join_are_named_with_their_cure() -> None:
    with pytest.raises(UnavailableError) as refused:
        await topology.reconcile(Young(refusals=10_000), [])  # type: ignore[arg-type] # as above
    assert refused.value.code == "nats_too_few_servers"
    assert "ENGRAM_REPLICAS" in refused.value.cure


async def test_nothing_else_is_waited_for() -> None:
    broken = Young(refusals=10_000, code=10047)
    with pytest.raises(UnavailableError) as refused:
        await topology.reconcile(broken, [])  # type: ignore[arg-type] # as above
    assert (refused.value.code, broken.refusals) == ("nats_no_room", 9_999)
