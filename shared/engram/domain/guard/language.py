"""Whether a text is in the one language the rules are for: English."""

import re

from engram.domain.guard.lexicon import words
from engram.domain.guard.morphology import forms, known

_WORD = re.compile(r"(?<!\d)[^\W\d_]{2,}(?:'[^\W\d_]+)?(?!\d)")
_LETTER = re.compile(r"[^\W\d_]")
_MOST_WORDS = 60
# Addresses and codes are of no language.
_NAMES_OF_THINGS = re.compile(
    r"(?:https?://|www\.)\S+|\S+@\S+\.\w+|\b[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}\b"
    r"|\b[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b"
)


def english(folded: str) -> bool:
    """Conservatively: Latin letters, and enough words that English has and others rarely share."""
    folded = _NAMES_OF_THINGS.sub(" ", folded)
    letters = _LETTER.findall(folded[:2000])
    if not letters or sum(not c.isascii() for c in letters) > len(letters) * 0.15:
        return not letters
    found = [w for w in _WORD.findall(folded)[:_MOST_WORDS] if not w.isupper()]
    if any(w.lower() in words("foreign") for w in found):
        return sum(w.lower() in words("foreign") for w in found) * 8 < len(found)
    common = [w for w in found if _english_word(w)]
    return len(common) * 2 >= len(found) or (len(found) <= 2 and folded.isascii())


def _english_word(word: str) -> bool:
    low = word.lower().split("'")[0]
    return (word[0].isupper() and len(word) > 3) or known(low) or bool(forms(low).noun)
