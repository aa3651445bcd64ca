"""Numbers in digits and words: 1,200; 54k; one and a half million; two dozen; two thirds."""

from collections.abc import Sequence
from fractions import Fraction

from engram.domain.guard.lexicon import notation
from engram.domain.guard.tokens import Raw

Found = tuple[Fraction, int]
"""A value, and how many tokens it took."""


def digits(text: str) -> Fraction | None:
    """The value of a number in digits; None for versions, dates and codes."""
    plain = text.replace(",", "").replace(" ", "").replace("'", "").replace("\u202f", "")
    whole, _, rest = plain.partition(".")
    if not whole.isdigit() or (rest and not rest.isdigit()) or len(plain) > 30:
        return None
    return Fraction(plain)


def _scale(tokens: Sequence[Raw], i: int) -> Fraction | None:
    if i >= len(tokens) or tokens[i].sort != "word":
        return None
    low = tokens[i].low
    value = notation("scales").get(low) or notation("scales").get(low.removesuffix("s"))
    return Fraction(value) if value and low != "grands" else None


def _small(tokens: Sequence[Raw], i: int) -> Found | None:
    """Up to ninety-nine in words, "a" before a scale, or digits."""
    token = tokens[i]
    if token.sort in {"number", "group"}:
        value = digits(token.text)
        return (value, 1) if value is not None else None
    cardinal = notation("cardinals").get(token.low)
    if cardinal is None:
        if token.low in {"a", "an"} and _scale(tokens, i + 1) is not None:
            return Fraction(1), 1
        return None
    used = 1
    if 20 <= cardinal < 100:
        step = 2 if i + 2 < len(tokens) and tokens[i + 1].text == "-" else 1
        unit = notation("cardinals").get(tokens[i + step].low) if i + step < len(tokens) else None
        if unit is not None and 0 < unit < 10:
            return Fraction(cardinal + unit), step + 1
    return Fraction(cardinal), used


def _half_more(tokens: Sequence[Raw], i: int) -> Found | None:
    """Rule: "and a half", "and three quarters" after a number."""
    if i + 2 < len(tokens) and tokens[i].low == "and":
        top = 1 if tokens[i + 1].low == "a" else notation("cardinals").get(tokens[i + 1].low)
        bottom = notation("denominators").get(tokens[i + 2].low)
        if top and bottom in {2, 3, 4}:
            return Fraction(top, bottom), 3
    if i < len(tokens) and tokens[i].sort == "number" and tokens[i].text in {"1/2", "1/4", "3/4"}:
        return Fraction(tokens[i].text), 1
    return None


def _fraction(tokens: Sequence[Raw], i: int) -> Found | None:
    """Rule: "two thirds", "three quarters", "half a million", "2/3 of"."""
    low = tokens[i].low
    if low == "half" and i + 2 < len(tokens) and tokens[i + 1].low in {"a", "an"}:
        scale = _scale(tokens, i + 2)
        if scale is not None:
            return scale / 2, 3
    if tokens[i].sort == "number" and tokens[i].text.count("/") == 1:
        top, bottom = tokens[i].text.split("/")
        small = top.isdigit() and bottom.isdigit() and 0 < int(top) < int(bottom) <= 10
        return (Fraction(int(top), int(bottom)), 1) if small and top[0] != "0" else None
    count: int | None = notation("cardinals").get(low)
    at = i + 2 if i + 2 < len(tokens) and tokens[i + 1].text == "-" else i + 1
    if count and at < len(tokens):
        parts: int | None = notation("denominators").get(tokens[at].low)
        plural = tokens[at].low.endswith("s") == (count > 1)
        if parts and plural and (count > 1 or tokens[at].low in {"half", "quarter"}):
            return Fraction(count, parts), at + 1 - i
    return None


def read_number(tokens: Sequence[Raw], i: int) -> Found | None:
    """The number that starts at token i, in digits or words, with its scales."""
    if found := _fraction(tokens, i):
        return found
    total, group, position = Fraction(0), None, i
    while position < len(tokens):
        if (
            group is not None
            and tokens[position].low == "and"
            and position + 1 < len(tokens)
            and group + total >= 100
            and tokens[position + 1].low in notation("cardinals")
        ):
            position += 1
        small = _small(tokens, position) if group is None or group % 100 == 0 else None
        if small is not None and (group is None or small[0] < 100) and _spoken(tokens, i, position):
            group, position = (group or 0) + small[0], position + small[1]
        elif group is not None and (more := _half_more(tokens, position)) is not None:
            group, position = group + more[0], position + more[1]
        elif group is not None and (scale := _scale(tokens, position)) is not None:
            position += 1
            group *= scale
            if scale >= 1000:
                total, group = total + group, Fraction(0)
        else:
            break
    return None if group is None else (total + group, position - i)


def _spoken(tokens: Sequence[Raw], first: int, position: int) -> bool:
    """Digits never follow digits inside one number: "20 30" are two."""
    return position == first or tokens[position].sort == "word"
