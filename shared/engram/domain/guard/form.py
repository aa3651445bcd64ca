"""The canonical form of a text: a sequence of units in which equal keys mean the same."""

from collections.abc import Sequence
from dataclasses import replace

from engram.domain.guard.bounds import bounded
from engram.domain.guard.idioms import plain_speech
from engram.domain.guard.lexicon import words
from engram.domain.guard.manner import mannered
from engram.domain.guard.morphology import forms
from engram.domain.guard.phrases import replaced
from engram.domain.guard.reading import Unit, read
from engram.domain.guard.tagging import tag
from engram.domain.guard.tokens import Raw

Form = tuple[Unit, ...]

_TEMPORAL = frozenset({"date", "weekday", "time"})
_ABOUT = frozenset({"about", "around", "circa", "some", "roughly"})
_RATES = {"day", "week", "month", "year", "hour", "minute", "night", "quarter"}
_PERSON = frozenset({"they", "he", "she"})
_OWNED = frozenset({"their", "his", "her"})


def full_form(tokens: Sequence[Raw], *, spoken: bool) -> Form:
    """Units with phrases replaced; with `spoken` pronouns stand for the user who speaks."""
    units = replaced(_rated(replaced(tag(read(tokens)))))
    units = mannered(bounded(plain_speech(_approximated(units))))
    return tuple(_without_user(units, spoken=spoken))


def _rated(units: Sequence[Unit]) -> list[Unit]:
    """Rule: "a week" after a number is a rate, like "per week"."""
    out = list(units)
    for i in range(1, len(out) - 1):
        if (
            out[i].lemma == "a"
            and out[i + 1].lemma in _RATES
            and (out[i - 1].value or out[i - 1].lemma in {"time", "once", "twice"})
            and not out[i + 1].tag
        ):
            out[i] = replace(out[i], lemma="per", text="per")
    return out


def _approximated(units: list[Unit]) -> list[Unit]:
    """Rule: "about" before a number says that it is not exact."""
    return [
        replace(u, lemma="approximately", tag="")
        if u.lemma in _ABOUT
        and i + 1 < len(units)
        and units[i + 1].sort in {"number", "quantity", "time"}
        else u
        for i, u in enumerate(units)
    ]


def _without_user(units: Sequence[Unit], *, spoken: bool) -> list[Unit]:
    """A missing subject is the user, so "the user", "I" and "my" go where they are one."""
    out: list[Unit] = []
    skip = False
    for i, unit in enumerate(units):
        if skip:
            skip = False
            continue
        following = units[i + 1] if i + 1 < len(units) else None
        if unit.lemma in {"user", "i"} and unit.tag == "" and unit.sort != "name":
            if following is not None and following.lemma == "'s":
                skip = True
            elif not _subject(units, i, out):
                out.append(replace(unit, lemma="user"))
            continue
        if unit.lemma == "my" or (spoken and unit.lemma in _OWNED):
            continue
        if spoken and unit.lemma in _PERSON and _subject(units, i, out):
            continue
        out.append(
            replace(unit, lemma="user") if spoken and unit.lemma in {"them", "him"} else unit
        )
    return out


def _subject(units: Sequence[Unit], i: int, before: Sequence[Unit]) -> bool:
    """Whether a verb follows, perhaps after adverbs, and no preposition leads to it."""
    previous = [u for u in before if u.lemma not in words("articles")]
    if previous and previous[-1].lemma in words("coordinators"):
        return previous[-1].lemma != "or" and _verb_follows(units, i) and len(previous) > 3
    return _verb_follows(units, i)


def _verb_follows(units: Sequence[Unit], i: int) -> bool:
    for unit in units[i + 1 : i + 4]:
        if (
            unit.tag in {"P", "D"}
            or unit.lemma in words("modals")
            or unit.lemma in {"used_to", "must", "may", "can"}
        ):
            return True
        if unit.lemma not in words("adverbs") and unit.lemma not in words("floating"):
            return False
    return False


def reduced(form: Form) -> Form:
    """The form without closed function words, present copulas and the marks between phrases."""
    kept: list[Unit] = []
    for i, unit in enumerate(form):
        following = form[i + 1] if i + 1 < len(form) else None
        if unit.sort == "mark":
            kept.append(_spoken_mark(unit, kept))
        elif unit.lemma == "be" and _droppable(unit, following, kept):
            kept.append(Unit("is", "", "mark", "is"))
        elif not _droppable(unit, following, kept):
            kept.append(unit)
    return tuple(_numbered(kept))


def _spoken_mark(mark: Unit, before: list[Unit]) -> Unit:
    """A comma after "no" makes it an answer; a question mark makes the text a question."""
    if (
        before
        and before[-1].lemma in {"no", "yes"}
        and before[-1].sort == "word"
        and mark.text == ","
    ):
        before[-1] = replace(before[-1], lemma=before[-1].lemma + ",")
    return replace(mark, sort="word") if mark.text == "?" else mark


def _droppable(unit: Unit, following: Unit | None, before: Sequence[Unit]) -> bool:
    """Whether a closed word says nothing where it stands."""
    if unit.sort != "word":
        return False
    if unit.lemma in words("dropped") or unit.lemma == "equals":
        return True
    if unit.lemma == "'s":
        return bool(before) and (before[-1].sort == "quantity" or _common(before[-1]))
    if unit.lemma == "be" and unit.tag == "P":
        return following is None or not (
            following.tag in {"D", "N", "B"} or following.lemma in {"not", "to"}
        )
    return following is not None and _led_in(unit, following, before)


def _led_in(unit: Unit, following: Unit, before: Sequence[Unit]) -> bool:
    """Words that only lead to what follows: "on" Monday, "number" 5512, the "year" 2016."""
    if unit.lemma == "and":
        return following.lemma == "then"
    if unit.lemma in {"on", "at", "in"} and following.sort in _TEMPORAL:
        return not (before and before[-1].lemma in words("focus"))
    if unit.lemma == "on":
        return following.lemma.startswith("every_")
    if unit.lemma == "year":
        return following.sort == "number" and len(following.text) == 4
    return unit.lemma == "number" and following.sort in {"number", "identifier"}


def _common(unit: Unit) -> bool:
    """A common noun in the singular: "client's budget" is "client budget"."""
    return (
        unit.sort == "word"
        and not unit.tag
        and unit.lemma not in words("pronouns")
        and (unit.text.islower() or bool(forms(unit.lemma).noun))
    )


def _numbered(units: Sequence[Unit]) -> list[Unit]:
    """Neighbouring points in time in one order: weekday, date, time."""
    out = list(units)
    rank = {"weekday": 0, "date": 1, "time": 2}
    i = 0
    while i < len(out):
        j = i
        while j < len(out) and out[j].sort in rank:
            j += 1
        if j - i > 1 and len({u.sort for u in out[i:j]}) == j - i:
            out[i:j] = sorted(out[i:j], key=lambda u: rank[u.sort])
        i = max(j, i + 1)
    return out


def keys(units: Sequence[Unit]) -> tuple[str, ...]:
    """The keys without marks: what two texts are compared by."""
    return tuple(u.key for u in units if u.sort != "mark")
