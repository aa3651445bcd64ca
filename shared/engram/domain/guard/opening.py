"""Tokens opened before values are read: what one token holds of number, unit, sign and word."""

import re
from collections.abc import Sequence

from engram.domain.guard import values
from engram.domain.guard.lexicon import table
from engram.domain.guard.morphology import known
from engram.domain.guard.tokens import Raw

_COMPOUND = re.compile(r"(\d+(?:\.\d+)?)-([a-zA-Z]+)")
_TIMES = re.compile(r"(\d+)x", re.IGNORECASE)
_RATES = frozenset({"a", "an", "per", "each", "every", "daily", "weekly", "monthly", "yearly"})
_COUNTED = {"2": "two", "3": "three"}
_OF_DOLLARS = frozenset({"US", "C", "CA", "A", "AU", "NZ", "HK", "S"})


def opened(tokens: Sequence[Raw]) -> list[Raw]:
    """Rule: "90-day", "/month", "3x a week", "US$40" and "1,80 m" as their parts."""
    out: list[Raw] = []
    i = 0
    while i < len(tokens):
        found = _decimal(tokens, i) or _dollars(tokens, i) or _lettered(tokens, i)
        if found is not None:
            out.append(found[0])
            i += found[1]
            continue
        out.extend(_parts(tokens, i))
        i += 1
    return out


def _parts(tokens: Sequence[Raw], i: int) -> list[Raw]:
    token = tokens[i]
    compound = _COMPOUND.fullmatch(token.text) if token.sort == "code" else None
    if compound and (known(compound.group(2).lower()) or len(compound.group(2)) > 3):
        return [
            Raw("number", compound.group(1), token.start, token.joined),
            Raw("word", compound.group(2), token.start, joined=True),
        ]
    times = _TIMES.fullmatch(token.text) if token.sort == "code" else None
    if times and i + 1 < len(tokens) and tokens[i + 1].low in _RATES:
        return [
            Raw("word", _COUNTED[times.group(1)], token.start, token.joined)
            if times.group(1) in _COUNTED
            else Raw("number", times.group(1), token.start, token.joined),
            Raw("word", "times", token.start, joined=False),
        ]
    if token.text in _COUNTED and i + 1 < len(tokens) and tokens[i + 1].low == "times":
        return [Raw("word", _COUNTED[token.text], token.start, token.joined)]
    slashed = token.sort == "path" and re.fullmatch(r"/[a-z]+", token.text)
    if slashed and values.unit_of(token.text[1:]):
        return [
            Raw("word", "per", token.start, joined=False),
            Raw("word", token.text[1:], token.start, joined=False),
        ]
    return [token]


def _decimal(tokens: Sequence[Raw], i: int) -> tuple[Raw, int] | None:
    """Rule: a comma before one or two digits and a unit, or after a currency, is a point."""
    if i + 2 >= len(tokens) or tokens[i].sort != "number" or not tokens[i].text.isdigit():
        return None
    comma, rest = tokens[i + 1], tokens[i + 2]
    if (
        comma.text != ","
        or not (comma.joined and rest.joined)
        or rest.sort not in {"number", "code"}
    ):
        return None
    digits = re.match(r"\d{1,2}(?!\d)", rest.text)
    if not digits or "." in rest.text or not _measured(tokens, i, digits.group()):
        return None
    text = f"{tokens[i].text}.{rest.text}"
    return Raw(rest.sort, text, tokens[i].start, tokens[i].joined), 3


def _measured(tokens: Sequence[Raw], i: int, digits: str) -> bool:
    """Whether a unit stands against or behind the number, or a currency sign before it."""
    rest = tokens[i + 2].text[len(digits) :]
    if rest:
        return values.unit_of(rest) is not None
    if i and tokens[i - 1].sort == "symbol" and values.currency_of(tokens[i - 1].text):
        return True
    after = tokens[i + 3] if i + 3 < len(tokens) else None
    if after is None or after.low in {"in", "at", "a", "d", "t"}:
        return False
    return bool(values.unit_of(after.text) or values.currency_of(after.text))


def _lettered(tokens: Sequence[Raw], i: int) -> tuple[Raw, int] | None:
    """Rule: "R&D" is one word."""
    if i + 2 >= len(tokens) or tokens[i + 1].text != "&" or not tokens[i + 1].joined:
        return None
    text = f"{tokens[i].text}&{tokens[i + 2].text}"
    if not tokens[i + 2].joined or text not in table("abbreviations")["exact"]:
        return None
    return Raw("word", text, tokens[i].start, tokens[i].joined), 3


def _dollars(tokens: Sequence[Raw], i: int) -> tuple[Raw, int] | None:
    """Rule: "US$" and "A$" are one sign."""
    if i + 2 >= len(tokens) or tokens[i].text not in _OF_DOLLARS or tokens[i + 1].text != "$":
        return None
    if not tokens[i + 1].joined or not tokens[i + 2].text[0].isdigit():
        return None
    sign = {"CA": "C$", "AU": "A$"}.get(tokens[i].text, f"{tokens[i].text}$")
    return Raw("symbol", sign, tokens[i].start, tokens[i].joined), 2
