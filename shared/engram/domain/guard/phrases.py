"""Words and phrases that mean the same, replaced by one of them: data in synonyms.toml."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from engram.domain.guard.lexicon import table, words
from engram.domain.guard.morphology import forms, standard_spelling
from engram.domain.guard.reading import Unit

_VERB = frozenset({"P", "D", "N", "G", "B"})


class Entry(NamedTuple):
    """One way to say it: its words, what it becomes, and which word may be inflected."""

    parts: tuple[str, ...]
    meaning: str
    sort: str


@cache
def entries() -> dict[str, tuple[Entry, ...]]:
    """All phrases by their first word, the longest first."""
    by_first: dict[str, list[Entry]] = defaultdict(list)
    for sort in ("verbs", "nouns", "fixed"):
        for group in table("synonyms")[sort]:
            meaning = "_".join(group[0].split())
            for phrase in group:
                parts = tuple(standard_spelling(w) for w in phrase.split())
                by_first[parts[0]].append(Entry(parts, meaning, sort))
    return {k: tuple(sorted(v, key=lambda e: -len(e.parts))) for k, v in by_first.items()}


def _is_word(unit: Unit, word: str) -> bool:
    return unit.sort == "word" and (unit.lemma == word or unit.text.lower() == word)


def _match(units: Sequence[Unit], i: int, entry: Entry) -> Unit | None:
    """The unit that replaces the phrase at i, if it stands there in a form that fits."""
    length = len(entry.parts)
    if i + length > len(units):
        return None
    window = units[i : i + length]
    if entry.sort == "fixed":
        fits = all(
            (u.sort in {"word", "number"} and u.text.lower() in {w, w.rstrip("'")})
            or (_is_word(u, w) and not u.tag)
            for u, w in zip(window, entry.parts, strict=True)
        )
        return Unit(entry.meaning, "", "word", _text(window)) if fits else None
    if not all(_is_word(u, w) for u, w in zip(window, entry.parts, strict=True)):
        return None
    if entry.sort == "verbs":
        fits = window[0].tag in _VERB
        return replace(window[0], lemma=entry.meaning, text=_text(window)) if fits else None
    last = window[-1]
    # Before the noun nothing is inflected: "signed off" is no "sign-off".
    fits = last.tag in {"", "pl"} and all(
        u.text.lower() == w or not u.tag for u, w in zip(window[:-1], entry.parts, strict=False)
    )
    return replace(last, lemma=entry.meaning, text=_text(window)) if fits else None


def _text(window: Sequence[Unit]) -> str:
    return " ".join(u.text for u in window)


def replaced(units: Sequence[Unit]) -> list[Unit]:
    """The units with every known phrase in its one form, longest match first."""
    out: list[Unit] = []
    i = 0
    while i < len(units):
        found = _longest(units, i) if units[i].sort == "word" or units[i].text.isalpha() else None
        out.append(found[0] if found else units[i])
        i += found[1] if found else 1
    return out


def _longest(units: Sequence[Unit], i: int) -> tuple[Unit, int] | None:
    """The longest phrase that stands at i, as the unit that replaces it, and its length."""
    unit, low = units[i], units[i].text.lower()
    index = entries()
    options = index.get(unit.lemma, ())
    if low != unit.lemma and low in index:
        options = tuple(sorted((*options, *index[low]), key=lambda e: -len(e.parts)))
    for entry in options:
        if len(entry.parts) > 1 and not _goes_on(units, i + 1, entry.parts[1]):
            continue
        found = _match(units, i, entry)
        if found is not None:
            return found, len(entry.parts)
    return None


def _goes_on(units: Sequence[Unit], i: int, word: str) -> bool:
    return i < len(units) and (units[i].lemma == word or units[i].text.lower().rstrip("'") == word)


def verb_of(lemma: str) -> bool:
    """Whether a lemma can be a verb."""
    return bool(forms(lemma).tags)


def nominal(unit: Unit) -> bool:
    """Whether a unit can be part of a noun phrase without a verb or preposition."""
    if unit.sort == "mark" or unit.tag in {"P", "D", "B"} or unit.lemma in words("modals"):
        return False
    if unit.lemma in words("negators") or unit.lemma in words("subordinators"):
        return False
    if unit.lemma in {"to", "and", "or", "but", "nor", "only", "by"}:
        return False
    return unit.lemma not in words("prepositions") or unit.lemma == "of"
