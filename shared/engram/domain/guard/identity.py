"""Who is who: statements of identity turned round, appositions, and what belongs to whom."""

from engram.domain.guard.form import Form
from engram.domain.guard.lexicon import table, words
from engram.domain.guard.phrases import nominal
from engram.domain.guard.reading import Unit

_DEFINITE = frozenset({"the", "my", "his", "her", "its", "our", "their", "your", "'s"})
_QUANTIFIED = frozenset({"all", "every", "each", "some", "most", "many", "few", "any", "no", "both",
                         "only", "not", "than", "as", "like", "never", "also"})  # fmt: skip


def inverted(form: Form) -> Form:
    """Rule: "the boss is Ann" is "Ann is the boss", where a side names one thing."""
    end = _stop(form)
    at = next((i for i, u in enumerate(form[:end]) if u.lemma == "be" and u.tag in {"P", "D"}), 0)
    a, b = form[:at], form[at + 1 : end]
    if not a or not b or not all(_plain(u) for u in (*a, *b)):
        return form
    if not (_definite(a) or _definite(b)):
        return form
    first, second = sorted(
        (a, b), key=lambda side: [u.key for u in side if u.lemma not in _ARTICLES]
    )
    return (*first, form[at], *second, *form[end:])


_ARTICLES = frozenset({"a", "the"})


def _stop(form: Form) -> int:
    end = len(form)
    while end and form[end - 1].sort == "mark":
        end -= 1
    return end


def _plain(unit: Unit) -> bool:
    return nominal(unit) and unit.lemma not in _QUANTIFIED and unit.tag not in {"N", "G"}


def _definite(side: Form) -> bool:
    """One thing and no more: "the", "her" or "Ann's" before a noun in the singular."""
    owned = any(u.lemma in _DEFINITE for u in side)
    return owned and not any(u.tag == "pl" for u in side)


def genitive(form: Form) -> Form:
    """Rule: "the first wife of Ann" is "Ann's first wife"; "the name of the dog", "dog's name"."""
    relational = table("relations")["relational"]
    for i in range(len(form) - 2):
        if form[i].lemma not in relational or form[i + 1].lemma != "of":
            continue
        owner_end = _owner_end(form, i + 2)
        if owner_end is None:
            continue
        start = _noun_start(form, i)
        of = Unit("'s", "", "word", "'s")
        begin = start - 1 if start and form[start - 1].lemma in _ARTICLES else start
        tail = owner_end + (owner_end < len(form) and form[owner_end].lemma == "'s")
        return (*form[:begin], *form[i + 2 : owner_end], of, *form[start : i + 1], *form[tail:])
    return form


def _owner_end(form: Form, start: int) -> int | None:
    """Behind a name, or behind "the" or "her" and a noun."""
    end = start
    while end < len(form) and form[end].sort == "name" and not form[end].value:
        end += 1
    if end > start:
        return end
    owned = form[start].lemma in _DEFINITE - {"'s"} and start + 1 < len(form)
    noun = owned and form[start + 1].sort == "word" and form[start + 1].tag in {"", "pl"}
    return start + 2 if noun and form[start + 1].lemma not in words("prepositions") else None


def _noun_start(form: Form, i: int) -> int:
    """Where the words begin that stand before a noun and belong to it."""
    start = i
    while start and form[start - 1].sort == "word" and not form[start - 1].tag:
        before = form[start - 1].lemma
        if before in words("determiners") or before in words("possessives") or before == "as":
            break
        if (
            before in words("prepositions")
            or before in words("coordinators")
            or not nominal(form[start - 1])
        ):
            break
        if before in words("adverbs"):
            break
        start -= 1
    return start


def apposed(form: Form) -> Form:
    """Rule: "Ann, my sister, is away" and "My sister, Ann, is away" as "My sister Ann is away"."""
    commas = [i for i, u in enumerate(form) if u.text == ","][:2]
    if len(commas) < 2 or not _goes_on(form, commas[1] + 1):
        return form
    one, two = form[: commas[0]], form[commas[0] + 1 : commas[1]]
    if _is_name(one) and _described(two):
        return (*two, *one, *form[commas[1] + 1 :])
    if _described(one) and _is_name(two):
        return (*one, *two, *form[commas[1] + 1 :])
    return form


def _goes_on(form: Form, i: int) -> bool:
    """Whether the clause has its verb here; "Ann, the dog, and Ida" are three."""
    return i < len(form) and (form[i].tag in {"P", "D"} or form[i].lemma in words("modals"))


# Said without an owner they are the user's: "my" goes when a text is read.
_OWN = frozenset({
    "mother", "father", "sister", "brother", "wife", "husband", "son", "daughter", "boss", "aunt",
    "uncle", "cousin", "neighbor", "landlord", "partner", "roommate",
})  # fmt: skip


def _is_name(part: Form) -> bool:
    return (
        0 < len(part) <= 3
        and all(
            u.sort == "name" or (u.sort == "word" and u.text[:1].isupper() and not u.tag)
            for u in part
            if u.lemma not in words("determiners")
        )
        and part[0].lemma not in words("determiners")
    )


def _described(part: Form) -> bool:
    """One whom the words single out: "my sister", "Ann's dog", in the singular."""
    mine = len(part) == 1 and bool(part) and part[0].lemma in _OWN
    return (
        (mine or 1 < len(part) <= 5)
        and all(nominal(u) and u.sort != "mark" for u in part)
        and (mine or part[0].lemma in _DEFINITE or any(u.lemma == "'s" for u in part))
        and part[-1].tag == ""
        and part[-1].sort == "word"
    )
