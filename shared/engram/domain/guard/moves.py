"""Orders that mean the same: fronted phrases, permuted lists and clauses, floating adverbs."""

from collections.abc import Sequence

from engram.domain.guard.form import Form, keys
from engram.domain.guard.lexicon import words
from engram.domain.guard.morphology import forms
from engram.domain.guard.reading import Unit

_SEPARATORS = frozenset({"and", "or"})
_LIST_MARKS = frozenset({",", ";", ".", "!"})
_HEADS = frozenset({":", "–", "=", "is"})
_TEMPORAL = frozenset({"date", "weekday", "time"})
Key = tuple[str, ...]


def explained_order(a: Form, b: Form) -> str | None:
    """The rule by which two forms with the same units mean the same, if one does."""
    ka, kb = keys(a), keys(b)
    if ka == kb:
        return "identical"
    if sorted(_unlinked(ka)) != sorted(_unlinked(kb)):
        return None
    for rule, holds in (
        ("fronting", _rotated), ("list order", _permuted), ("adverb", _floated),
        ("clause order", _fronted_clauses),
    ):  # fmt: skip
        if holds(a, b):
            return rule
    return None


def _unlinked(key: Key) -> list[str]:
    return [k for k in key if k not in {"and", "or", "then", ","}]


def _words(form: Form) -> list[Unit]:
    return [u for u in form if u.sort != "mark"]


def opens_adverbial(unit: Unit) -> bool:
    """Whether a phrase that starts here may stand at the front or at the end of a clause."""
    return unit.lemma in words("fronted") or unit.sort in _TEMPORAL


def _rotated(a: Form, b: Form) -> bool:
    """One is the other with its closing adverbial put first."""
    return _moved_front(_words(a), _words(b)) or _moved_front(_words(b), _words(a))


def _moved_front(front: Sequence[Unit], back: Sequence[Unit]) -> bool:
    kf, kb = [u.key for u in front], [u.key for u in back]
    if len(kf) != len(kb):
        kf, front = _without_then(kf, front)
    if len(kf) != len(kb) or not opens_adverbial(front[0]):
        return False
    for cut in range(1, len(kb)):
        if kb[cut] == kf[0] and kb[cut:] + kb[:cut] == kf:
            before = back[cut - 1].lemma
            return before not in words("focus") and before not in words("prepositions")
    return False


def _without_then(key: list[str], units: Sequence[Unit]) -> tuple[list[str], Sequence[Unit]]:
    """Rule: "If it rains, then …": the "then" adds nothing."""
    if "then" in key and units[0].lemma in {"if", "when"}:
        at = key.index("then")
        return key[:at] + key[at + 1 :], [*units[:at], *units[at + 1 :]]
    return key, units


def unfronted(form: Form) -> list[Form]:
    """The form with an adverbial that opens it and ends in a comma put last."""
    if not form or not opens_adverbial(form[0]):
        return []
    comma = next((i for i, u in enumerate(form) if u.sort == "mark" and u.text != "is"), None)
    if comma is None or form[comma].text != "," or comma > 12:
        return []
    end = len(form)
    while end and form[end - 1].sort == "mark":
        end -= 1
    rest = form[comma + 1 : end]
    if rest and rest[0].lemma == "then" and form[0].lemma in {"if", "when"}:
        rest = rest[1:]
    return [(*rest, *form[:comma])] if rest else []


def _segments(form: Form) -> list[tuple[Unit, ...]]:
    """Parts between marks, "and" and "or"."""
    parts: list[list[Unit]] = [[]]
    for unit in form:
        if unit.text in _LIST_MARKS or unit.lemma in _SEPARATORS:
            parts.append([])
        elif unit.sort != "mark" or unit.text in _HEADS:
            parts[-1].append(unit)
    return [tuple(p) for p in parts if p]


def _pure(a: Sequence[tuple[Unit, ...]], b: Sequence[tuple[Unit, ...]], opening: int) -> bool:
    """A list of things of one kind: no names beside descriptions, no figures beside things.

    "Ann, a nurse, and Ben, a pilot" is no list of four. The capital that opens a text says nothing.
    """
    items = (*a[not opening :], *b[not opening :])
    named = {any(u.sort == "name" or u.text[:1].isupper() for u in item) for item in items}
    valued = {all(u.value for u in item) for item in items}
    owned = {item[0].lemma in words("possessives") for item in items if item}
    return len(named) <= 1 and len(valued) <= 1 and len(owned) <= 1


def _ordered(form: Form) -> bool:
    """Whether the text speaks of an order, which no list in it may lose."""
    return any(
        u.lemma in words("order_words") and u.lemma not in {"from", "second", "third"} for u in form
    )


def _links(form: Form) -> set[str]:
    return {u.lemma for u in form if u.lemma in {"and", "or", "but", "nor"}}


def _permuted(a: Form, b: Form) -> bool:
    """The same items in another order, behind one opening and before one closing."""
    sa, sb = _segments(a), _segments(b)
    if (
        len(sa) != len(sb)
        or len(sa) < 2
        or len(sa) > 12
        or ("or" in _links(a)) != ("or" in _links(b))
    ):
        return False
    if _ordered(a) or _ordered(b):
        return False
    first_a, first_b = sa[0], sb[0]
    for opening in range(_shared(first_a, first_b) + 1):
        if opening and not _governs(first_a, opening):
            continue
        for closing in range(_shared(sa[-1][::-1], sb[-1][::-1]) + 1):
            if closing and not _closes(sa[-1][-closing], closing):
                continue
            if _same_items(sa, sb, opening, closing):
                return True
    return False


def _shared(a: Sequence[Unit], b: Sequence[Unit]) -> int:
    count = 0
    while count < min(len(a), len(b)) - 1 and a[count].key == b[count].key:
        count += 1
    return count


def _governs(segment: Sequence[Unit], opening: int) -> bool:
    """The opening ends in a word that rules every item: a verb or a preposition, no adjective."""
    last = segment[opening - 1]
    if last.text in _HEADS:
        return True
    if last.lemma in words("prepositions") or last.tag in {"P", "D"}:
        return last.lemma not in {"between", "from"}
    return last.tag == "B" and not forms(last.text.lower()).adjective


def _closes(unit: Unit, _closing: int) -> bool:
    return (
        unit.tag in {"P", "D"}
        or unit.text == "is"
        or unit.lemma in words("prepositions")
        or unit.lemma in words("modals")
    )


def _same_items(
    sa: Sequence[tuple[Unit, ...]], sb: Sequence[tuple[Unit, ...]], opening: int, closing: int
) -> bool:
    items_a, items_b = _items(sa, opening, closing), _items(sb, opening, closing)
    if sorted(map(_item_key, items_a)) != sorted(map(_item_key, items_b)):
        return False
    if any(not item for item in items_a):
        return False
    verbal = sum(any(_asserts(u) for u in item) for item in items_a)
    if opening or verbal * 2 < len(items_a) or any(len(item) < 2 for item in items_a):
        return _stated(items_a) or _stated(items_b) or _pure(items_a, items_b, opening)
    return not any(i[0].lemma in words("anaphoric") or all(u.value for u in i) for i in items_a)


def _asserts(unit: Unit) -> bool:
    return unit.tag in {"P", "D"} or unit.lemma in words("modals")


def _stated(items: Sequence[tuple[Unit, ...]]) -> bool:
    """Each item is a statement of its own: "the deadline is Q3"."""
    return all(any(u.text == "is" for u in item) for item in items)


def _items(
    segments: Sequence[tuple[Unit, ...]], opening: int, closing: int
) -> list[tuple[Unit, ...]]:
    cut = list(segments)
    cut[0] = cut[0][opening:]
    if closing:
        cut[-1] = cut[-1][:-closing]
    return cut


def _item_key(item: tuple[Unit, ...]) -> Key:
    return tuple(u.key for u in item if u.text != "is")


def _floated(a: Form, b: Form) -> bool:
    """One adverb of manner or one point in time stands elsewhere in the only clause."""
    ra, rb = _float_out(_words(a)), _float_out(_words(b))
    if ra is None or rb is None or ra[1] != rb[1]:
        return False
    return ra[0] == rb[0] or _permuted(_without(a, ra[1]), _without(b, rb[1]))


def _without(form: Form, floating: Key) -> Form:
    return tuple(u for u in form if u.key not in floating)


def _float_out(units: Sequence[Unit]) -> tuple[Key, Key] | None:
    """The clause without its floating part, and that part; None where it may not float."""
    if sum(u.tag in {"P", "D"} for u in units) > 1 or any(
        u.lemma in words("focus") - {"and", "as"}
        or u.lemma in {"if", "when", "because", "that", "than"}
        for u in units
    ):
        return None
    floating = [
        i for i, u in enumerate(units) if u.lemma in words("floating") or u.sort in _TEMPORAL
    ]
    if not floating or floating[-1] - floating[0] + 1 != len(floating):
        return None
    finite = next((i for i, u in enumerate(units) if u.tag in {"P", "D"}), 0)
    start, end = floating[0], floating[-1] + 1
    if start and units[start - 1].lemma in words("prepositions"):
        return None
    if 0 < start < finite and units[start].sort in _TEMPORAL:
        return None
    rest = tuple(u.key for u in (*units[:start], *units[end:]))
    return rest, tuple(u.key for u in units[start:end])


def _fronted_clauses(a: Form, b: Form) -> bool:
    """Clauses between strong marks, each equal to its partner or fronted in it."""
    ca, cb = _clauses(a), _clauses(b)
    return len(ca) == len(cb) > 1 and all(
        keys(x) == keys(y) or _rotated(x, y) for x, y in zip(ca, cb, strict=True)
    )


def _clauses(form: Form) -> list[Form]:
    parts: list[list[Unit]] = [[]]
    for unit in form:
        if unit.sort == "mark" and unit.text in {";", ".", ":", "–"}:
            parts.append([])
        else:
            parts[-1].append(unit)
    return [tuple(p) for p in parts if any(u.sort != "mark" for u in p)]
