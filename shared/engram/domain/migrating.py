"""Phases of a migration between spaces: which verb may be done when, and why not.

The driver and the routes ask; nobody else decides. `docs/migrating.md` draws the same table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from engram.errors import ConflictError

Phase = Literal["planned", "dual_write", "backfill", "verified", "cut_over", "released", "aborted"]
Verb = Literal["start", "pause", "resume", "verify", "cutover", "rollback", "release", "abort"]
NamespaceState = Literal["waiting", "backfilling", "complete", "verified", "failed", "cut_over"]

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
VERBS: Final[tuple[Verb, ...]] = get_args(Verb)
NAMESPACE_STATES: Final[tuple[NamespaceState, ...]] = get_args(NamespaceState)
# What the migrator does; the others are done by whoever asks.
WISHES: Final[tuple[Verb, ...]] = ("start", "verify", "cutover", "rollback", "release", "abort")
UNDER_WAY: Final[tuple[Phase, ...]] = ("dual_write", "backfill", "verified", "cut_over")
ENDED: Final[tuple[Phase, ...]] = ("released", "aborted")

# From a phase to those that may follow it; a phase is never left for any other.
MOVES: Final[dict[Phase, tuple[Phase, ...]]] = {
    "planned": ("dual_write", "aborted"),
    "dual_write": ("backfill", "aborted"),
    "backfill": ("verified", "cut_over", "aborted"),
    "verified": ("backfill", "cut_over", "aborted"),
    "cut_over": ("backfill", "verified", "released"),
    "released": (),
    "aborted": (),
}

# Phases in which a verb means anything, and those in which its work is done already.
_ALLOWED: Final[dict[Verb, tuple[Phase, ...]]] = {
    "start": ("planned",),
    "pause": ("dual_write", "backfill"),
    "resume": ("dual_write", "backfill"),
    "verify": ("backfill", "verified"),
    "cutover": ("backfill", "verified"),
    "rollback": ("backfill", "verified", "cut_over"),
    "release": ("cut_over",),
    "abort": ("planned", "dual_write", "backfill", "verified"),
}
_DONE: Final[dict[Verb, tuple[Phase, ...]]] = {
    "start": UNDER_WAY,
    "cutover": ("cut_over",),
    "release": ("released",),
    "abort": ("aborted",),
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is asked of a migration before a verb is done.

    Attributes:
        phase: where it is.
        paused: its backfill does not queue anything.
        wish: the verb the migrator has still to do, None for none.
        others_under_way: another migration is under way.
        namespaces: how many are in each state, of those the verb names.
        reading_target: namespaces or workspaces that read the target now.
    """

    phase: Phase
    paused: bool = False
    wish: str | None = None
    others_under_way: bool = False
    namespaces: tuple[tuple[NamespaceState, int], ...] = ()
    reading_target: int = 0

    def count(self, *states: NamespaceState) -> int:
        """Return how many namespaces are in one of these states."""
        return sum(number for state, number in self.namespaces if state in states)

    @property
    def total(self) -> int:
        """Return how many namespaces there are."""
        return sum(number for _, number in self.namespaces)


def is_done(facts: Facts, verb: Verb) -> bool:
    """Whether asking for the verb again changes nothing: it is answered, not refused."""
    if verb == "pause":
        return facts.paused and facts.phase in _ALLOWED["pause"]
    if verb == "resume":
        return not facts.paused and facts.phase in _ALLOWED["resume"]
    if verb == "rollback" and facts.phase in ("backfill", "verified"):
        return facts.count("cut_over") == 0 and facts.reading_target == 0
    return facts.phase in _DONE.get(verb, ())


def may(facts: Facts, verb: Verb) -> ConflictError | None:
    """Return why a verb may not be done, None when it may be (or is done already)."""
    if is_done(facts, verb):
        return None
    if facts.phase not in _ALLOWED[verb]:
        return _wrong_phase(facts.phase, verb)
    if _waits(facts, verb):
        return ConflictError(
            "migration_busy",
            f"The migrator is still to do {facts.wish}.",
            cure="Wait for it (`engram migrate status --watch`), or abort.",
        )
    condition = _CONDITIONS.get(verb)
    return condition(facts) if condition else None


def _waits(facts: Facts, verb: Verb) -> bool:
    # Whatever is going on, one may hold it, go back, or give it up; the same wish is one wish.
    if facts.wish in (None, verb) or verb in ("pause", "resume", "rollback"):
        return False
    return not (verb == "abort" and facts.wish in ("start", "verify"))


def _wrong_phase(phase: Phase, verb: Verb) -> ConflictError:
    if phase in ENDED:
        return ConflictError(
            "migration_over",
            f"The migration is {phase}: nothing can be done with it any more.",
            cure="Plan another one (`engram migrate plan --to …`).",
        )
    wanted = ", ".join(_ALLOWED[verb])
    return ConflictError(
        "wrong_phase",
        f"{verb} is possible in the phases {wanted}; the migration is in {phase}.",
        cure=_CURES.get((phase, verb), _NEXT[phase]),
    )


_NEXT: Final[dict[Phase, str]] = {
    "planned": "Start it: `engram migrate start`.",
    "dual_write": "Wait until its backfill has begun and ended.",
    "backfill": "Wait for the backfill, then `engram migrate verify`.",
    "verified": "Cut over: `engram migrate cutover`.",
    "cut_over": "Release the old space, or roll back first.",
    "released": "Plan another one.",
    "aborted": "Plan another one.",
}
_CURES: Final[dict[tuple[Phase, Verb], str]] = {
    ("cut_over", "abort"): "Roll back first: `engram migrate rollback`.",
    ("cut_over", "verify"): "Roll back first, then verify again.",
    ("planned", "abort"): "It has not been started: start another plan instead.",
}


def _start(facts: Facts) -> ConflictError | None:
    if not facts.others_under_way:
        return None
    return ConflictError(
        "migration_under_way",
        "Another migration is under way; there is one at a time.",
        cure="Release or abort that one first (`engram migrate list`).",
    )


def _verify(facts: Facts) -> ConflictError | None:
    if facts.total == 0 or facts.count("waiting", "backfilling") == 0:
        return None
    open_ = facts.count("waiting", "backfilling")
    return ConflictError(
        "backfill_not_complete",
        f"The backfill of {open_} of {facts.total} namespaces has not ended.",
        cure="Wait for it (`engram migrate status --watch`), or verify those that are complete.",
    )


def _cutover(facts: Facts) -> ConflictError | None:
    ready = facts.count("verified", "cut_over")
    if facts.total == ready:
        return None
    return ConflictError(
        "not_verified",
        f"{facts.total - ready} of {facts.total} namespaces have not been verified.",
        cure="Verify first: `engram migrate verify`; `status` shows why a namespace failed.",
    )


def _abort(facts: Facts) -> ConflictError | None:
    if facts.count("cut_over") == 0 and facts.reading_target == 0:
        return None
    return ConflictError(
        "target_is_read",
        "Namespaces read the new space already.",
        cure="Roll back first: `engram migrate rollback`.",
    )


_CONDITIONS: Final = {"start": _start, "verify": _verify, "cutover": _cutover, "abort": _abort}


def reached(facts: Facts) -> Phase:
    """Return the phase that the states of all its namespaces amount to.

    Only of a migration under way: an ended or planned one stays what it is.
    """
    if facts.phase not in ("backfill", "verified", "cut_over") or facts.total == 0:
        return facts.phase
    if facts.count("cut_over") == facts.total:
        return "cut_over"
    if facts.count("verified", "cut_over") == facts.total:
        return "verified"
    return "backfill"


def follows(before: Phase, after: Phase) -> bool:
    """Whether a migration in ``before`` may enter ``after``; staying where it is may always be."""
    return before == after or after in MOVES[before]
