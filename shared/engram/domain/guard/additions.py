"""What may be added to a statement without narrowing it or taking anything back."""

from collections.abc import Sequence

from engram.domain.guard.form import Form
from engram.domain.guard.lexicon import words
from engram.domain.guard.phrases import nominal
from engram.domain.guard.reading import Unit

REASONS = frozenset({"because", "because_of", "so_that"})
"""What opens a reason: it may follow any statement."""


def additive(rest: Sequence[Unit]) -> bool:
    """Nothing in it takes back, narrows or doubts what stands before."""
    for i, unit in enumerate(rest):
        if unit.lemma in words("addition_stops") and (
            unit.tag or unit.lemma not in words("undoings")
        ):
            return False
        if unit.tag == "B" and unit.lemma != "be":
            return False
        if unit.lemma in words("fiction") and any(
            u.lemma in {"in", "of"} for u in rest[max(0, i - 2) : i]
        ):
            return False
    return True


def independent(rest: Form) -> bool:
    """The rest asserts something by itself and takes nothing back."""
    spoken = [u for u in rest if u.sort != "mark"]
    if len(spoken) < 2 or spoken[0].lemma in words("subordinators") | {"or", "not", "no", "nor"}:
        return False
    finite = any(u.tag in {"P", "D"} or u.lemma in words("modals") for u in spoken)
    return additive(rest) or (finite and not any(u.lemma in words("retractions") for u in spoken))


def predicate(form: Sequence[Unit], i: int) -> bool:
    """Whether a predicate begins here: a verb with tense, a modal, or "is" with what follows."""
    while i < len(form) and form[i].lemma in words("adverbs"):
        i += 1
    if i >= len(form):
        return False
    return form[i].tag in {"P", "D"} or form[i].text == "is" or form[i].lemma in words("modals")


def may_follow(small: Form, tail: Form) -> bool:
    """Whether this kind of addition leaves this kind of statement as true as it was."""
    first = tail[0]
    if first.sort == "mark":
        return first.text != "is" and _after_mark(first, tail[1:])
    if first.lemma in REASONS:
        return True
    if first.lemma == "and":
        return len(tail) > 2 and predicate(tail, 1)
    if first.lemma in {"of", "'s", "or", "to"}:
        return first.lemma in {"of", "to"} and _event(small) and _reaches(tail)
    if (first.lemma == "every" or first.lemma.startswith("every_")) and len(tail) <= 3:
        return _habit(small)
    return _opens(first) and (_event(small) or _elaborates(small, tail))


def _opens(first: Unit) -> bool:
    """Whether an adjunct can begin here."""
    listed = first.lemma in words("prepositions") or first.lemma in words("nonverbal_elaborations")
    return listed or first.value


def _after_mark(mark: Unit, rest: Form) -> bool:
    """A new clause, an apposition or an explanation; not a further item of a list."""
    if mark.text in {";", ".", "(", "–", ":"}:
        return len(rest) > 1 and independent(rest)
    if not rest:
        return False
    if rest[0].lemma in {"and", "or"}:
        return len(rest) > 2 and predicate(rest, 1)
    if rest[0].sort == "name" and rest[0].tag == "":
        return False
    listed = any(u.lemma in {"and", "or"} for u in rest[:6]) or len(rest) < 3
    verbal = any(u.tag in {"P", "D"} for u in rest[:3])
    return verbal or (not listed and any(u.lemma in words("prepositions") or u.tag for u in rest))


def _habit(small: Form) -> bool:
    """A regular doing, said in the present."""
    verbs = [u for u in small if u.tag in {"P", "D"}]
    return len(verbs) == 1 and verbs[0].tag == "P" and verbs[0].lemma not in {"be", "have"}


def _event(small: Form) -> bool:
    """Something that happened: details of it can only be added."""
    tenses = [u for u in small if u.tag in {"P", "D"}]
    if not tenses:
        return False
    head = small.index(tenses[0])
    following = small[head + 1] if head + 1 < len(small) else None
    if tenses[0].lemma == "be":
        passive = following is not None and following.tag in {"D", "N"}
        return tenses[0].tag == "D" and passive and len(tenses) <= 2
    states = {
        "have",
        "like",
        "want",
        "know",
        "live",
        "work",
        "use",
        "need",
        "love",
        "hate",
        "prefer",
        "own",
    }
    return len(tenses) == 1 and tenses[0].tag == "D" and tenses[0].lemma not in states


def _going_on(small: Form) -> bool:
    """Something under way: "is moving", its "is" dropped."""
    at = next((i for i, u in enumerate(small) if u.tag == "G"), None)
    finite = any(u.tag in {"P", "D"} for u in small)
    return (
        not finite
        and at is not None
        and all(nominal(u) and u.tag != "G" for u in small[:at] if u.sort != "mark")
    )


def _elaborates(small: Form, tail: Form) -> bool:
    """A habit, a possession or a course of things said more closely."""
    first = tail[0]
    if _going_on(small):
        return first.lemma in {"with", "near", "as", "at", "in", "on", "for"} or first.value
    verbs = [u for u in small if u.tag in {"P", "D"}]
    if len(verbs) != 1 or verbs[0].tag != "P":
        return False
    if first.lemma in {"everywhere", "including", "because_of"}:
        return True
    place = first.lemma in {"in", "at", "near"} and len(tail) > 1 and _place(tail[1])
    often = (
        first.lemma in {"every", "most"}
        or first.lemma.startswith("every_")
        or first.key.endswith("*")
    )
    return (
        (
            verbs[0].lemma in words("settled")
            and (often or first.lemma in {"with", "near", "as", "since"})
        )
        or (verbs[0].lemma in words("placed") and place)
        or (verbs[0].lemma in words("purpose") and first.lemma == "for")
    )


def _place(unit: Unit) -> bool:
    return not unit.value and unit.lemma not in words("unplaced") and unit.sort != "mark"


def _reaches(tail: Form) -> bool:
    return any(nominal(u) for u in tail[1:3])
