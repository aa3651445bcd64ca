"""Which faults the fake provider has, and which of those that are asked for comes next."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

FaultKind = Literal[
    "status", "hang", "drip", "reset", "cut", "html", "truncated", "huge", "not_json", "no_data",
    "short_batch", "long_batch", "shuffled", "duplicate_index", "string_index", "missing_index",
    "wrong_dimension", "nan", "zero", "overflow", "text_row", "all_nan",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to answer wrongly, or slowly.

    Attributes:
        kind: what goes wrong; ``status`` answers with ``status``, ``drip`` with the right answer,
            byte by byte.
        status: HTTP status of a ``status`` fault.
        retry_after: value of its Retry-After header, None for no header.
        detail: whether its body has what clients expect of an error.
        location: value of its Location header, None for no header.
        over_s: seconds over which a ``drip`` is spread.
        after_s: seconds before the answer begins, beyond the server's latency.
        only: applies to requests with a text that contains this, and spoils those texts' vectors.
        times: requests it applies to; None for all until ``clear``.
    """

    kind: FaultKind
    status: int = 500
    retry_after: str | None = None
    detail: bool = True
    location: str | None = None
    over_s: float = 10.0
    after_s: float = 0.0
    only: str | None = None
    times: int | None = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise ValueError(f"unknown fault {self.kind!r}")


class Script:
    """Faults in the order they were asked for."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, kind: FaultKind, **options: Any) -> None:
        """Queue a fault; see `Fault` for the options."""
        self._faults.append(Fault(kind, **options))

    def clear(self) -> None:
        """Forget all of them."""
        self._faults.clear()

    def next(self, texts: Sequence[str]) -> Fault | None:
        """Return the first fault that applies to a request with these texts, and count it."""
        for place, fault in enumerate(self._faults):
            if fault.only is None or any(fault.only in text for text in texts):
                self._count(place, fault)
                return fault
        return None

    def _count(self, place: int, fault: Fault) -> None:
        if fault.times is None:
            return
        if fault.times > 1:
            self._faults[place] = dataclasses.replace(fault, times=fault.times - 1)
        else:
            self._faults.pop(place)
