"""The guard: proves that two texts say the same, that one holds the other, or why they differ."""

from functools import lru_cache

from engram.domain.guard.containment import contains
from engram.domain.guard.contrast import left_over, reason_of
from engram.domain.guard.foreign_wrappers import unwrapped_elsewhere
from engram.domain.guard.form import Form, full_form, keys, reduced
from engram.domain.guard.language import english
from engram.domain.guard.lexicon import words
from engram.domain.guard.moves import explained_order, unfronted
from engram.domain.guard.relations import turned
from engram.domain.guard.repair import repaired
from engram.domain.guard.tagging import caseless
from engram.domain.guard.tokens import MAX_TOKENS, Raw, bare, fold, tokenise
from engram.domain.guard.verdict import Difference, Kind, Reason, Verdict
from engram.domain.guard.wrappers import unwrapped

MAX_CHARS = 4_000
"""Longer texts are compared for identity only: the time of a comparison stays bounded."""
_MOST_READINGS = 8


def examine(a: str, b: str) -> Verdict:
    """Compare two texts of one namespace; pure, never raises, bounded in time for any text.

    Only `SAME`, `CONTAINS_A` and `CONTAINS_B` (`Verdict.proves`) say that nothing is lost by
    keeping one of them; the other kinds say what is known of the difference.
    """
    fa, fb = fold(a), fold(b)
    if fa == fb:
        return Verdict(Kind.SAME)
    if len(fa) > MAX_CHARS or len(fb) > MAX_CHARS:
        return Verdict(Kind.UNEXPLAINED, unexplained=(Difference("length"),))
    if not (_in_english(fa) and _in_english(fb)):
        return _without_rules(unwrapped_elsewhere(fa), unwrapped_elsewhere(fb))
    (ta, sa), (tb, sb) = unwrapped(fa), unwrapped(fb)
    raw_a, raw_b = tokenise(ta), tokenise(tb)
    if max(len(raw_a), len(raw_b)) > MAX_TOKENS:
        return Verdict(Kind.UNEXPLAINED, unexplained=(Difference("length"),))
    explained = [Difference("wrapper", t, "") for f, t in ((fa, ta), (fb, tb)) if f != t]
    raw_a, raw_b, repairs = repaired(raw_a, raw_b)
    return _compared(raw_a, raw_b, (sa, sb), [*explained, *repairs])


@lru_cache(maxsize=4096)
def _in_english(folded: str) -> bool:
    return english(folded)


def _without_rules(fa: str, fb: str) -> Verdict:
    """Another language: case and marks at most, and digits that differ are a difference."""
    na, nb = bare(fa), bare(fb)
    if na == nb or (na.lower() == nb.lower() and _initial_case_only(na, nb)):
        return Verdict(Kind.SAME, explained=(Difference("punctuation"),))
    digits = [
        sorted(t.text for t in tokenise(f[:MAX_CHARS]) if t.text[0].isdigit()) for f in (fa, fb)
    ]
    if digits[0] != digits[1] and len(digits[0]) == len(digits[1]) and _mask(fa) == _mask(fb):
        found = Difference("number", " ".join(digits[0]), " ".join(digits[1]))
        return Verdict(Kind.DIFFERENT, Reason.NUMBER, unexplained=(found,))
    return Verdict(Kind.UNEXPLAINED, unexplained=(Difference("language", fa[:200], fb[:200]),))


def _mask(text: str) -> str:
    return "".join("0" if c.isdigit() else c for c in text)


def _initial_case_only(a: str, b: str) -> bool:
    return a[:1].lower() + a[1:] == b[:1].lower() + b[1:]


def _compared(
    a: list[Raw], b: list[Raw], spoken: tuple[bool, bool], explained: list[Difference]
) -> Verdict:
    readings_a, readings_b = _readings(a, spoken=spoken[0]), _readings(b, spoken=spoken[1])
    case = _case_conflict(readings_a[0], readings_b[0])
    for fa in readings_a:
        for fb in readings_b:
            rule = explained_order(fa, fb)
            if rule is not None:
                if case is not None:
                    return Verdict(Kind.DIFFERENT, Reason.CASE, unexplained=(case,))
                return Verdict(Kind.SAME, explained=(*explained, Difference(rule)))
    if case is None and (kind := _containment(readings_a, readings_b)):
        return Verdict(kind, explained=(*explained, Difference("containment")))
    return _contrasted(readings_a, readings_b, explained)


def _readings(tokens: list[Raw], *, spoken: bool) -> list[Form]:
    """All forms a text may take, the plain one first."""
    forms: list[Form] = []
    for resolve in (False, True) if spoken else (False,):
        full = full_form(tokens, spoken=resolve)
        for reading in (full, *turned(full)):
            plain = reduced(reading)
            forms.append(plain)
            forms.extend(unfronted(plain))
    unique: dict[tuple[str, ...], Form] = {}
    for form in forms:
        unique.setdefault(keys(form), form)
    return list(unique.values())[:_MOST_READINGS]


def _containment(readings_a: list[Form], readings_b: list[Form]) -> Kind | None:
    for fa in readings_a:
        for fb in readings_b:
            if contains(fa, fb):
                return Kind.CONTAINS_A
            if contains(fb, fa):
                return Kind.CONTAINS_B
    return None


def _case_conflict(a: Form, b: Form) -> Difference | None:
    """Words that mean another thing with a capital: Polish and polish, in texts that use both."""
    if caseless(a) or caseless(b):
        return None
    inner_a, inner_b = _cased(a), _cased(b)
    for word in inner_a.keys() & inner_b.keys():
        if inner_a[word] != inner_b[word] and word in words("capitonyms"):
            return Difference("case", word, word)
    return None


def _cased(form: Form) -> dict[str, bool]:
    return {
        u.text.lower(): u.text[0].isupper()
        for i, u in enumerate(form)
        if i and form[i - 1].sort != "mark" and u.sort in {"word", "name"} and u.text
    }


def _contrasted(
    readings_a: list[Form], readings_b: list[Form], explained: list[Difference]
) -> Verdict:
    """What stands between the two closest readings."""
    pairs = [(fa, fb, *left_over(fa, fb)) for fa in readings_a for fb in readings_b]
    fa, fb, only_a, only_b = min(pairs, key=lambda p: len(p[2]) + len(p[3]))
    found = reason_of(fa, fb)
    if found is not None:
        reason, difference = found
        return Verdict(Kind.DIFFERENT, reason, tuple(explained), (difference,))
    left = Difference("words", " ".join(u.text for u in only_a), " ".join(u.text for u in only_b))
    return Verdict(Kind.UNEXPLAINED, None, tuple(explained), (left,))
