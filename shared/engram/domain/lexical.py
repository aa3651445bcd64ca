"""Turns a query into words for full-text search, whatever characters it holds."""

from __future__ import annotations

import re
from typing import Final

MAX_WORDS: Final = 32
_MAX_WORD: Final = 64
_WORD = re.compile(r"[^\W_]+")
# Words that match nearly everything: ranking all of a large workspace by "the" takes seconds.
_COMMON: Final = frozenset(
    re.findall(
        "[a-z]+",
        """
        a about an and any are as at be been but by can did do does for from had has have he her
        him his how i if in is it its me my of on or our she so that the their them they this to
        us was we were what when where which who why will with would you your
        """,
    )
)


def as_tsquery(query: str) -> str:
    """Return a ``tsquery`` that matches any word of a query, empty when it holds none.

    Only letters and digits are taken, so that no input is a syntax error; common English words
    are left out while others remain. At most `MAX_WORDS` different words, the longest ones.
    """
    words = list(dict.fromkeys(word[:_MAX_WORD] for word in _WORD.findall(query.lower())))
    telling = [word for word in words if word not in _COMMON] or words
    chosen = sorted(telling, key=len, reverse=True)[:MAX_WORDS]
    return " | ".join(f"'{word}'" for word in chosen)
