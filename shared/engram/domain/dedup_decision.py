"""What follows from a cosine and a verdict: merge, propose, conflict or leave alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

from engram.domain.guard import Kind, Reason, Verdict


class Action(StrEnum):
    """The four outcomes for a candidate pair."""

    MERGE = "merge"
    PROPOSE = "propose"
    CONFLICT = "conflict"
    DISTINCT = "distinct"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Cosines of one space: models differ, so they are never shared between spaces.

    Attributes:
        merge: from here on a proven pair is merged without asking.
        propose: from here on an unexplained pair is shown to a person, and a contradicting one is
            recorded as a conflict. Not above `merge`.
        may_merge: whether anything may be merged at all, or is only proposed: a space that became
            the one that is read by a migration has to be calibrated first.
    """

    merge: float
    propose: float
    may_merge: bool = True

    def __post_init__(self) -> None:
        if not -1.0 <= self.propose <= self.merge <= 1.0:
            raise ValueError("thresholds must satisfy -1 <= propose <= merge <= 1")


@dataclass(frozen=True, slots=True)
class Decision:
    """An action with all that it rests on, as it is recorded.

    `survivor` is set where the verdict dictates it: the text that contains the other one. Otherwise
    the survivor rule (importance, age) decides.
    """

    action: Action
    cosine: float
    guard: Kind
    reason: Reason | None
    rule_version: str
    survivor: Literal["a", "b"] | None = None


class Judge(Protocol):
    """A language model or cross-encoder that ranks proposals.

    It never merges: `decide` does not know it. Its score orders what a person is shown by ``engram
    dedup proposals list --rank-by``.
    """

    def rank(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """A score for each pair, from 0 (unrelated) to 1 (the same); as many as pairs."""
        ...


def decide(cosine: float, verdict: Verdict, thresholds: Thresholds) -> Decision:
    """Decide one candidate pair; a cosine that is no number never merges nor proposes."""
    return Decision(
        action=_action(cosine, verdict, thresholds),
        cosine=cosine,
        guard=verdict.kind,
        reason=verdict.reason,
        rule_version=verdict.rule_version,
        survivor=_survivor(verdict),
    )


def _action(cosine: float, verdict: Verdict, thresholds: Thresholds) -> Action:
    """Only proof merges; proof between the thresholds, and what is unexplained, is proposed."""
    if not cosine >= thresholds.propose:
        return Action.DISTINCT
    if verdict.proves:
        sure = thresholds.may_merge and cosine >= thresholds.merge
        return Action.MERGE if sure else Action.PROPOSE
    if verdict.kind is Kind.UNEXPLAINED:
        return Action.PROPOSE
    return Action.CONFLICT if verdict.outcome == "conflict" else Action.DISTINCT


def _survivor(verdict: Verdict) -> Literal["a", "b"] | None:
    if verdict.kind is Kind.CONTAINS_A:
        return "a"
    return "b" if verdict.kind is Kind.CONTAINS_B else None
