"""What the guard found out about two texts: the verdict and the differences it rests on."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

RULE_VERSION = "2"
"""Recorded with each decision; changes whenever a rule or a list of words changes."""


class Kind(StrEnum):
    """What may follow from a comparison. Only the first three permit a merge."""

    SAME = "same"
    CONTAINS_A = "contains_a"
    CONTAINS_B = "contains_b"
    DIFFERENT = "different"
    UNEXPLAINED = "unexplained"


class Reason(StrEnum):
    """Why two texts are known to differ."""

    NUMBER = "number"
    DATE_TIME = "date_time"
    QUANTITY = "quantity"
    IDENTIFIER = "identifier"
    NEGATION = "negation"
    NAME = "name"
    ATTRIBUTE = "attribute"
    ROLE = "role"
    MODALITY = "modality"
    TENSE = "tense"
    SCOPE = "scope"
    CONDITION = "condition"
    ORDER = "order"
    CASE = "case"
    ADDITION = "addition"


CONTRADICTING = frozenset(
    {Reason.NUMBER, Reason.DATE_TIME, Reason.QUANTITY, Reason.NEGATION, Reason.TENSE}
    | {Reason.MODALITY, Reason.SCOPE, Reason.CONDITION, Reason.ORDER}
)
"""Reasons that make two texts about one matter a conflict; the others leave two matters."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference: the rule that explains it or the reason it stands, and both sides."""

    rule: str
    a: str = ""
    b: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of `examine`.

    `CONTAINS_A` says that text a holds all of b, so a must survive; `CONTAINS_B` the reverse.
    """

    kind: Kind
    reason: Reason | None = None
    explained: tuple[Difference, ...] = ()
    unexplained: tuple[Difference, ...] = ()
    rule_version: str = RULE_VERSION

    @property
    def proves(self) -> bool:
        """Whether every difference is explained, so that a merge loses nothing."""
        return self.kind in {Kind.SAME, Kind.CONTAINS_A, Kind.CONTAINS_B}

    @property
    def outcome(self) -> Literal["conflict", "distinct"] | None:
        """For `DIFFERENT`: whether the two contradict each other or are two matters."""
        if self.reason is None:
            return None
        return "conflict" if self.reason in CONTRADICTING else "distinct"
