"""Looks at the pipeline through the operations port: its picture, rates, and what is wrong."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

_TIMEOUT_S: Final = 5.0
_WINDOW: Final = 10
# Relays publish within a second and lanes within a few: what is older waits for somebody.
OUTBOX_LATE_S: Final = 30.0
LANE_STALLED_S: Final = 60.0
BULK_LATE_S: Final = 3600.0
LOW_SHARE: Final = 0.5

Picture = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something in the pipeline that a person should know of.

    Attributes:
        stage: where it is.
        grave: nothing gets better by itself.
    """

    stage: str
    grave: bool
    detail: str
    cure: str


def fetch(ops_url: str) -> dict[str, Any] | None:
    """Return the picture that ``/pipeline`` draws, None where there is none to be had."""
    import httpx

    try:
        answer = httpx.get(f"{ops_url}/pipeline", timeout=_TIMEOUT_S)
        picture = answer.json() if answer.is_success else None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None
    return picture if isinstance(picture, dict) and "at" in picture else None


@dataclass(slots=True)
class Course:
    """The last pictures, for rates that do not jump: Postgres reports its totals once a second."""

    pictures: deque[Picture] = field(default_factory=lambda: deque(maxlen=_WINDOW))

    def add(self, picture: Picture) -> None:
        """Take the newest picture."""
        self.pictures.append(picture)

    def rates(self) -> dict[str, float]:
        """Return what flows, a second: ``in``, ``published``, and vectors by space."""
        if len(self.pictures) < 2:
            return {}
        before, now = self.pictures[0], self.pictures[-1]
        seconds = (_at(now) - _at(before)).total_seconds()
        if seconds <= 0:
            return {}
        first, last = _totals(before), _totals(now)
        # A total falls when the statistics are reset: then there is nothing to tell.
        return {
            name: max(0.0, (last[name] - first[name]) / seconds) for name in last if name in first
        }


def _at(picture: Picture) -> datetime:
    return datetime.fromisoformat(picture["at"])


def _totals(picture: Picture) -> dict[str, int]:
    totals = {
        "in": picture["in"]["stored_total"],
        "published": picture["outbox"]["published_total"],
    }
    return totals | {space["space"]: space["written_total"] for space in picture["spaces"]}


def troubles(picture: Picture) -> list[Trouble]:
    """Return what is wrong in a picture, in the order things flow."""
    return list(
        itertools.chain(
            _of_doors(picture),
            *(_of_space(space) for space in picture["spaces"]),
            _of_providers(picture),
            _of_letters(picture),
            _of_sweeps(picture),
        )
    )


def _of_doors(picture: Picture) -> Iterator[Trouble]:
    outbox, commands = picture["outbox"], picture["in"]["commands"]
    if outbox["oldest_s"] > OUTBOX_LATE_S:
        yield Trouble(
            "outbox",
            True,
            f"{outbox['lines']:,} events are unpublished, the oldest {outbox['oldest_s']:.0f} s.",
            "NATS takes nothing: see its disk and log, and ingest's log for `relay waits`.",
        )
    yield from _of_lane("commands", commands, "Is ingest running? See its log.")


def _of_lane(stage: str, lane: Mapping[str, Any], cure: str) -> Iterator[Trouble]:
    if "error" in lane:
        yield Trouble(stage, True, lane["error"], "Check ENGRAM_NATS_URL and the server.")
    elif lane["stalled_s"] > LANE_STALLED_S:
        waiting = lane["pending"] + lane["in_flight"]
        detail = f"{waiting:,} wait, and none was done for {lane['stalled_s']:.0f} s."
        yield Trouble(stage, True, detail, cure)


def _of_space(space: Mapping[str, Any]) -> Iterator[Trouble]:
    key = space["space"]
    yield from _of_lane(f"lane of {key}", space["live"], "Is an embedder running? See its log.")
    if space["refused"]:
        yield Trouble(
            f"provider of {key}",
            True,
            "The provider refuses us: key, plan, address or model.",
            "Correct the key or the address and start the embedders anew; work goes on by itself.",
        )
    elif waiting := sum(space["retrying"].values()):
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in space["retrying"].items())
        detail = f"{waiting:,} texts are tried again ({kinds})."
        yield Trouble(f"provider of {key}", False, detail, "Nothing, if it passes: see its status.")
    if space["dead"]:
        yield Trouble(
            f"vectors of {key}",
            False,
            f"{space['dead']:,} texts were given up.",
            "`engram dead-letters list` says why; `engram dead-letters replay` tries again.",
        )
    if space["bulk"]["oldest_s"] > BULK_LATE_S:
        detail = f"The oldest batch has waited {space['bulk']['oldest_s'] / 3600:.1f} h."
        cure = "More embedders, or a higher quota at the provider."
        yield Trouble(f"bulk lane of {key}", False, detail, cure)


def _of_providers(picture: Picture) -> Iterator[Trouble]:
    for provider in picture["providers"]:
        if provider["share"] < LOW_SHARE:
            detail = (
                f"{provider['model']} answers 429: {provider['share']:.0%} of the quota is used."
            )
            cure = "Set ENGRAM_PROVIDER_RPM and ENGRAM_PROVIDER_TPM to what your plan allows."
            yield Trouble(provider["provider"], False, detail, cure)


def _of_letters(picture: Picture) -> Iterator[Trouble]:
    for kind, count in picture["dead_letters"].items():
        cure = "`engram dead-letters list` shows each with its reason."
        yield Trouble("dead letters", False, f"{count:,} of kind {kind}.", cure)


def _of_sweeps(picture: Picture) -> Iterator[Trouble]:
    for sweep in picture["sweeps"]:
        stage = f"sweep {sweep['name']}"
        if sweep["late"]:
            detail = f"Due for {-sweep['due_in_s']:.0f} s, and nobody runs it."
            yield Trouble(stage, True, detail, "Is a curator running? See its log.")
        elif sweep["last_error"]:
            detail = f"Its last run failed: {sweep['last_error']}."
            yield Trouble(stage, False, detail, "It runs again when due; see the curator's log.")
