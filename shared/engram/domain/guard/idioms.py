"""Small rewritings by which two habits of writing become one: "got closed", "is a surfer"."""

from collections.abc import Sequence
from dataclasses import replace

from engram.domain.guard.lexicon import table, words
from engram.domain.guard.reading import Unit

_FINITE = frozenset({"P", "D"})
_MEASURES = {"weigh": "weight", "last": "duration"}


def plain_speech(units: Sequence[Unit]) -> list[Unit]:
    """All rewritings one after another."""
    out = list(units)
    for rule in (_labelled, _got, _agents, _perfect, _measured, _born, _none_of_it, _dated):
        out = rule(out)
    return out


_CALLINGS = frozenset({"job", "occupation", "profession"})
_REACHED = {"telephone": "tel:", "mobile": "tel:", "cell": "tel:", "fax": "tel:", "email": "id:"}


def _labelled(units: list[Unit]) -> list[Unit]:
    """Rule: "Job: nurse" is "is a nurse", "Allergies: nuts" is "allergic to nuts"."""
    out = _addressed(units)
    if len(out) < 3 or out[1].text != ":" or any(u.tag in _FINITE for u in out):
        return out
    if out[0].lemma in _CALLINGS and not out[0].tag and out[2].sort == "word":
        return [Unit("be", "P", "word", "is"), Unit("a", "", "word", "a"), *out[2:]]
    if out[0].lemma == "allergy":
        return [Unit("allergic", "", "word", "allergic"), Unit("to", "", "word", "to"), *out[2:]]
    return out


def _addressed(units: list[Unit]) -> list[Unit]:
    """Rule: before the number itself "phone" is "phone number", "email" is "email address"."""
    out: list[Unit] = []
    for i, unit in enumerate(units):
        known = out and out[-1].lemma in _REACHED
        if known and unit.lemma in {"number", "address"}:
            ahead = units[i + 1 : i + 4]
            if any(u.lemma.startswith(_REACHED[out[-1].lemma]) for u in ahead):
                continue
        out.append(unit)
    return out


def _got(units: list[Unit]) -> list[Unit]:
    """Rule: "got closed" is "was closed"."""
    return [
        replace(u, lemma="be")
        if u.lemma == "get"
        and u.tag in _FINITE
        and i + 1 < len(units)
        and units[i + 1].tag in {"D", "N"}
        else u
        for i, u in enumerate(units)
    ]


def employed_as(units: Sequence[Unit]) -> list[Unit]:
    """Rule: "works as a nurse" is "is a nurse"."""
    out: list[Unit] = []
    skip = False
    for i, unit in enumerate(units):
        if skip:
            skip = False
            continue
        after = [u.lemma for u in units[i + 1 : i + 3]]
        if unit.lemma in {"work", "serve"} and unit.tag in _FINITE and after == ["as", "a"]:
            skip = True
            out.append(replace(unit, lemma="be"))
        else:
            out.append(unit)
    return out


def _agents(units: list[Unit]) -> list[Unit]:
    """Rule: "is a Reds supporter" is "supports Reds", for doers who do no more."""
    agents: dict[str, str] = table("relations")["agents"]
    for i in range(len(units) - 2):
        if units[i].lemma != "be" or units[i].tag not in _FINITE or units[i + 1].lemma != "a":
            continue
        for j in range(i + 2, min(i + 5, len(units))):
            if units[j].lemma in agents and not units[j].tag:
                verb = replace(units[i], lemma=agents[units[j].lemma])
                return [*units[:i], verb, *units[i + 2 : j], *units[j + 1 :]]
    return units


def _perfect(units: list[Unit]) -> list[Unit]:
    """Rule: "has lived here since 2015" is "lives here since 2015"."""
    if not any(u.lemma == "since" for u in units):
        return units
    for i in range(len(units) - 2):
        if units[i].lemma == "have" and units[i].tag == "P" and units[i + 1].tag in {"D", "N"}:
            now = replace(units[i + 1], tag="P")
            return [*units[:i], now, *units[i + 2 :]] if now.lemma != "be" else units
    return units


def _measured(units: list[Unit]) -> list[Unit]:
    """Rule: "the parcel weighs 2 kg" is "parcel weight: 2 kg"."""
    return [
        replace(u, lemma=_MEASURES[u.lemma], tag="")
        if u.lemma in _MEASURES
        and u.text.lower().endswith("s")
        and u.tag == "P"
        and i + 1 < len(units)
        and units[i + 1].sort == "quantity"
        else u
        for i, u in enumerate(units)
    ]


def _born(units: list[Unit]) -> list[Unit]:
    """Rule: "Born 7 September 1988" is "Date of birth: 7 September 1988"."""
    i = int(bool(units) and units[0].lemma == "be")
    if len(units) > i + 1 and units[i].text.lower() == "born":
        at = i + 1 + (units[i + 1].lemma == "on")
        if at < len(units) and units[at].sort == "date":
            return [replace(units[i], lemma="birthday", tag=""), *units[at:]]
    return units


def _none_of_it(units: list[Unit]) -> list[Unit]:
    """Rule: ", no jargon" is "without jargon"; "any" after a negation adds nothing."""
    out: list[Unit] = []
    negated = False
    for i, unit in enumerate(units):
        closing = i and units[i - 1].text in {",", "(", "–"} and 0 < len(units) - i <= 4
        if unit.lemma == "no" and closing and i + 1 < len(units) and units[i + 1].sort != "mark":
            out.append(replace(unit, lemma="without"))
        elif not (unit.lemma == "any" and negated):
            out.append(unit)
        negated = negated or unit.lemma in words("negators")
    return out


def _dated(units: list[Unit]) -> list[Unit]:
    """Rule: "the flood of 2021" is "the 2021 flood"."""
    for i in range(len(units) - 2):
        year = units[i + 2]
        if (
            units[i + 1].lemma == "of"
            and year.sort == "number"
            and len(year.text) == 4
            and year.text.isdigit()
            and units[i].sort == "word"
            and not units[i].tag
        ):
            return [*units[:i], year, units[i], *units[i + 3 :]]
    return units


def topic_first(units: Sequence[Unit]) -> list[Unit]:
    """Rule: "Plants: water twice a week" is "water the plants twice a week"."""
    colon = next((i for i, u in enumerate(units) if u.text == ":"), None)
    if colon is None or not 0 < colon < len(units) - 2 or units[colon + 1].tag != "B":
        return list(units)
    if any(u.sort == "mark" or u.tag in _FINITE for u in units[:colon]):
        return list(units)
    return [units[colon + 1], *units[:colon], *units[colon + 2 :]]


def headline(units: Sequence[Unit]) -> list[Unit]:
    """Rule: "paid a deposit of 50 euros" is "deposit paid: 50 euros"."""
    if not units or units[0].tag != "D":
        return list(units)
    start = 1 + (len(units) > 1 and units[1].lemma in words("articles"))
    end = _nouns_end(units, start)
    if end == start or end == len(units):
        return list(units)
    rest = units[end + (units[end].lemma == "of") :]
    valued = bool(rest) and rest[0].value
    return [*units[start:end], units[0], *rest] if valued else list(units)


def attributed(units: Sequence[Unit]) -> list[Unit]:
    """Rule: "the alarm has a 40-second exit delay" is "alarm exit delay: 40 s"."""
    for i, unit in enumerate(units):
        if unit.lemma != "have" or unit.tag != "P" or not i:
            continue
        start = i + 1 + (i + 1 < len(units) and units[i + 1].lemma == "a")
        if start < len(units) and units[start].sort == "quantity":
            end = _nouns_end(units, start + 1)
            if end > start + 1:
                return [*units[:i], *units[start + 1 : end], units[start], *units[end:]]
        end = _nouns_end(units, start)
        if (
            start < end < len(units) - 1
            and units[end].lemma == "of"
            and units[end + 1].sort == "quantity"
        ):
            return [*units[:i], *units[start:end], *units[end + 1 :]]
    return list(units)


def _nouns_end(units: Sequence[Unit], start: int) -> int:
    end = start
    while end < len(units) and units[end].sort == "word" and units[end].tag in {"", "pl"}:
        if units[end].lemma in words("prepositions") or units[end].lemma in words("coordinators"):
            break
        end += 1
    return end
