"""Foreign times become ISO 8601 strings in UTC; what is no time is left alone."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

_UNIX = re.compile(r"-?\d{9,20}(\.\d+)?")
# Unix times come in seconds, milli-, micro- and nanoseconds: the magnitude tells (until 5138).
_UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (float("inf"), 1e9))


def to_iso(value: Any) -> str | None:
    """Return an instant as ISO 8601 in UTC, or None when ``value`` is none.

    Reads ISO 8601 and PostgreSQL's notation; without an offset UTC is meant. Numbers, and
    strings of nine or more digits, are Unix times.
    """
    if isinstance(value, bool) or value is None:
        return None
    try:
        return _instant(value).astimezone(UTC).isoformat()
    except (ValueError, OverflowError, OSError, TypeError):
        return None


def _instant(value: Any) -> datetime:
    if isinstance(value, int | float):
        return _from_unix(float(value))
    if not isinstance(value, str) or len(value) > 64:
        raise ValueError
    text = value.strip()
    if _UNIX.fullmatch(text):
        return _from_unix(float(text))
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _from_unix(number: float) -> datetime:
    if number != number or abs(number) == float("inf"):  # noqa: PLR0124 - this is the NaN test
        raise ValueError
    divisor = next(unit for bound, unit in _UNITS if abs(number) < bound)
    return datetime.fromtimestamp(number / divisor, UTC)


def end_of_day(value: Any) -> str | None:
    """Return when a mem0 ``expiration_date`` has passed: the next midnight UTC.

    The day itself still counts (docs.mem0.ai, "Memory Expiration"). None when it is no date.
    """
    if not isinstance(value, str):
        return None
    try:
        day = date.fromisoformat(value.strip())
        following = day + timedelta(days=1)
    except (ValueError, OverflowError):
        return to_iso(value)
    return datetime(following.year, following.month, following.day, tzinfo=UTC).isoformat()
