"""Where two texts differ in a way that is known to change the fact: the reason, if there is one."""

from collections import Counter
from collections.abc import Sequence
from functools import cache

from engram.domain.guard.form import Form
from engram.domain.guard.lexicon import table, words
from engram.domain.guard.morphology import known
from engram.domain.guard.reading import Unit
from engram.domain.guard.verdict import Difference, Reason

_SORTS = {
    "number": Reason.NUMBER, "date": Reason.DATE_TIME, "weekday": Reason.DATE_TIME,
    "time": Reason.DATE_TIME, "quantity": Reason.QUANTITY, "identifier": Reason.IDENTIFIER,
}  # fmt: skip
_LISTS = (
    ("negators", Reason.NEGATION),
    ("condition_words", Reason.CONDITION),
    ("modality_words", Reason.MODALITY),
    ("scope_words", Reason.SCOPE),
    ("implicit_negators", Reason.NEGATION),
    ("time_words", Reason.TENSE),
)
_PREFIXES = ("un", "in", "im", "ir", "il", "dis", "non", "mis")
_MOST_REWORDED = 2
Found = tuple[Reason, Difference]


def left_over(a: Form, b: Form) -> tuple[list[Unit], list[Unit]]:
    """Units that only one side has, counted, in the order of the text."""
    return _missing(a, b), _missing(b, a)


def _missing(a: Form, b: Form) -> list[Unit]:
    have = Counter(u.key for u in b if u.sort != "mark")
    out = []
    for unit in a:
        if unit.sort == "mark":
            continue
        if have[unit.key]:
            have[unit.key] -= 1
        else:
            out.append(unit)
    return out


def reason_of(a: Form, b: Form) -> Found | None:
    """The first reason that holds, from the surest to the least sure."""
    only_a, only_b = left_over(a, b)
    if not only_a and not only_b:
        return _reordered(a, b)
    for rule in (_values, _listed, _tenses, _opposites, _prefixed, _names, _substituted):
        found = rule(only_a, only_b, a, b)
        if found is not None:
            return found
    return None


def _said(units: Sequence[Unit]) -> str:
    return " ".join(u.text for u in units)


def _difference(rule: str, a: Sequence[Unit], b: Sequence[Unit]) -> Difference:
    return Difference(rule, _said(a), _said(b))


def _values(only_a: list[Unit], only_b: list[Unit], _a: Form, _b: Form) -> Found | None:
    """Both sides name a value of one sort that the other does not have."""
    for sort, reason in _SORTS.items():
        left = [u for u in only_a if u.sort == sort]
        right = [u for u in only_b if u.sort == sort]
        if left and right:
            return reason, _difference(sort, left, right)
    numeric = {"number", "quantity", "identifier"}
    left = [u for u in only_a if u.sort in numeric]
    right = [u for u in only_b if u.sort in numeric]
    if left and right:
        return Reason.QUANTITY, _difference("value", left, right)
    return None


def _reworded(units: Sequence[Unit], aside: Sequence[Unit] = ()) -> int:
    """How many words of meaning differ beside those that are looked at."""
    return sum(u not in aside and _meaningful(u) for u in units)


@cache
def _closed() -> frozenset[str]:
    lists = ("prepositions", "dropped", "coordinators", "pronouns")
    return frozenset({"'s", "be", "have", "do"}.union(*(words(name) for name in lists)))


def _meaningful(unit: Unit) -> bool:
    return unit.lemma not in _closed()


def _listed(only_a: list[Unit], only_b: list[Unit], _a: Form, _b: Form) -> Found | None:
    """One side negates, limits, doubts or conditions where the other does not.

    Only in texts that are otherwise alike: where half of the words differ, a "not" proves nothing.
    """
    for name, reason in _LISTS:
        left = [u for u in only_a if u.lemma in words(name)]
        right = [u for u in only_b if u.lemma in words(name)]
        spread = _reworded(only_a, left), _reworded(only_b, right)
        if max(spread) > _MOST_REWORDED or (min(spread) and max(spread) > 1):
            continue
        both = left and right and name not in {"time_words", "negators", "implicit_negators"}
        if bool(left) != bool(right) or both:
            return reason, _difference(name, left, right)
    return None


def _tenses(only_a: list[Unit], only_b: list[Unit], _a: Form, _b: Form) -> Found | None:
    """One verb in two tenses, or one noun in two numbers, in texts that are otherwise alike."""
    if max(_reworded(only_a), _reworded(only_b)) > 1:
        return None
    for unit in only_a:
        for other in only_b:
            if unit.lemma == other.lemma and unit.sort == other.sort and unit.tag != other.tag:
                finite = {unit.tag, other.tag} & {"P", "D", "N"}
                if {unit.tag, other.tag} <= {"P", "B", ""}:
                    continue
                reason = Reason.TENSE if finite else Reason.NUMBER
                return reason, _difference("inflection", [unit], [other])
    return None


def _opposites(only_a: list[Unit], only_b: list[Unit], _a: Form, _b: Form) -> Found | None:
    pairs: dict[str, list[str]] = table("opposites")["pairs"]
    if min(_reworded(only_a), _reworded(only_b)) > 2:
        return None
    for unit in only_a:
        for other in only_b:
            if other.lemma in pairs.get(unit.lemma, ()) or unit.lemma in pairs.get(other.lemma, ()):
                return Reason.ATTRIBUTE, _difference("opposite", [unit], [other])
    return None


def _prefixed(only_a: list[Unit], only_b: list[Unit], _a: Form, _b: Form) -> Found | None:
    for unit in only_a:
        for other in only_b:
            short, long = sorted((unit.lemma, other.lemma), key=len)
            if any(long == prefix + short for prefix in _PREFIXES):
                return Reason.NEGATION, _difference("prefix", [unit], [other])
    return None


def _names(only_a: list[Unit], only_b: list[Unit], _a: Form, _b: Form) -> Found | None:
    left = [u for u in only_a if u.sort == "name"]
    right = [u for u in only_b if u.sort == "name"]
    return (Reason.NAME, _difference("name", left, right)) if left and right else None


def _substituted(only_a: list[Unit], only_b: list[Unit], a: Form, b: Form) -> Found | None:
    """Everything but a word or two is the same, in the same place: the words are the difference."""
    if not only_a or not only_b:
        return _inserted(only_a or only_b, a, b)
    spoken = [u for u in a if u.sort != "mark"], [u for u in b if u.sort != "mark"]
    if max(_reworded(only_a), _reworded(only_b)) > 1 or len(only_a) != len(only_b):
        return None
    kept = [
        [u.key for u in s if u not in only]
        for s, only in zip(spoken, (only_a, only_b), strict=True)
    ]
    if kept[0] != kept[1] or not kept[0]:
        return None
    if not all(known(u.lemma.split("_")[0]) or u.sort == "name" for u in (*only_a, *only_b)):
        return None
    return Reason.ATTRIBUTE, _difference("word", only_a, only_b)


def _inserted(extra: list[Unit], a: Form, b: Form) -> Found | None:
    """A single noun or adjective put into an otherwise equal text makes it another matter."""
    longer, shorter = (a, b) if len(a) > len(b) else (b, a)
    at_end = [u.key for u in longer if u.sort != "mark"][: len(shorter)] == [
        u.key for u in shorter if u.sort != "mark"
    ]
    if len(extra) > 2 or at_end or not any(_meaningful(u) for u in extra):
        return None
    return Reason.ADDITION, _difference("insertion", extra, [])


def _reordered(a: Form, b: Form) -> Found | None:
    """The same words in another order that no rule allows: roles or preferences changed."""
    ordered = any(u.lemma in words("order_words") for u in (*a, *b))
    reason = Reason.ORDER if ordered else Reason.ROLE
    return reason, Difference("order", _said(a), _said(b))
