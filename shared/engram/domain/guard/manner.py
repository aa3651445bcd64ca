"""Two ways to say what somebody does: "likes cooking" and "likes to cook", "no" and "not any"."""

from collections.abc import Sequence
from dataclasses import replace

from engram.domain.guard.lexicon import words
from engram.domain.guard.morphology import forms
from engram.domain.guard.reading import Unit

# After these "to do" and "doing" are one; after stop, try, remember and forget they are not.
_EITHER = frozenset({"like", "love", "hate", "prefer", "begin", "start", "continue", "dread"})
_PLANNING = frozenset({"plan", "hope", "intend", "expect"})
# "Eats no meat" is "does not eat meat": verbs of which the object is all that is denied.
_OF_OBJECTS = frozenset({"have", "eat", "drink", "own", "use", "utilize", "take", "speak", "want",
                         "need", "keep", "contain", "accept", "wear", "read", "watch"})  # fmt: skip
_FINITE = frozenset({"P", "D"})


def mannered(units: Sequence[Unit]) -> list[Unit]:
    """All rewritings one after another."""
    out = list(units)
    for rule in (_going_to, _progressive, _wishing, _doing, _denied, _any_more, _ages, _born, _ago):
        out = rule(out)
    return out


def _going_to(units: list[Unit]) -> list[Unit]:
    """Rule: "is going to move" is "will move"."""
    for i in range(len(units) - 3):
        be, going, to, verb = units[i : i + 4]
        now = be.lemma == "be" and be.tag == "P" and going.text.lower() == "going"
        if now and to.lemma == "to" and verb.tag == "B":
            will = Unit("will", "", "word", "will")
            return [*units[:i], will, *units[i + 3 :]]
    return units


def _progressive(units: list[Unit]) -> list[Unit]:
    """Rule: "is planning to" is "plans to"."""
    for i in range(len(units) - 2):
        be, verb, to = units[i : i + 3]
        now = be.lemma == "be" and be.tag in _FINITE and verb.tag == "G" and to.lemma == "to"
        if now and verb.lemma in _PLANNING:
            return [*units[:i], replace(verb, tag=be.tag), *units[i + 2 :]]
    return units


def _wishing(units: list[Unit]) -> list[Unit]:
    """Rule: "would like to" is "wants to"."""
    for i in range(len(units) - 2):
        if [u.lemma for u in units[i : i + 3]] == ["would", "like", "to"]:
            want = Unit("want", "P", "word", "wants")
            return [*units[:i], want, *units[i + 2 :]]
    return units


def _doing(units: list[Unit]) -> list[Unit]:
    """Rule: "likes cooking" is "likes to cook", where the -ing has no article and no "of"."""
    for i in range(len(units) - 1):
        verb, done = units[i], units[i + 1]
        if verb.lemma in _EITHER and verb.tag in _FINITE | {"B"} and _gerund(done):
            if i + 2 < len(units) and units[i + 2].lemma in {"of", "and", "or", "to"}:
                continue
            base = replace(done, lemma=forms(done.text.lower()).verb, tag="B")
            return [*units[: i + 1], Unit("to", "", "word", "to"), base, *units[i + 2 :]]
    return units


def _gerund(unit: Unit) -> bool:
    low = unit.text.lower()
    return unit.sort == "word" and low.endswith("ing") and "VBG" in forms(low).tags


def _denied(units: list[Unit]) -> list[Unit]:
    """Rule: "has no car" is "does not have a car", "there is no lift" "there is not a lift"."""
    for i in range(len(units) - 2):
        verb, no = units[i], units[i + 1]
        if no.lemma != "no" or verb.tag not in _FINITE or units[i + 2].sort != "word":
            continue
        denied = Unit("not", "", "word", "not")
        if verb.lemma == "be" and i and units[i - 1].lemma == "there":
            return [*units[: i + 1], denied, *units[i + 2 :]]
        if verb.lemma in _OF_OBJECTS and units[i + 2].lemma not in {"more", "longer", "one"}:
            do = Unit("do", verb.tag, "word", "do")
            return [*units[:i], do, denied, replace(verb, tag="B"), *units[i + 2 :]]
    return units


def _any_more(units: list[Unit]) -> list[Unit]:
    """Rule: "does not smoke anymore" is "no longer smokes"."""
    said = [u.lemma for u in units]
    for i in range(len(units) - 3):
        if units[i].lemma == "do" and units[i].tag in _FINITE and said[i + 1] == "not":
            end = _more_at(said, i + 3)
            if units[i + 2].tag == "B" and end is not None:
                start, stop = end
                verb = replace(units[i + 2], tag=units[i].tag)
                longer = Unit("no_longer", "", "word", "no longer")
                return [*units[:i], longer, verb, *units[i + 3 : start], *units[stop:]]
    return units


def _more_at(said: Sequence[str], start: int) -> tuple[int, int] | None:
    for i in range(start, len(said)):
        if said[i] == "anymore":
            return i, i + 1
        if said[i : i + 2] in (["any", "more"], ["any", "longer"]):
            return i, i + 2
    return None


def _ages(units: list[Unit]) -> list[Unit]:
    """Rule: "a five-year-old son", "a son aged 5" and "a son who is 5 years old" are one."""
    out: list[Unit] = []
    for unit in units:
        who = [(u.lemma, u.tag) for u in out[-2:]]
        if unit.lemma.startswith("age:") and who in ([("who", ""), ("be", "P")],
                                                     [("that", ""), ("be", "P")]):  # fmt: skip
            del out[-2:]
        out.append(unit)
    for i in range(1, len(out) - 1):
        noun = out[i + 1]
        if out[i].lemma.startswith("age:") and noun.sort == "word" and noun.tag in {"", "pl"}:
            led = out[i - 1].lemma in words("articles") or out[i - 1].lemma in words("possessives")
            if led and noun.lemma not in words("prepositions"):
                return [*out[:i], noun, out[i], *out[i + 2 :]]
    return out


def _born(units: list[Unit]) -> list[Unit]:
    """Rule: "was born in Graz" is "born in Graz"."""
    return [
        u
        for i, u in enumerate(units)
        if not (
            u.lemma == "be"
            and u.tag == "D"
            and i + 1 < len(units)
            and units[i + 1].text.lower() == "born"
        )
    ]


def _ago(units: list[Unit]) -> list[Unit]:
    """Rule: "two years ago" is one point in time, wherever it stands."""
    out: list[Unit] = []
    for unit in units:
        if unit.lemma == "ago" and out and out[-1].sort == "quantity":
            before = out.pop()
            out.append(Unit(f"ago:{before.lemma}", "", "date", before.text + " ago"))
        else:
            out.append(unit)
    return out
