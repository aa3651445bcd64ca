"""Points in time: clock times with their zone, dates, months and weekdays in one notation."""

import re
from collections.abc import Sequence

from engram.domain.guard.lexicon import notation
from engram.domain.guard.tokens import Raw
from engram.domain.guard.values import Value

DAY_MIN = 1440
_PART_OF_DAY = {"morning": "am", "afternoon": "pm", "evening": "pm"}
_HOURS_OF = {"morning": range(1, 12), "afternoon": (12, 1, 2, 3, 4), "evening": range(5, 12)}
_HOUR = re.compile(r"(\d{1,2})(?:[.h](\d{2}))?(am|pm|h)?", re.IGNORECASE)
_OFFSET = re.compile(r"\d{1,2}")


def _hour(tokens: Sequence[Raw], i: int) -> int | None:
    """An hour from 1 to 12 in digits or words."""
    if i >= len(tokens):
        return None
    text = tokens[i].text
    hour = (
        int(text) if text.isdigit() and len(text) <= 2 else notation("cardinals").get(tokens[i].low)
    )
    return hour if hour is not None and 1 <= hour <= 12 else None


def _half_of_day(tokens: Sequence[Raw], i: int, hour: int) -> tuple[str, int] | None:
    """Read am or pm, as such or as "in the evening" where that fits the hour."""
    if i >= len(tokens):
        return None
    marker = tokens[i].low.replace(".", "")
    if marker in {"am", "pm"}:
        stop = int(
            i + 1 < len(tokens) and tokens[i].text.count(".") == 1 and tokens[i + 1].text == "."
        )
        return marker, 1 + stop
    if marker == "in" and i + 2 < len(tokens) and tokens[i + 1].low == "the":
        part = tokens[i + 2].low
        return (_PART_OF_DAY[part], 3) if hour in _HOURS_OF.get(part, ()) else None
    if marker == "at" and i + 1 < len(tokens) and tokens[i + 1].low == "night" and 8 <= hour < 12:
        return "pm", 2
    return None


def _minutes(hour: int, minute: int, half: str | None) -> int:
    if half is None:
        return hour * 60 + minute
    return (hour % 12 + (12 if half == "pm" else 0)) * 60 + minute


def _spoken(tokens: Sequence[Raw], i: int) -> tuple[int, int, int] | None:
    """Rule: "half past six", "quarter to six", "ten past nine": hour, minute, tokens used."""
    start = i + (tokens[i].low == "a")
    if start + 2 >= len(tokens):
        return None
    low = tokens[start].low
    minute = {"half": 30, "quarter": 15}.get(low) or notation("cardinals").get(low)
    where = tokens[start + 1].low
    hour = _hour(tokens, start + 2)
    if minute is None or minute > 30 or hour is None or where not in {"past", "to", "after"}:
        return None
    if where == "after" and low != "quarter":
        return None
    if where == "to":
        if low not in {"quarter", "five", "ten", "twenty"}:
            return None
        return hour - 1 or 12, 60 - minute, start + 3 - i
    return hour, minute, start + 3 - i


def _zone(tokens: Sequence[Raw], i: int) -> tuple[int, int] | None:
    """Minutes ahead of UTC, and tokens used; "UTC+2" counts."""
    if i >= len(tokens) or tokens[i].low not in notation("zones") or not tokens[i].text.isupper():
        return None
    ahead = notation("zones")[tokens[i].low]
    signed = i + 2 < len(tokens) and tokens[i + 1].text in {"+", "-"} and tokens[i + 1].joined
    if signed and _OFFSET.fullmatch(tokens[i + 2].text):
        sign = 1 if tokens[i + 1].text == "+" else -1
        return ahead + sign * 60 * int(tokens[i + 2].text), 3
    return ahead, 1


def of_day(minute: int, tokens: Sequence[Raw], i: int, used: int) -> Value:
    """A certain time of day; with a zone in UTC unless that would change the day."""
    zone = _zone(tokens, i + used)
    if zone is None:
        return Value(f"t:{minute}", "time", used)
    universal = minute - zone[0]
    if 0 <= universal < DAY_MIN:
        return Value(f"tu:{universal}", "time", used + zone[1])
    return Value(f"t:{minute}@{zone[0]}", "time", used + zone[1])


def finished(tokens: Sequence[Raw], i: int, hour: int, minute: int, used: int) -> Value | None:
    """A time read so far; without am or pm a small hour stays undecided."""
    if i + used < len(tokens) and tokens[i + used].low in {"o'clock", "oclock"}:
        used += 1
    half = _half_of_day(tokens, i + used, hour)
    if half and 1 <= hour <= 12:
        return of_day(_minutes(hour, minute, half[0]), tokens, i, used + half[1])
    return Value(f"t?:{hour}:{minute:02}", "time", used)


def clock(tokens: Sequence[Raw], i: int) -> Value | None:
    """Read 17:45; 3pm; 10 a.m.; noon; a quarter to six in the evening; eight o'clock."""
    token = tokens[i]
    if token.low in {"noon", "midday", "midnight"}:
        return of_day(0 if token.low == "midnight" else 720, tokens, i, 1)
    if spoken := _spoken(tokens, i):
        return finished(tokens, i, *spoken)
    if token.sort == "clock":
        return _digital(tokens, i)
    if token.sort == "code" and (match := _HOUR.fullmatch(token.text)):
        return _against(tokens, i, match)
    return _whole_hour(tokens, i)


def _whole_hour(tokens: Sequence[Raw], i: int) -> Value | None:
    """Read "eight o'clock", "3 pm", "at nine in the evening"."""
    hour = _hour(tokens, i)
    if hour is None or i + 1 >= len(tokens):
        return None
    after = tokens[i + 1]
    named = after.low in {"o'clock", "oclock"}
    half = _half_of_day(tokens, i + 1, hour)
    spelled = after.low in {"in", "at"} and not _at_before(tokens, i)
    verb = after.text == "am" and tokens[i].sort == "word"
    if not named and (half is None or spelled or verb):
        return None
    return finished(tokens, i, hour, 0, 1)


def _at_before(tokens: Sequence[Raw], i: int) -> bool:
    return i > 0 and tokens[i - 1].low in {"at", "by", "until", "before", "after", "from", "around"}


def _digital(tokens: Sequence[Raw], i: int) -> Value | None:
    parts = tokens[i].text.split(":")
    hour, minute = int(parts[0]), int(parts[1])
    if hour > 24 or minute > 59 or len(parts) > 2:
        return None
    half = _half_of_day(tokens, i + 1, hour)
    if half is None and (hour > 9 or hour == 0 or parts[0][0] == "0" or _zone(tokens, i + 1)):
        return of_day(_minutes(hour % 24, minute, None), tokens, i, 1)
    return finished(tokens, i, hour, minute, 1)


def _against(tokens: Sequence[Raw], i: int, match: re.Match[str]) -> Value | None:
    """3pm, 9.30am, 17h, 17h30."""
    hour, minute, mark = (
        int(match.group(1)),
        int(match.group(2) or 0),
        (match.group(3) or "").lower(),
    )
    if mark in {"am", "pm"} and 1 <= hour <= 12 and minute < 60:
        return of_day(_minutes(hour, minute, mark), tokens, i, 1)
    if match.group(2) and "h" in match.group(0).lower() and hour < 24 and minute < 60:
        return of_day(hour * 60 + minute, tokens, i, 1)
    return None


def _month(tokens: Sequence[Raw], i: int) -> int | None:
    if i >= len(tokens) or tokens[i].sort != "word":
        return None
    return notation("months").get(tokens[i].low)


def _day(tokens: Sequence[Raw], i: int) -> int | None:
    """A day of the month: 7, 7th, third."""
    if i >= len(tokens):
        return None
    match = re.fullmatch(r"(\d{1,2})(?:st|nd|rd|th)?", tokens[i].low)
    day = int(match.group(1)) if match else notation("ordinals").get(tokens[i].low)
    return day if day and 1 <= day <= 31 else None


def _year(tokens: Sequence[Raw], i: int) -> tuple[str, int]:
    """A four-digit year after an optional comma or "of"; an empty one otherwise."""
    skip = int(i < len(tokens) and (tokens[i].text == "," or tokens[i].low == "of"))
    if i + skip < len(tokens) and re.fullmatch(r"(?:1[5-9]|20)\d\d", tokens[i + skip].text):
        return tokens[i + skip].text, skip + 1
    return "", 0


def _dot(tokens: Sequence[Raw], i: int) -> int:
    """1 where a dot belongs to an abbreviated month."""
    return int(
        i < len(tokens)
        and tokens[i].text == "."
        and len(tokens[i - 1].text) <= 4
        and tokens[i].joined
        and i + 1 < len(tokens)
    )


def _date(year: str, month: int, day: int, used: int) -> Value:
    return Value(f"d:{year}-{month:02}-{day:02}", "date", used)


def date(tokens: Sequence[Raw], i: int) -> Value | None:
    """7 September 1988; Sept. 7th; the 3rd of February, 2024; 2024-02-03; 3.2.2024."""
    if tokens[i].sort in {"isodate", "numdate"}:
        return _numeric(tokens[i])
    the = int(tokens[i].low == "the")
    if (day := _day(tokens, i + the)) is not None and not the * (tokens[i + the].sort == "number"):
        of = int(i + the + 1 < len(tokens) and tokens[i + the + 1].low == "of")
        if (month := _month(tokens, i + the + 1 + of)) is not None:
            used = the + 2 + of
            used += _dot(tokens, i + used)
            year, more = _year(tokens, i + used)
            return _date(year, month, day, used + more)
    month = _month(tokens, i)
    return _month_first(tokens, i, month) if month is not None else None


def _month_first(tokens: Sequence[Raw], i: int, month: int) -> Value | None:
    used = 1 + _dot(tokens, i + 1)
    the = int(i + used < len(tokens) and tokens[i + used].low == "the")
    day = _day(tokens, i + used + the)
    if day is not None and not _counted(tokens, i + used + the):
        year, more = _year(tokens, i + used + the + 1)
        return _date(year, month, day, used + the + 1 + more)
    year, more = _year(tokens, i + used)
    if not year and not _is_month(tokens, i):
        return None
    return Value(f"m:{year}-{month:02}", "date", used + more)


def _counted(tokens: Sequence[Raw], i: int) -> bool:
    """A number that goes on (a clock, a unit) is no day of the month."""
    after = tokens[i + 1] if i + 1 < len(tokens) else None
    return after is not None and (after.low in {"am", "pm", "%", "a.m", "p.m"} or after.text == ":")


def _is_month(tokens: Sequence[Raw], i: int) -> bool:
    """Whether "may", "march", "mar", "sun" … is meant as a name of time."""
    low = tokens[i].low
    if low not in {"may", "march", "mar", "dec", "jan", "sep", "august", "jun"}:
        return True
    before = tokens[i - 1].low if i else ""
    return before in {
        "in",
        "since",
        "until",
        "by",
        "of",
        "early",
        "late",
        "mid",
        "last",
        "next",
        "this",
        "every",
        "each",
        "from",
        "to",
        "through",
        "before",
        "after",
        "during",
        "till",
        "the",
    } or (tokens[i].text[0].isupper() and i > 0 and low != "may")


def _numeric(token: Raw) -> Value | None:
    """ISO and dotted dates are certain; with slashes only if one number cannot be a month."""
    if token.sort == "isodate":
        year, month, day = (int(x) for x in token.text.split("-"))
    else:
        first, second, year = (int(x) for x in re.split(r"[./]", token.text))
        unsure = "/" in token.text and first <= 12 and second <= 12 and first != second
        day, month = (second, first) if second > 12 else (first, second)
        if unsure:
            return Value(f"d?:{token.text}", "date", 1)
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    return _date(str(year), month, day, 1)


def weekday(tokens: Sequence[Raw], i: int) -> Value | None:
    """Tuesday; Tuesdays, every and each Tuesday are the habit, another thing than one Tuesday."""
    every = int(tokens[i].low in {"every", "each"})
    if i + every >= len(tokens) or tokens[i + every].sort != "word":
        return None
    token = tokens[i + every]
    days = notation("weekdays")
    plural = token.low not in days
    day = days.get(token.low.removesuffix("s") if plural else token.low)
    if day is None or (
        token.low in {"sun", "sat", "mon", "wed", "suns"} and not token.text[0].isupper()
    ):
        return None
    short = int(
        len(token.text) <= 5 and i + every + 2 < len(tokens) and tokens[i + every + 1].text == "."
    )
    habit = plural or bool(every)
    return Value(f"wd:{day}{'*' if habit else ''}", "weekday", 1 + every + short)
