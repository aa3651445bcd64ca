"""Bounds, ranges, duties and contrasts: the ways English has to say one and the same of them."""

import re
from collections.abc import Sequence
from dataclasses import replace

from engram.domain.guard.lexicon import words
from engram.domain.guard.reading import Unit

_POINTS = frozenset({"time", "date", "weekday"})
# What moves from one day to another: there "from" says which way.
_MOVING = frozenset({"move", "shift", "postpone", "change", "reschedule", "push", "bring", "delay"})
_UP_TO = {"time": {"to", "until", "till", "thru", "through"}, "date": {"to", "through", "thru"},
          "weekday": {"to", "through", "thru"}}  # fmt: skip
_OVER = {"large", "big", "great", "larger", "bigger", "greater"}
_UNDER = {"small", "smaller", "low", "lower"}
_MORE = ("more", "above", "over", "higher", "greater", "longer")
_LESS = ("fewer", "less", "below", "under", "lower", "shorter")
_OR_MORE = {**dict.fromkeys(_MORE, "at_least"), **dict.fromkeys(_LESS, "at_most")}
_FINITE = frozenset({"P", "D"})


def bounded(units: Sequence[Unit]) -> list[Unit]:
    """All rewritings one after another."""
    out = list(units)
    for rule in (_ranges, _exceeding, _or_more, _duties, _able, _contrasted, _released, _shared):
        out = rule(out)
    return out


def _ranges(units: list[Unit]) -> list[Unit]:
    """Rule: "from 9 am until 5 pm" is "9 am to 5 pm"; "Mon-Fri", "Monday through Friday"."""
    out: list[Unit] = []
    moving = any(u.lemma in _MOVING for u in units)
    for i, unit in enumerate(units):
        if not moving and unit.lemma == "from" and _is_range(units, i + 1):
            continue
        if _is_range(units, i - 1) and unit.lemma in {"until", "till", "through", "thru"}:
            ranged = not moving and (units[i - 2].lemma == "from" if i > 1 else False)
            out.append(replace(unit, lemma="to") if ranged or unit.lemma != "until" else unit)
            continue
        out.append(_whole_day(unit, units[i + 2]) if _is_range(units, i) else unit)
    return out


def _whole_day(begin: Unit, end: Unit) -> Unit:
    """Rule: before "to 17:00" the clock has 24 hours, so 9:00 is in the morning."""
    afternoon = end.lemma.startswith("t:") and end.text[:2].isdigit() and ":" in end.text
    if not afternoon or not begin.lemma.startswith("t?:") or ":" not in begin.text:
        return begin
    hour, minute = begin.lemma.removeprefix("t?:").split(":")
    at = int(hour) * 60 + int(minute)
    return replace(begin, lemma=f"t:{at}") if at < int(end.lemma[2:]) else begin


def _is_range(units: Sequence[Unit], i: int) -> bool:
    if i < 0 or i + 2 >= len(units) or units[i].sort not in _POINTS:
        return False
    sort = units[i].sort
    return units[i + 2].sort == sort and units[i + 1].lemma in _UP_TO[sort]


def _exceeding(units: list[Unit]) -> list[Unit]:
    """Rule: "larger than 25 MB" and "in excess of 25 MB" are "over 25 MB"."""
    out: list[Unit] = []
    i = 0
    while i < len(units):
        lemma = units[i].lemma
        after = units[i + 1].lemma if i + 1 < len(units) else ""
        if after == "than" and lemma in _OVER | _UNDER and _sized(units, i + 2):
            out.append(_word("more_than" if lemma in _OVER else "less_than"))
            i += 2
        elif [u.lemma for u in units[i : i + 3]] == ["in", "excess", "of"] and _sized(units, i + 3):
            out.append(_word("more_than"))
            i += 3
        elif lemma in {"over", "above"} and _sized(units, i + 1):
            out.append(_word("more_than"))
            i += 1
        elif lemma in {"under", "below"} and _sized(units, i + 1):
            out.append(_word("less_than"))
            i += 1
        else:
            out.append(units[i])
            i += 1
    return _without_of(out)


def _sized(units: Sequence[Unit], i: int) -> bool:
    return i < len(units) and units[i].sort in {"quantity", "number"}


def _without_of(units: list[Unit]) -> list[Unit]:
    """Rule: "uploads of more than 25 MB" are "uploads over 25 MB"."""
    bounds = {"more_than", "less_than", "at_least", "at_most"}
    return [
        u
        for i, u in enumerate(units)
        if not (
            u.lemma == "of"
            and i + 2 < len(units)
            and units[i + 1].lemma in bounds
            and units[i + 2].sort == "quantity"
        )
    ]


def _or_more(units: list[Unit]) -> list[Unit]:
    """Rule: "8 GB or more" is "at least 8 GB"."""
    for i in range(len(units) - 1):
        if units[i].lemma != "or" or units[i + 1].lemma not in _OR_MORE:
            continue
        if i + 2 < len(units) and units[i + 2].lemma == "than":
            continue
        at = next((j for j in (i - 1, i - 2) if _sized(units, j) and j >= 0), None)
        if at is not None and (at == i - 1 or units[i - 1].sort == "word"):
            bound = _word(_OR_MORE[units[i + 1].lemma])
            return [*units[:at], bound, *units[at:i], *units[i + 2 :]]
    return units


def _duties(units: list[Unit]) -> list[Unit]:
    """Rule: "has to", "is required to" are "must"; "is not allowed to" is "must not"."""
    out: list[Unit] = []
    i = 0
    while i < len(units):
        unit = units[i]
        if unit.lemma == "must" and unit.tag == "P":
            out.append(replace(unit, tag=""))
            i += 1
            continue
        found = _bidden(units, i)
        out.extend(found[0] if found else [unit])
        i += found[1] if found else 1
    return out


def _bidden(units: Sequence[Unit], i: int) -> tuple[list[Unit], int] | None:
    if units[i].lemma != "be" or units[i].tag != "P":
        return None
    said = [u.lemma for u in units[i + 1 : i + 4]]
    if said[:2] in (["need", "to"], ["require", "to"], ["oblige", "to"]):
        return [_word("must")], 3
    if said == ["not", "allow", "to"]:
        return [_word("must_not")], 4
    if said[:2] == ["forbid", "to"]:
        return [_word("must_not")], 3
    return None


def _able(units: list[Unit]) -> list[Unit]:
    """Rule: "is able to" is "can", "is unable to" and "is not able to" are "cannot"."""
    out: list[Unit] = []
    i = 0
    while i < len(units):
        said = [u.lemma for u in units[i + 1 : i + 4]]
        now = units[i].lemma == "be" and units[i].tag == "P"
        if now and said[:2] == ["able", "to"]:
            out.append(_word("can"))
            i += 3
        elif now and (said == ["not", "able", "to"] or said[:2] == ["unable", "to"]):
            out.extend((_word("can"), _word("not")))
            i += 4 if said[0] == "not" else 3
        else:
            out.append(units[i])
            i += 1
    return out


def _contrasted(units: list[Unit]) -> list[Unit]:
    """Rule: ", not coffee" and "but not coffee" at the end are "instead of coffee"."""
    for i in range(2, len(units) - 1):
        if units[i].lemma != "not" or not _closing(units, i + 1):
            continue
        start = i
        if units[start - 1].lemma in {"but", "and"}:
            start -= 1
        if units[start - 1].text == ",":
            start -= 1
        if start < i and start > 1:
            return [*units[:start], _word("instead_of"), *units[i + 1 :]]
    return [replace(u, lemma="instead_of") if u.lemma == "rather_than" else u for u in units]


def _released(units: list[Unit]) -> list[Unit]:
    """Rule: after a name "3.11" is version 3.11, and "v20" is 20; written digits stay."""
    return [
        replace(u, lemma=_release(u)) if i and units[i - 1].sort == "name" else u
        for i, u in enumerate(units)
    ]


def _release(unit: Unit) -> str:
    if unit.lemma.startswith("n:") and re.fullmatch(r"\d+(?:\.\d+)+", unit.text):
        return "ver:" + unit.text
    if unit.lemma.startswith("ver:") and "." not in unit.lemma:
        return "n:" + unit.lemma.removeprefix("ver:")
    return unit.lemma


def _shared(units: list[Unit]) -> list[Unit]:
    """Rule: "half the staff" is "half of the staff" is "50 % of the staff"."""
    return [
        u
        for i, u in enumerate(units)
        if not (u.lemma == "of" and i and units[i - 1].lemma.startswith("q:percent:"))
    ]


def _closing(units: Sequence[Unit], start: int) -> bool:
    """Whether up to the end only a short phrase without a verb follows."""
    rest = [u for u in units[start:] if u.sort != "mark"]
    if not rest or len(rest) > 6 or len(rest) < len(units) - start - 1:
        return False
    barred = words("modals") | words("subordinators") - words("prepositions")
    return all(
        u.tag not in _FINITE | {"B", "X", "N", "G"} and u.lemma not in barred | {"only", "to"}
        for u in rest
    )


def _word(lemma: str) -> Unit:
    return Unit(lemma, "", "word", lemma.replace("_", " "))
