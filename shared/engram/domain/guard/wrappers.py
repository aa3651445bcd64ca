"""Frames around a statement that say only that it was said: "The user mentioned that"."""

import re
from functools import cache

from engram.domain.guard.lexicon import table

_PRONOUN = r"(?=(?:they|he|she|it|i|we|their|his|her|my|our|there)\b)"
_MAX_FRAMES = 4


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    part: dict[str, str] = table("wrappers")
    lead = f"(?:{part['adjuncts']})*"
    that = rf"(?: that |: ?|, (?=\")| (?={_PRONOUN[3:-1]}))"
    return tuple(
        re.compile(pattern, re.IGNORECASE)
        for pattern in (
            rf"{lead}(?:{part['subject']}) {part['report']}{that}",
            rf"{lead}(?:we|i) {part['learned']}{that}",
            rf"{lead}{part['impersonal']}(?: that |: ?)",
            rf"(?:{part['according']})(?:, |: )",
            rf"(?:{part['labels']}(?:, | ?[:–] ?| - | that )){{1,2}}(?:that )?",
            rf"{part['notice']}: ?",
            rf"{part['useful']}, ",
            rf"(?=[^:]*\b{part['label_core']}\b[^:]*: )(?:{part['label_words']}[ ,]?){{1,8}}: ",
            rf"\[(?=[^\]]*\b{part['label_core']}\b)(?:{part['label_words']} ?){{1,6}}\]:? ",
        )
    )


def unwrapped(folded: str) -> tuple[str, bool]:
    """The statement without its frames, and whether one of them named who speaks."""
    text, spoken = folded, False
    for _ in range(_MAX_FRAMES):
        for index, pattern in enumerate(_patterns()):
            match = pattern.match(text)
            if match and len(text) - match.end() >= 3:
                text, spoken = _unquoted(text[match.end() :]), spoken or index < 4
                break
        else:
            return text, spoken
    return text, spoken


def _unquoted(text: str) -> str:
    if text.startswith('"') and text.rstrip('."').count('"') == 1:
        return text.strip().strip('".') + "."
    return text
