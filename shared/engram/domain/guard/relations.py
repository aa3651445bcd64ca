"""Voice and converse relations: the same roles said from another side, brought to one form."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from engram.domain.guard.form import Form
from engram.domain.guard.identity import apposed, genitive, inverted
from engram.domain.guard.idioms import attributed, employed_as, headline, topic_first
from engram.domain.guard.lexicon import table, words
from engram.domain.guard.phrases import entries, nominal, verb_of
from engram.domain.guard.reading import Unit
from engram.domain.guard.voice import active, phrase_end

_MAX_SLOT = 9
_FINITE = frozenset({"P", "D"})
Slots = dict[str, tuple[Unit, ...]]


class Pattern(NamedTuple):
    """A form of a relation cut into its literals and slots, and the words a text must hold."""

    parts: tuple[str, ...]
    literals: frozenset[str]


def _pattern(text: str) -> Pattern:
    parts = tuple(_meant(p) for p in text.split())
    return Pattern(parts, frozenset(p for p in parts if not p.startswith("{")))


@cache
def _groups() -> dict[str, tuple[tuple[Pattern, Pattern], ...]]:
    """By its longest word each form of a relation, with the form that is kept."""
    found: dict[str, list[tuple[Pattern, Pattern]]] = {}
    for group in table("relations")["relations"]:
        patterns = [_pattern(text) for text in group]
        for kept, pattern in [*((patterns[0], p) for p in patterns), *_measured(patterns)]:
            anchor = max(sorted(pattern.literals), key=len)
            found.setdefault(anchor, []).append((kept, pattern))
    return {anchor: tuple(pairs) for anchor, pairs in found.items()}


def _measured(patterns: Sequence[Pattern]) -> Iterator[tuple[Pattern, Pattern]]:
    """Rule: with "older than" goes "two years older than", by as much."""
    if not all("than" in p.literals and p.parts[1] == "be" for p in patterns):
        return
    by_so_much = [Pattern((*p.parts[:2], "{q}", *p.parts[2:]), p.literals) for p in patterns]
    for pattern in by_so_much:
        yield by_so_much[0], pattern


def _meant(part: str) -> str:
    """A literal as phrases.py writes it, so that synonyms need not be listed twice."""
    for entry in () if part == "name" else entries().get(part, ()):
        if entry.parts == (part,) and entry.sort != "fixed":
            return entry.meaning
    return part


def _bind(
    parts: Sequence[str], units: Sequence[Unit], i: int, slots: Slots
) -> Iterator[tuple[Slots, int, str]]:
    """All ways to lay the parts over units from i on: slots, where they end, the verb's tag."""
    if not parts:
        yield slots, i, ""
        return
    part = parts[0]
    if part.startswith("{"):
        optional = part == "{p?}"
        for end in range(i if optional else i + 1, min(len(units), i + _MAX_SLOT) + 1):
            window = tuple(units[i:end])
            if window and not nominal(window[-1]):
                break
            yield from _bind(parts[1:], units, end, {**slots, part: window})
        return
    while i < len(units) and units[i].lemma in words("articles"):
        i += 1
    if i < len(units) and _literal(units[i], part, obliged=i > 0 and units[i - 1].lemma == "must"):
        for bound, end, form in _bind(parts[1:], units, i + 1, slots):
            yield bound, end, units[i].tag if units[i].tag in _FINITE else form


def _literal(unit: Unit, part: str, *, obliged: bool) -> bool:
    if unit.lemma != part:
        return False
    if obliged and unit.tag == "B":
        return True
    return (
        unit.tag in _FINITE | {"N"}
        if verb_of(part) and part != "boss" and unit.tag
        else not unit.tag
    )


def _filled(pattern: Pattern, slots: Slots, form: str) -> tuple[Unit, ...]:
    """The kept form of a relation with the slots put in."""
    out: list[Unit] = []
    if "must" in pattern.literals:
        return _due(pattern, slots)
    tensed = False
    for part in pattern.parts:
        if part.startswith("{"):
            out.extend(slots.get(part, ()))
        else:
            tag = form if not tensed and verb_of(part) else ""
            tensed = tensed or bool(tag)
            out.append(Unit(part, tag, "word", part))
    return tuple(out)


def _due(pattern: Pattern, slots: Slots) -> tuple[Unit, ...]:
    """A duty: "must" and the verb in its base form."""
    out: list[Unit] = []
    for part in pattern.parts:
        if part.startswith("{"):
            out.extend(slots.get(part, ()))
        else:
            out.append(Unit(part, "" if part == "must" else "B", "word", part))
    return tuple(out)


def _complete(units: Sequence[Unit], end: int) -> bool:
    """A relation ends where its last noun phrase does."""
    return end == len(units) or not nominal(units[end])


def turned(form: Form) -> list[Form]:
    """Other readings of a form: active for passive, the kept form of each relation."""
    base = genitive(_dative(apposed(form)))
    found = [] if base == form else [base]
    found.extend(r for r in (inverted(base),) if r != base)
    found.extend(_allergies(base))
    found.extend(_relative(base))
    rewritten = (tuple(rule(base)) for rule in (employed_as, topic_first, attributed, headline))
    found.extend(r for r in rewritten if r != base)
    for start in (base, *active(base)):
        if start != base:
            found.append(genitive(_dative(start)))
        for reading in _converses(start):
            found.append(reading)
            found.extend(_swapped(reading, {u.lemma for u in reading}))
    return found


def _converses(form: Form) -> Iterator[Form]:
    lemmas = {u.lemma for u in form}
    for anchor in sorted(lemmas & _groups().keys()):
        for kept, pattern in _groups()[anchor]:
            if not pattern.literals <= lemmas:
                continue
            for slots, end, tag in _bind(pattern.parts, form, 0, {}):
                due = "must" in kept.literals
                if _complete(form, end) and (tag in {"", "P"} if due else tag):
                    yield _filled(kept, slots, tag) + form[end:]
    yield from _sided(form)
    yield from _swapped(form, lemmas)


_SIDES = {
    "less": "more",
    "under": "over",
    "later": "earlier",
    "slower": "faster",
    "worse": "better",
    "lower": "higher",
    "after": "before",
}


def _sided(form: Form) -> Iterator[Form]:
    """Rule: "Bob earns less than Ann" is "Ann earns more than Bob"; so with before and after."""
    for i in range(1, len(form) - 2):
        if form[i].tag not in _FINITE or form[i].lemma == "be" or form[i + 1].lemma not in _SIDES:
            continue
        side = form[i + 1]
        if side.lemma == "under" and "than" not in side.text:
            continue
        start = i + 2 + (side.lemma not in {"after", "under"})
        if start > i + 2 and form[i + 2].lemma != "than":
            continue
        end = phrase_end(form, start)
        x, y = form[:i], form[start:end]
        if end > start and _complete(form, end) and _alike(x, y):
            turned = replace(side, lemma=_SIDES[side.lemma], text=_SIDES[side.lemma])
            yield (*y, form[i], turned, *form[i + 2 : start], *x, *form[end:])
        return


def _alike(x: Form, y: Form) -> bool:
    """Whether both are somebody or something of one kind, and neither is a time."""
    if not x or not all(nominal(u) and not u.value for u in (*x, *y)):
        return False
    named = [all(u.sort == "name" or _capital(u) for u in side) for side in (x, y)]
    given = [side[0].lemma in {"the", "her", "his", "their", "its", "our"} for side in (x, y)]
    if any(u.lemma in _MEALS or u.text.lower() in _MEALS for u in (*x, *y)):
        return False
    return all(named) or all(given)


_MEALS = frozenset(
    {"breakfast", "lunch", "dinner", "holiday", "weekend", "summer", "winter", "day"}
)


def _capital(unit: Unit) -> bool:
    return (
        unit.text[:1].isupper() and unit.sort == "word" and unit.lemma not in words("determiners")
    )


def _relative(form: Form) -> Iterator[Form]:
    """Rule: "Ann, who sails, has a boat" as "Ann sails and has a boat", in both orders."""
    for i in range(1, len(form) - 3):
        if (
            form[i].lemma != "who"
            or form[i - 1].text != ","
            or not all(nominal(u) for u in form[: i - 1])
        ):
            continue
        end = next((j for j in range(i + 1, len(form)) if form[j].text == ","), None)
        if end is not None and end + 1 < len(form):
            link = Unit("and", "", "word", "and")
            yield (*form[: i - 1], *form[i + 1 : end], link, *form[end + 1 :])
            yield (*form[: i - 1], *form[end + 1 :], link, *form[i + 1 : end])


def _allergies(form: Form) -> Iterator[Form]:
    """Rule: "has a peanut allergy" as "allergic to peanuts"."""
    for i in range(len(form) - 2):
        if form[i].lemma == "have" and form[i].tag in _FINITE:
            rest = [j for j in range(i + 1, len(form)) if form[j].lemma not in words("articles")]
            if len(rest) > 1 and form[rest[1]].lemma == "allergy" and nominal(form[rest[0]]):
                cause = form[rest[0]]
                head = (*form[:i], replace(form[i], lemma="allergic"), Unit("to", "", "word", "to"))
                for tag in ("", "pl"):
                    yield (*head, replace(cause, tag=tag), *form[rest[1] + 1 :])


@cache
def _symmetric() -> tuple[Pattern, ...]:
    return tuple(_pattern(text) for text in table("relations")["symmetric"])


def _swapped(form: Form, lemmas: set[str]) -> Iterator[Form]:
    for pattern in _symmetric():
        if pattern.literals <= lemmas:
            for slots, end, tag in _bind(pattern.parts, form, 0, {}):
                if _complete(form, end) and tag:
                    x, y = sorted((slots["{x}"], slots["{y}"]), key=lambda s: [u.key for u in s])
                    yield _filled(pattern, {**slots, "{x}": x, "{y}": y}, tag) + form[end:]


def _dative(form: Form) -> Form:
    """Rule: "gave Paolo a laptop" as "gave a laptop to Paolo"."""
    verbs = table("relations")["dative"]
    for i in range(len(form) - 2):
        if form[i].lemma in verbs and form[i].tag in _FINITE | {"B"}:
            receiver = form[i + 1]
            end = phrase_end(form, i + 2)
            person = receiver.sort == "name" or receiver.lemma in {"him", "them", "us", "user"}
            if (
                person
                and end > i + 2
                and form[i + 2].lemma not in {"of", "'s"}
                and (
                    form[i + 2].sort != "name"
                    or form[i + 2].lemma in table("relations")["languages"]
                )
            ):
                to = Unit("to", "", "word", "to")
                return (*form[: i + 1], *form[i + 2 : end], to, receiver, *form[end:])
    return form
