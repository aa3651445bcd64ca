"""How long the fake provider takes over an answer: a constant, or drawn from a distribution."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final, Literal, Self, get_args

LatencyKind = Literal["constant", "uniform", "lognormal"]

_FORMS: Final = "Write 0.05, uniform:0.02:0.2 (from, to) or lognormal:0.05:0.5 (median, sigma)."


@dataclass(frozen=True, slots=True)
class Latency:
    """A distribution of seconds.

    Attributes:
        kind: ``constant`` is always ``first_s``; ``uniform`` lies between ``first_s`` and
            ``second``; ``lognormal`` has the median ``first_s`` and ``second`` as the standard
            deviation of its logarithm, which is how the answers of real servers spread.
        first_s: seconds.
        second: seconds for ``uniform``, a plain number for ``lognormal``.
    """

    kind: LatencyKind = "constant"
    first_s: float = 0.0
    second: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.first_s, self.second)
        if self.kind not in get_args(LatencyKind):
            raise ValueError(f"unknown latency {self.kind!r}. {_FORMS}")
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise ValueError(f"a latency is finite and not negative. {_FORMS}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``0.05``, ``uniform:0.02:0.2`` or ``lognormal:0.05:0.5``.

        Raises:
            ValueError: it is none of these.
        """
        kind, *numbers = text.split(":") if ":" in text else ("constant", text)
        expected = 1 if kind == "constant" else 2
        if len(numbers) != expected or kind not in get_args(LatencyKind):
            raise ValueError(f"not a latency: {text!r}. {_FORMS}")
        return cls(kind, *(float(number) for number in numbers))  # type: ignore[arg-type]  # checked above

    def draw_s(self, chance: random.Random) -> float:
        """Seconds that one answer takes."""
        match self.kind:
            case "uniform":
                return chance.uniform(self.first_s, self.second)
            case "lognormal":
                # Drawn even for a median of 0, so that a seed means the same sequence for all.
                return self.first_s * math.exp(chance.gauss(0.0, self.second))
            case _:
                return self.first_s
