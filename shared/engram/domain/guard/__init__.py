"""The guard: a proof that two texts say the same, not a filter; see docs/dedup.md."""

from engram.domain.guard.examine import examine
from engram.domain.guard.verdict import RULE_VERSION, Difference, Kind, Reason, Verdict

__all__ = ["RULE_VERSION", "Difference", "Kind", "Reason", "Verdict", "examine"]
