"""Words given their lemma and form from their neighbours: is "reports" a verb or a plural?"""

from collections.abc import Sequence
from dataclasses import replace

from engram.domain.guard.lexicon import words
from engram.domain.guard.morphology import Forms, forms, known
from engram.domain.guard.reading import Unit

_FIXED = {
    "is": ("be", "P"), "are": ("be", "P"), "am": ("be", "P"), "was": ("be", "D"),
    "were": ("be", "D"), "been": ("be", "N"), "being": ("be", "G"), "be": ("be", "B"),
    "has": ("have", "P"), "have": ("have", "P"), "had": ("have", "D"), "having": ("have", "G"),
    "does": ("do", "P"), "do": ("do", "P"), "did": ("do", "D"), "done": ("do", "N"),
    "people": ("person", "pl"), "men": ("man", "pl"), "women": ("woman", "pl"),
    "children": ("child", "pl"), "kids": ("kid", "pl"), "an": ("a", ""), "me": ("i", ""),
}  # fmt: skip
_BREAKS = frozenset({"that", "which", "who", "because", "if", "when", "while", "although"}) | {
    "as", "unless", "so", "where", "whenever", "since", "after", "before", "until", "than",
}  # fmt: skip


def caseless(units: Sequence[Unit]) -> bool:
    """Whether case says nothing here: all capitals, none, or every word capitalised."""
    written = [u.text for u in units if u.sort == "word" and u.text[:1].isalpha()]
    upper = sum(w[0].isupper() for w in written)
    if upper == 0 or all(w.isupper() for w in written):
        return True
    long = [w for w in written if len(w) > 2]
    return len(long) >= 4 and all(w[0].isupper() for w in long)


def tag(units: Sequence[Unit]) -> list[Unit]:
    """The units with lemma, tag and names told apart."""
    plain = caseless(units)
    out: list[Unit] = []
    for i, unit in enumerate(units):
        out.append(_tagged(units, out, i, plain) if unit.sort == "word" else unit)
    return _settled(out)


def _named(units: Sequence[Unit], i: int, plain: bool) -> bool:
    unit = units[i]
    if not unit.text[:1].isupper():
        return False
    low = unit.text.lower()
    start = i == 0 or units[i - 1].text in {".", "!", "?", ":", "–", '"', ";"}
    if plain or start:
        return not known(low) and low.isalpha()
    return low != "i" and not (unit.text.isupper() and len(low) > 3 and known(low))


def _tagged(units: Sequence[Unit], before: Sequence[Unit], i: int, plain: bool) -> Unit:
    unit = units[i]
    low = unit.lemma
    if low in _FIXED:
        lemma, form = _FIXED[low]
        if form == "P" and before and _wants_base(before):
            form = "B"
        return replace(unit, lemma=lemma, tag=form)
    if low in words("dropped") or low in words("coordinators"):
        return unit
    if _named(units, i, plain):
        noun = forms(low).noun
        return (
            replace(unit, lemma=noun, tag="pl", sort="name")
            if noun not in {"", low}
            else replace(unit, sort="name")
        )
    if low in words("surface") or low in words("adverbs") or _closed(low):
        return unit
    return _inflected(unit, before)


def _closed(low: str) -> bool:
    return (
        low in words("prepositions")
        or low in words("determiners")
        or low in words("pronouns")
        or (
            low in words("modals")
            or low in words("auxiliaries")
            or low in words("subordinators")
            or low in words("coordinators")
        )
    )


def _wants_base(before: Sequence[Unit]) -> bool:
    """After a modal, "to" or a form of do comes a base form, with adverbs between."""
    for unit in reversed(before):
        if unit.lemma in words("modals") or unit.lemma in {"to", "do"}:
            return True
        if unit.lemma not in words("adverbs"):
            return False
    return False


def _inflected(unit: Unit, before: Sequence[Unit]) -> Unit:
    """What can be said without looking ahead; "?" marks what may be noun or verb."""
    reading = forms(unit.lemma)
    if "VBG" in reading.tags:
        return replace(unit, lemma=reading.verb, tag="G")
    if reading.tags & {"VBD", "VBN"} and not reading.tags & {"VB", "VBP", "VBZ"}:
        return replace(unit, lemma=reading.verb, tag="D" if "VBD" in reading.tags else "N")
    if before and _wants_base(before) and "VB" in reading.tags:
        return replace(unit, lemma=reading.verb, tag="B")
    nominal = reading.noun or reading.adjective
    if not reading.tags or (nominal and before and _leads_noun(before[-1])):
        plural = reading.noun not in {"", unit.lemma}
        return replace(unit, lemma=reading.noun or unit.lemma, tag="pl" if plural else "")
    if nominal or "VBZ" not in reading.tags:
        return replace(unit, tag="?")
    return replace(unit, lemma=reading.verb, tag="P")


def _leads_noun(previous: Unit) -> bool:
    """After a determiner, a possessive, a number or a preposition stands no finite verb."""
    return (
        previous.lemma in words("determiners")
        or previous.lemma in words("possessives")
        or previous.sort in {"number", "quantity"}
        or (previous.lemma in words("prepositions") and previous.lemma not in {"to", "than"})
    )


def _settled(tagged: list[Unit]) -> list[Unit]:
    """Decide the open words, clause by clause: one finite verb, agreeing with its subject."""
    start = 0
    for i in range(len(tagged) + 1):
        if (
            i == len(tagged)
            or tagged[i].sort == "mark"
            or tagged[i].lemma in _BREAKS | {"and", "or", "but"}
        ):
            _settle_clause(tagged, start, i)
            start = i + 1
    return tagged


def _finite(unit: Unit) -> bool:
    return unit.tag in {"P", "D"} or unit.lemma in words("modals")


def _settle_clause(tagged: list[Unit], start: int, end: int) -> None:
    done = any(_finite(u) for u in tagged[start:end])
    listed = start > 0 and tagged[start - 1].lemma in {"and", "or", ","}
    open_words = [i for i in range(start, end) if tagged[i].tag == "?"]
    likely = [i for i in open_words if forms(tagged[i].lemma).verb in words("mostly_verbs")
              and i > start and _as_verb(tagged, start, i, end, listed)]  # fmt: skip
    for i in open_words:
        unit = tagged[i]
        reading = forms(unit.lemma)
        wanted = not done and (not likely or i == likely[0] or i == start)
        verb = _as_verb(tagged, start, i, end, listed) if wanted else None
        if verb is not None:
            tagged[i], done = replace(unit, lemma=reading.verb, tag=_tense(reading, verb)), True
        elif not reading.noun and not reading.adjective:
            tagged[i] = replace(unit, lemma=reading.verb, tag=_tense(reading, "P"))
        else:
            noun = reading.noun or unit.lemma
            tagged[i] = replace(unit, lemma=noun, tag="pl" if noun != unit.lemma else "")


def _tense(reading: Forms, tag: str) -> str:
    """X for "put", "read", "cost": without its -s the form may be past as well as present."""
    unsure = tag == "P" and "VBZ" not in reading.tags and "VBD" in reading.tags
    return "X" if unsure else tag


def _at_start(tagged: Sequence[Unit], i: int, end: int, *, first: bool) -> str | None:
    """A clause that begins with a verb: its subject is missing, or it is an order."""
    reading = forms(tagged[i].lemma)
    follower = tagged[i + 1] if i + 1 < end else None
    opened = follower is not None and (
        follower.lemma in words("determiners")
        or follower.lemma in words("possessives")
        or follower.lemma in words("pronouns")
    )
    common = reading.verb in words("mostly_verbs")
    if "VBZ" in reading.tags:
        if follower is not None and _base_only(follower) and reading.noun:
            return None
        return "P" if opened or common or (first and follower is not None) else None
    return "B" if "VB" in reading.tags and follower is not None and (opened or common) else None


def _base_only(unit: Unit) -> bool:
    """A common verb without -s: what stands before it is its subject in the plural."""
    reading = forms(unit.lemma)
    return unit.tag == "?" and "VB" in reading.tags and reading.verb in words("mostly_verbs")


def _as_verb(tagged: Sequence[Unit], start: int, i: int, end: int, listed: bool) -> str | None:
    """P, B or nothing: whether the word agrees with what stands before it as a finite verb."""
    unit = tagged[i]
    reading = forms(unit.lemma)
    third = "VBZ" in reading.tags
    j = i - 1
    while j >= start and tagged[j].lemma in words("adverbs"):
        j -= 1
    if j < start:
        return _at_start(tagged, i, end, first=not listed and start == 0)
    subject = tagged[j]
    if subject.lemma in words("plural_pronouns"):
        return "P" if not third else None
    plural = subject.tag == "pl" or (
        subject.tag == "?" and forms(subject.lemma).noun not in {"", subject.lemma}
    )
    if (
        subject.sort == "name"
        or subject.lemma in words("singular_pronouns")
        or subject.tag in {"", "G", "?"}
    ):
        if subject.lemma in words("prepositions") or subject.lemma in words("determiners") - words(
            "singular_pronouns"
        ):
            return None
        return "P" if third and not plural else ("P" if plural and not third else None)
    return "P" if plural and not third else None
