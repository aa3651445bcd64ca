"""Passive clauses turned active: in all tenses, with modals, with "not", with a second object."""

from collections.abc import Sequence
from dataclasses import replace

from engram.domain.guard.form import Form
from engram.domain.guard.lexicon import words
from engram.domain.guard.morphology import forms
from engram.domain.guard.phrases import nominal
from engram.domain.guard.reading import Unit

_FINITE = frozenset({"P", "D"})
_TIMES = frozenset({"time", "date", "weekday", "quantity"})
_NAMED_TIMES = frozenset(
    {"last", "next", "this", "yesterday", "today", "tomorrow", "every", "each", "once", "twice"}
)


def active(form: Form) -> list[Form]:
    """Rule: "The roof was repaired by Ann last week" is "Ann repaired the roof last week"."""
    for i in range(1, len(form) - 2):
        if form[i].lemma not in {"be", "have"} and form[i].lemma not in words("modals"):
            continue
        if not all(nominal(u) for u in form[:i]):
            return []
        if found := _passive(form, i):
            return _turned(form, i, *found)
    return []


def _passive(form: Form, i: int) -> tuple[tuple[Unit, ...], int] | None:
    """The words that stand before the agent's verb in the active, and where its verb stands."""
    head, after = form[i], form[i + 1]
    if head.lemma in words("modals"):
        return _with_verb(form, (head,), i + 2, "B") if after.lemma == "be" else None
    if head.tag not in _FINITE:
        return None
    if head.lemma == "have":
        been = after.lemma == "be" and after.tag == "N"
        return _with_verb(form, (head,), i + 2, "D") if been else None
    if after.lemma == "not":
        do = Unit("do", head.tag, "word", "do")
        return _with_verb(form, (do, after), i + 2, "B")
    if after.lemma == "be" and after.tag == "G":
        return _with_verb(form, (head,), i + 2, "G")
    return _with_verb(form, (), i + 1, head.tag)


def _with_verb(
    form: Form, before: tuple[Unit, ...], j: int, tag: str
) -> tuple[tuple[Unit, ...], int] | None:
    adverbs: list[Unit] = []
    while j < len(form) and form[j].lemma in words("floating"):
        adverbs.append(form[j])
        j += 1
    if j + 1 >= len(form) or not _participle(form[j]):
        return None
    verb = replace(form[j], lemma=_verb(form[j]), tag=tag)
    return (*before, *adverbs, verb), j


def _participle(unit: Unit) -> bool:
    if unit.tag in {"D", "N"}:
        return True
    reading = forms(unit.text.lower())
    return not unit.tag and unit.sort == "word" and bool(reading.tags & {"VBN", "VBD"})


def _verb(unit: Unit) -> str:
    return unit.lemma if unit.tag in {"D", "N"} else forms(unit.text.lower()).verb


def _turned(form: Form, i: int, said: tuple[Unit, ...], verb: int) -> list[Form]:
    """The agent to the front, what was the subject behind the verb."""
    agent = _by(form, verb + 1)
    if agent is None:
        return []
    between = form[verb + 1 : agent]
    end = phrase_end(form, agent + 1)
    if end == agent + 1:
        return []
    closed = len(form)
    while closed > end and form[closed - 1].sort == "mark":
        closed -= 1
    ends = [end]
    if end < closed and form[end].lemma in {"on", "in", "from", "at"}:
        ends += [closed] if phrase_end(form, end + 1) == closed else []
    # "was operated on by" keeps its preposition with the verb; "was paid 50 euros by" its object.
    led = between and between[0].lemma in words("prepositions")
    objects = (*between, *form[:i]) if led else (*form[:i], *between)
    return [(*form[agent + 1 : e], *said, *objects, *form[e:]) for e in ends]


def _by(form: Form, start: int) -> int | None:
    """Where the agent begins: at "by", at once, after one preposition or after an object."""
    for i in range(start, min(len(form) - 1, start + 5)):
        if _agent(form, i) and (i == start or form[i].lemma == "by"):
            return i
        lone = i == start and form[i].lemma in words("prepositions")
        if not lone and not nominal(form[i]):
            return None
    return None


def _agent(form: Sequence[Unit], i: int) -> bool:
    """Rule: "by" somebody, or "with" a thing that does it; no place and no time."""
    if form[i].lemma == "with" and i + 1 < len(form):
        return form[i + 1].lemma not in words("pronouns") and form[-1].sort != "name"
    return form[i].lemma == "by" and form[i + 1].sort not in _TIMES


def phrase_end(form: Form, start: int) -> int:
    """Where the noun phrase ends that begins at ``start``."""
    end = start
    while end < len(form) and nominal(form[end]) and not _when(form[end]):
        end += 1
    return end


def _when(unit: Unit) -> bool:
    """A point in time or a rhythm, which is no part of the phrase before it."""
    return (
        unit.sort in {"time", "date", "weekday"}
        or unit.lemma in _NAMED_TIMES
        or unit.lemma.startswith("every_")
    )
