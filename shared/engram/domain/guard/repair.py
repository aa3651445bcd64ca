"""Differences of spelling between two texts: slips that are no other word, and joined compounds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from rapidfuzz.distance import OSA

from engram.domain.guard.lexicon import notation, words
from engram.domain.guard.morphology import forms, known, standard_spelling
from engram.domain.guard.tokens import Raw
from engram.domain.guard.verdict import Difference

_MAX_SLIPS = 12
_MANY_SLIPS = 2


def _low_words(tokens: Sequence[Raw]) -> Counter[str]:
    return Counter(t.low for t in tokens if t.sort == "word")


def repaired(a: list[Raw], b: list[Raw]) -> tuple[list[Raw], list[Raw], list[Difference]]:
    """Both token lists with one spelling, and what was made equal."""
    found: list[Difference] = []
    a, b = _joined(a, b, found), _joined(b, a, found)
    a, b = _with_apostrophes(a, b, found), _with_apostrophes(b, a, found)
    return _corrected(a, b, found), _corrected(b, a, found), found


def _joined(tokens: list[Raw], other: list[Raw], found: list[Difference]) -> list[Raw]:
    """Two words written as one in the other text: "flash cards", "wi-fi"."""
    wanted = {t.low for t in other if t.sort == "word" and len(t.text) >= 4}
    own = {t.low for t in tokens}
    out: list[Raw] = []
    i = 0
    while i < len(tokens):
        dash = int(i + 2 < len(tokens) and tokens[i + 1].text == "-" and tokens[i + 1].joined)
        if i + 1 + dash < len(tokens) and tokens[i].sort == tokens[i + 1 + dash].sort == "word":
            left, right = tokens[i], tokens[i + 1 + dash]
            whole = left.low + right.low
            if whole in wanted and whole not in own and _joinable(left.low, right.low, whole):
                out.append(replace(left, text=left.text + right.low))
                found.append(Difference("compound", f"{left.text} {right.text}", whole))
                i += 2 + dash
                continue
        out.append(tokens[i])
        i += 1
    return out


def _joinable(left: str, right: str, whole: str) -> bool:
    closed = words("determiners") | words("prepositions") | words("modals") | words("negators")
    return (
        whole not in words("not_joined") and not {left, right} & closed and left not in {"un", "re"}
    )


def _with_apostrophes(tokens: list[Raw], other: list[Raw], found: list[Difference]) -> list[Raw]:
    """Rule: "the users cat" beside "the user's cat", in a text that has no apostrophes at all."""
    if any("'" in t.text for t in tokens):
        return tokens
    full = {
        t.low.replace("'", ""): t.low for t in other if t.sort == "word" and t.low.endswith("'s")
    }
    out = []
    for token in tokens:
        meant = full.get(token.low)
        if (
            meant
            and token.sort == "word"
            and token.low not in {"its", "hes", "shes", "lets", "whos"}
        ):
            found.append(Difference("apostrophe", token.text, meant))
            out.append(replace(token, text=token.text[:-1] + "'s"))
        else:
            out.append(token)
    return out


def _corrected(tokens: list[Raw], other: list[Raw], found: list[Difference]) -> list[Raw]:
    """Words that are none, read as the one word of the other text they are a slip of."""
    missing = _low_words(other) - _low_words(tokens)
    strange = _low_words(tokens) - _low_words(other)
    if not missing or not strange or sum(strange.values()) > 40:
        return tokens
    names = {t.low for i, t in enumerate(other) if t.text[:1].isupper() and _inside(other, i)}
    candidates = [w for w in missing if _correctable(w) and w not in names]
    meant: dict[str, str] = {}
    for word in strange:
        if _is_slip(word) and len(meant) < _MAX_SLIPS and (full := _nearest(word, candidates)):
            meant[word] = full
    if len(meant) >= _MANY_SLIPS:
        _names_too(strange, [w for w in missing if w in names], meant)
    if not meant:
        return tokens
    found.extend(Difference("spelling", w, full) for w, full in meant.items())
    return [_respelled(tokens, i, meant) for i in range(len(tokens))]


def _names_too(strange: Counter[str], names: Sequence[str], meant: dict[str, str]) -> None:
    """In a text full of slips a name may be one too, where it is one slip away from the other's."""
    for word in strange:
        near = [n for n in names if OSA.distance(word, n, score_cutoff=1) <= 1]
        if word not in meant and len(near) == 1 and len(word) >= 4 and _is_slip(word):
            meant[word] = near[0].capitalize()


def _inside(tokens: Sequence[Raw], i: int) -> bool:
    return i > 0 and tokens[i - 1].text not in {".", "!", "?", ":"} and not tokens[i].text.isupper()


def _respelled(tokens: Sequence[Raw], i: int, meant: dict[str, str]) -> Raw:
    token = tokens[i]
    full = meant.get(token.low)
    if full is None or token.sort != "word" or (token.text[0].isupper() and _inside(tokens, i)):
        return token
    return replace(token, text=full.capitalize() if token.text[0].isupper() else full)


def _correctable(word: str) -> bool:
    """Numbers, negations and the like are never supplied by guesswork."""
    return (
        word.isascii()
        and known(word)
        and not (
            word in notation("cardinals")
            or word in notation("ordinals")
            or word in words("negators")
            or word in words("modals")
            or word in notation("months")
        )
    )


def _is_slip(word: str) -> bool:
    plain = word.replace("'", "")
    return (
        plain.isascii()
        and len(plain) >= 3
        and not known(plain)
        and standard_spelling(word) == word
        and (word not in notation("unit_words") and word not in notation("weekdays"))
    )


def _nearest(word: str, candidates: Sequence[str]) -> str | None:
    """The only candidate in reach: one slip, in long words two, in short ones a swap or a gap."""
    reach = 2 if len(word) >= 6 else 1
    scored = sorted((OSA.distance(word, c, score_cutoff=reach), c) for c in candidates)
    near = [(d, c) for d, c in scored if d <= reach]
    if not near or (len(near) > 1 and near[0][0] == near[1][0]):
        return None
    distance, full = near[0]
    if distance == 2 and (
        word[: 1 + (len(word) < 7)] != full[: 1 + (len(word) < 7)] or _swapped_affix(word, full)
    ):
        return None
    if len(word) <= 4 and not (sorted(word) == sorted(full) or len(full) == len(word) + 1):
        return None
    return None if _swapped_affix(word, full) else full


def _swapped_affix(word: str, full: str) -> bool:
    """A prefix that turns the meaning, or another ending of a real stem, is no slip."""
    for prefix in ("un", "in", "im", "ir", "il", "dis", "non", "de", "re", "a"):
        if prefix + full == word or prefix + word == full:
            return True
    return any(
        word.endswith(a) and full.endswith(b) and word[: -len(a)] == full[: -len(b)]
        for a, b in (("less", "ful"), ("ful", "less"), ("er", "ed"), ("ed", "er"), ("s", ""))
        if forms(word[: -len(a)] or "-").noun or forms(word[: -len(a)] or "-").verb
    )
