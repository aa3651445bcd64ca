"""Quarters of a year, and clock times that are said as two numbers."""

import re
from collections.abc import Sequence

from engram.domain.guard import times
from engram.domain.guard.lexicon import notation
from engram.domain.guard.tokens import Raw
from engram.domain.guard.values import Value

_QUARTER = re.compile(r"[Qq]([1-4])")
_NUMBERED = {"first": "1", "1st": "1", "second": "2", "2nd": "2", "third": "3", "3rd": "3",
             "fourth": "4", "4th": "4"}  # fmt: skip
_YEAR = re.compile(r"(?:19|20)\d\d")
_BEFORE_A_TIME = frozenset({"at", "by", "until", "till", "from", "before", "after", "around"})


def quarter(tokens: Sequence[Raw], i: int) -> Value | None:
    """Q3; Q3 2027; 2027 Q3; the third quarter of 2027."""
    the = int(tokens[i].low == "the")
    year, before = "", 0
    if _YEAR.fullmatch(tokens[i].text) and i + 1 < len(tokens):
        year, before = tokens[i].text, 1 + (tokens[i + 1].text == "-")
    found = _which(tokens, i + the + before)
    if found is None:
        return None
    used = the + before + found[1]
    if not year:
        year, more = _year(tokens, i + used)
        used += more
    return Value(f"quarter:{year}-{found[0]}", "date", used)


def _which(tokens: Sequence[Raw], i: int) -> tuple[str, int] | None:
    if i >= len(tokens):
        return None
    if match := _QUARTER.fullmatch(tokens[i].text):
        return match.group(1), 1
    number = _NUMBERED.get(tokens[i].low)
    if number and i + 1 < len(tokens) and tokens[i + 1].low == "quarter":
        return number, 2
    return None


def _year(tokens: Sequence[Raw], i: int) -> tuple[str, int]:
    of = int(i < len(tokens) and tokens[i].low in {"of", "in", "/", "-"})
    if i + of < len(tokens) and _YEAR.fullmatch(tokens[i + of].text):
        return tokens[i + of].text, of + 1
    return "", 0


def spoken_clock(tokens: Sequence[Raw], i: int) -> Value | None:
    """Read "six thirty am", "seven forty-five in the evening" and, after "at", "1305 hours"."""
    if military := _military(tokens, i):
        return military
    hour = notation("cardinals").get(tokens[i].low)
    if hour is None or not 1 <= hour <= 12:
        return None
    found = _minute(tokens, i + 1)
    if found is None or not _half_follows(tokens, i + 1 + found[1]):
        return None
    return times.finished(tokens, i, hour, found[0], 1 + found[1])


def _minute(tokens: Sequence[Raw], i: int) -> tuple[int, int] | None:
    if i + 1 >= len(tokens):
        return None
    cardinals = notation("cardinals")
    if tokens[i].low in {"oh", "o"} and 0 < cardinals.get(tokens[i + 1].low, 0) < 10:
        return cardinals[tokens[i + 1].low], 2
    tens = cardinals.get(tokens[i].low, 0)
    if not 10 <= tens < 60:
        return None
    dash = int(tokens[i + 1].text == "-")
    one = cardinals.get(tokens[i + 1 + dash].low, 0) if i + 1 + dash < len(tokens) else 0
    return (tens + one, 2 + dash) if tens >= 20 and 0 < one < 10 else (tens, 1)


def _half_follows(tokens: Sequence[Raw], i: int) -> bool:
    if i >= len(tokens):
        return False
    if tokens[i].low.replace(".", "") in {"am", "pm"}:
        return True
    return [t.low for t in tokens[i : i + 2]] == ["in", "the"]


def _military(tokens: Sequence[Raw], i: int) -> Value | None:
    if not i or tokens[i - 1].low not in _BEFORE_A_TIME or i + 1 >= len(tokens):
        return None
    match = re.fullmatch(r"([01]\d|2[0-3]):?([0-5]\d)", tokens[i].text)
    if not match or tokens[i + 1].low not in {"hours", "hrs", "h"}:
        return None
    return times.of_day(int(match.group(1)) * 60 + int(match.group(2)), tokens, i, 2)
