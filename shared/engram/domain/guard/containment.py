"""Whether one text says all that the other says and more, without narrowing it."""

from collections.abc import Iterator
from itertools import pairwise

from engram.domain.guard.additions import REASONS, additive, independent, may_follow, predicate
from engram.domain.guard.form import Form, keys
from engram.domain.guard.lexicon import words
from engram.domain.guard.phrases import nominal
from engram.domain.guard.reading import Unit

_MEASURED = ("q:mass:", "q:volume:", "q:length:")
_ENDS = frozenset({";", ".", ":", "–"})


def contains(large: Form, small: Form) -> bool:
    """Whether `small` follows from `large` by leaving something out at a safe place.

    Leaving out narrows nothing only where the small text asserts a plain fact: without negation,
    quantifier, modal or condition, for "never calls" does not follow from "never calls at night".
    A modal or a wish leaves room for a further sentence or a reason only.
    """
    spoken = [u for u in small if u.sort != "mark"]
    if not 2 <= len(spoken) < len(large):
        return False
    blocked = {u.lemma for u in spoken if u.lemma in words("containment_blocks")}
    if blocked - words("containment_soft"):
        return False
    wanted = keys(small)
    return any(_follows(wanted, small, t, strict=bool(blocked)) for t in _trimmed(large))


def _trimmed(large: Form) -> Iterator[Form]:
    """The text itself, and without parentheses, appositions and measures of an object."""
    yield large
    without = _without_asides(large)
    if without != large:
        yield without
    measured = _without_measures(large)
    if measured != large:
        yield measured


def _without_asides(form: Form) -> Form:
    """Without "(…)" and ", … ," of a few words that open with a name, "who" or "which"."""
    out: list[Unit] = []
    i = 0
    while i < len(form):
        unit = form[i]
        if unit.sort == "mark" and unit.text in {",", "("}:
            end = _aside_end(form, i)
            if end is not None:
                i = end
                continue
        out.append(unit)
        i += 1
    return tuple(out)


def _aside_end(form: Form, start: int) -> int | None:
    closing = ")" if form[start].text == "(" else ","
    for end in range(start + 2, min(len(form), start + 14)):
        if form[end].sort == "mark":
            inner = form[start + 1 : end]
            opened = inner[0].sort == "name" or inner[0].lemma in {"who", "which"}
            safe = form[end].text == closing and additive(inner) and start > 0
            return end + 1 if safe and (opened or closing == ")") else None
    return None


def _without_measures(form: Form) -> Form:
    """Rule: "300 mg of magnesium" as "magnesium"."""
    out: list[Unit] = []
    skip = 0
    for i, unit in enumerate(form):
        if skip:
            skip -= 1
            continue
        if unit.key.startswith(_MEASURED) and i + 1 < len(form) and form[i + 1].lemma == "of":
            skip = 1
            continue
        out.append(unit)
    return tuple(out)


def _follows(wanted: tuple[str, ...], small: Form, large: Form, *, strict: bool) -> bool:
    """`small` is one of the clauses of `large`, or the beginning of one."""
    for clause, before, after in _split(large):
        if (before and not additive(before)) or not independent((*before, *after)):
            continue
        if keys(clause) == wanted:
            return True
        if _begins(wanted, small, clause, strict=strict):
            return True
    return _begins(wanted, small, large, strict=strict) or _specified(small, large)


def _specified(small: Form, large: Form) -> bool:
    """Rule: "is a nurse" beside "is a school nurse in Ghent": a calling said more closely."""
    said = [u for u in small if u.text not in {".", "!"}]
    verb = next((i for i, u in enumerate(said) if u.text == "is"), None)
    if verb is None or verb + 2 != len(said) or said[-1].lemma not in words("callings"):
        return False
    if large[: verb + 1] != tuple(said[: verb + 1]) and keys(large[: verb + 1]) != keys(
        said[: verb + 1]
    ):
        return False
    at = next((i for i, u in enumerate(large) if u.key == said[-1].key), None)
    if at is None or not verb < at <= verb + 4:
        return False
    modifiers, tail = large[verb + 1 : at], large[at + 1 :]
    if not additive(modifiers) or any(not _intersective(u) for u in modifiers):
        return False
    placed = (
        not tail or tail[0].lemma in {"at", "in", "for", "with"} or tail[0].text in {".", ";", ","}
    )
    return placed and additive(tail) and len(modifiers) + len(tail) > 0


def _intersective(unit: Unit) -> bool:
    """A modifier that leaves a calling what it is: no adverb, no "former", no "student"."""
    vague = (
        words("privative") | words("time_words") | words("modality_words") | words("scope_words")
    )
    return (
        nominal(unit)
        and not unit.value
        and unit.lemma not in vague
        and not unit.lemma.endswith("ly")
    )


def _begins(wanted: tuple[str, ...], small: Form, large: Form, *, strict: bool) -> bool:
    spoken = keys(large)
    if spoken[: len(wanted)] != wanted or len(spoken) == len(wanted):
        return False
    tail = _tail(large, len(wanted))
    if strict:
        return tail[0].lemma in REASONS and additive(tail)
    if tail[0].sort == "mark" and _names_listed(small, tail[1:]):
        return True
    if not additive(tail) and not (tail[0].sort == "mark" and _continues(tail)):
        return False
    return may_follow(small, tail)


def _continues(tail: Form) -> bool:
    """A longer continuation after a comma, with a verb of its own, that takes nothing back."""
    opening = [u.lemma for u in tail[1:5]]
    spoken = {"say", "claim", "think", "believe", "tell", "not", "no", "or", "if", "when", "unless"}
    return len(tail) > 6 and not spoken & set(opening) and independent(tail)


def _names_listed(small: Form, rest: Form) -> bool:
    """Rule: "two kids, Tariq and Salma": as many names as were counted."""
    count = next((u for u in small if u.sort == "number"), None)
    plural = any(u.tag == "pl" for u in small[-2:])
    if count is None or not plural or not rest or rest[0].sort != "name":
        return False
    names = [
        u for i, u in enumerate(rest) if u.sort == "name" and (not i or rest[i - 1].sort != "name")
    ]
    aside = all(u.sort in {"name", "mark", "number", "quantity"} or u.lemma == "and" for u in rest)
    return aside and count.key == f"n:{len(names)}"


def _split(form: Form) -> Iterator[tuple[Form, Form, Form]]:
    """Each clause, what precedes it and what follows it.

    Clauses end at strong marks, and at "and" before a verb.
    A clause after "and" that begins with its verb has the subject of the first one.
    """
    cuts, shared = [-1], set()
    for i, unit in enumerate(form):
        comma = unit.text == "," and i + 1 < len(form) and form[i + 1].lemma == "and"
        if unit.sort == "mark" and unit.text in _ENDS:
            cuts.append(i)
        elif (unit.lemma == "and" or (unit.text == "," and not comma)) and predicate(form, i + 1):
            cuts.append(i)
            shared.add(i)
    cuts.append(len(form))
    verb = next((i for i, u in enumerate(form) if u.tag in {"P", "D"}), 0)
    for start, end in pairwise(cuts):
        before, after = form[: max(start, 0)], form[end + 1 :]
        if before or after:
            yield (*(form[:verb] if start in shared else ()), *form[start + 1 : end]), before, after


def _tail(large: Form, count: int) -> Form:
    seen = 0
    for i, unit in enumerate(large):
        if unit.sort != "mark":
            if seen == count:
                marked = i and large[i - 1].sort == "mark"
                return large[i - 1 :] if marked else large[i:]
            seen += 1
    return ()
