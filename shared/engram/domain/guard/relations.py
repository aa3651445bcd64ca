"""Voice and converse relations: the same roles said from another side, brought to one form."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from engram.domain.guard.form import Form
from engram.domain.guard.idioms import attributed, employed_as, headline, topic_first
from engram.domain.guard.lexicon import table, words
from engram.domain.guard.phrases import entries, verb_of
from engram.domain.guard.reading import Unit

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
        for pattern in patterns:
            anchor = max(sorted(pattern.literals), key=len)
            found.setdefault(anchor, []).append((patterns[0], pattern))
    return {anchor: tuple(pairs) for anchor, pairs in found.items()}


def _meant(part: str) -> str:
    """A literal as phrases.py writes it, so that synonyms need not be listed twice."""
    for entry in entries().get(part, ()):
        if entry.parts == (part,) and entry.sort != "fixed":
            return entry.meaning
    return part


def nominal(unit: Unit) -> bool:
    """Whether a unit can be part of a noun phrase without a verb or preposition."""
    if unit.sort == "mark" or unit.tag in {"P", "D", "B"} or unit.lemma in words("modals"):
        return False
    if unit.lemma in words("negators") or unit.lemma in words("subordinators"):
        return False
    if unit.lemma in {"to", "and", "or", "but", "nor", "only", "by"}:
        return False
    return unit.lemma not in words("prepositions") or unit.lemma == "of"


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
    if i < len(units) and _literal(units[i], part):
        for bound, end, form in _bind(parts[1:], units, i + 1, slots):
            yield bound, end, units[i].tag if units[i].tag in _FINITE else form


def _literal(unit: Unit, part: str) -> bool:
    if unit.lemma != part:
        return False
    return (
        unit.tag in _FINITE | {"N"}
        if verb_of(part) and part != "boss" and unit.tag
        else not unit.tag
    )


def _filled(pattern: Pattern, slots: Slots, form: str) -> tuple[Unit, ...]:
    """The kept form of a relation with the slots put in."""
    out: list[Unit] = []
    tensed = False
    for part in pattern.parts:
        if part.startswith("{"):
            out.extend(slots.get(part, ()))
        else:
            tag = form if not tensed and verb_of(part) else ""
            tensed = tensed or bool(tag)
            out.append(Unit(part, tag, "word", part))
    return tuple(out)


def _complete(units: Sequence[Unit], end: int) -> bool:
    """A relation ends where its last noun phrase does."""
    return end == len(units) or not nominal(units[end])


def turned(form: Form) -> list[Form]:
    """Other readings of a form: active for passive, the kept form of each relation."""
    base = _genitive(_dative(form))
    found = [] if base == form else [base]
    found.extend(_allergies(base))
    found.extend(_relative(base))
    rewritten = (tuple(rule(base)) for rule in (employed_as, topic_first, attributed, headline))
    found.extend(r for r in rewritten if r != base)
    for start in (base, *_active(base)):
        if start != base:
            found.append(_genitive(_dative(start)))
        found.extend(_converses(start))
    return found


def _converses(form: Form) -> Iterator[Form]:
    lemmas = {u.lemma for u in form}
    for anchor in sorted(lemmas & _groups().keys()):
        for kept, pattern in _groups()[anchor]:
            if not pattern.literals <= lemmas:
                continue
            for slots, end, tag in _bind(pattern.parts, form, 0, {}):
                if _complete(form, end) and tag:
                    yield _filled(kept, slots, tag) + form[end:]
    yield from _swapped(form, lemmas)


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


def _active(form: Form) -> list[Form]:
    """Rule: "The roof was repaired by Ann last week" is "Ann repaired the roof last week"."""
    for i in range(1, len(form) - 2):
        if form[i].lemma != "be" or not all(nominal(u) for u in form[:i]):
            continue
        j = i + 1
        while j < len(form) and form[j].lemma in words("floating"):
            j += 1
        if j + 1 < len(form) and form[j].tag in {"D", "N"} and _agent(form, j + 1):
            return _turned_active(form, i, j)
    return _modal_active(form)


def _agent(form: Form, i: int) -> bool:
    """Rule: "by" somebody, or "with" a thing that does it."""
    if form[i].lemma == "with" and i + 1 < len(form):
        return form[i + 1].lemma not in words("pronouns") and form[-1].sort != "name"
    return form[i].lemma == "by"


def _modal_active(form: Form) -> list[Form]:
    """Rule: "Expenses can be approved by Ravi" as "Ravi can approve expenses"."""
    for i in range(1, len(form) - 4):
        modal, be, verb, by = form[i : i + 4]
        if (
            modal.lemma in words("modals")
            and be.lemma == "be"
            and verb.tag in {"D", "N"}
            and by.lemma == "by"
        ):
            end = _phrase_end(form, i + 4)
            if all(nominal(u) for u in form[:i]) and end > i + 4:
                done = replace(verb, tag="B")
                return [(*form[i + 4 : end], modal, done, *form[:i], *form[end:])]
    return []


def _phrase_end(form: Form, start: int) -> int:
    end = start
    while end < len(form) and nominal(form[end]) and not _when(form[end]):
        end += 1
    return end


def _when(unit: Unit) -> bool:
    """A point in time or a rhythm, which is no part of the phrase before it."""
    named = {
        "last",
        "next",
        "this",
        "yesterday",
        "today",
        "tomorrow",
        "every",
        "each",
        "once",
        "twice",
    }
    return (
        unit.sort in {"time", "date", "weekday"}
        or unit.lemma in named
        or unit.lemma.startswith("every_")
    )


def _turned_active(form: Form, i: int, j: int) -> list[Form]:
    """The agent is the next noun phrase, or that with a further "on …", "in …" up to the end."""
    tag = form[i].tag
    end = _phrase_end(form, j + 2)
    if tag not in _FINITE or end == j + 2:
        return []
    closed = len(form)
    while closed > end and form[closed - 1].sort == "mark":
        closed -= 1
    ends = [end]
    if end < closed and form[end].lemma in {"on", "in", "from", "at"}:
        ends += [closed] if _phrase_end(form, end + 1) == closed else []
    verb = (*form[i + 1 : j], replace(form[j], tag=tag), *form[:i])
    return [(*form[j + 2 : e], *verb, *form[e:]) for e in ends]


def _dative(form: Form) -> Form:
    """Rule: "gave Paolo a laptop" as "gave a laptop to Paolo"."""
    verbs = table("relations")["dative"]
    for i in range(len(form) - 2):
        if form[i].lemma in verbs and form[i].tag in _FINITE | {"B"}:
            receiver = form[i + 1]
            end = _phrase_end(form, i + 2)
            person = receiver.sort == "name" or receiver.lemma in {"him", "them", "us", "user"}
            if (
                person
                and end > i + 2
                and form[i + 2].lemma not in {"of", "'s"}
                and form[i + 2].sort != "name"
            ):
                to = Unit("to", "", "word", "to")
                return (*form[: i + 1], *form[i + 2 : end], to, receiver, *form[end:])
    return form


def _genitive(form: Form) -> Form:
    """Rule: "the mother of Ann" as "Ann's mother"."""
    relational = table("relations")["relational"]
    for i in range(len(form) - 2):
        owner = form[i + 2]
        if form[i].lemma in relational and form[i + 1].lemma == "of" and owner.sort == "name":
            of = Unit("'s", "", "word", "'s")
            start = i - 1 if i and form[i - 1].lemma in words("articles") else i
            return (*form[:start], owner, of, form[i], *form[i + 3 :])
    return form
