"""A text read into units: values in one notation, words with lemma and form, marks."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from engram.domain.guard import identifiers, times, values
from engram.domain.guard.lexicon import notation, table
from engram.domain.guard.morphology import known, standard_spelling
from engram.domain.guard.tokens import Raw
from engram.domain.guard.values import Value


@dataclass(frozen=True, slots=True)
class Unit:
    """One meaningful piece of a text.

    `sort` is word, name, mark, or the sort of a value; `tag` is P (present), D (past), N (past
    participle), G (-ing), B (base form of a verb), pl (plural) or nothing.
    """

    lemma: str
    tag: str
    sort: str
    text: str

    @property
    def key(self) -> str:
        """Equal keys mean the same."""
        return f"{self.lemma}/{self.tag}" if self.tag else self.lemma

    @property
    def value(self) -> bool:
        """Whether this is a number, date, time, quantity or identifier."""
        return self.sort not in {"word", "name", "mark"}


_READERS: tuple[Callable[[Sequence[Raw], int], Value | None], ...] = (
    times.date, times.clock, values.money, values.quantity, values.share, times.weekday,
    identifiers.version, identifiers.named_code, values.ordinal, values.number,
    identifiers.identifier,
)  # fmt: skip
_ALONE = ("'ll", "'ve", "'re", "'m", "'d", "'s", "'")
_BARE_NOT = {
    "dont": "do", "doesnt": "does", "didnt": "did", "cant": "can", "wont": "will", "isnt": "is",
    "arent": "are", "wasnt": "was", "werent": "were", "hasnt": "has", "havent": "have",
    "hadnt": "had", "shouldnt": "should", "wouldnt": "would", "couldnt": "could",
    "mustnt": "must", "cannot": "can",
}  # fmt: skip
_IRREGULAR_NOT = {"can't": "can", "won't": "will", "shan't": "shall", "ain't": "is"}
_FULL = {"'ll": "will", "'ve": "have", "'re": "are", "'m": "am"}
_IS = frozenset({"it", "he", "she", "that", "there", "here", "what", "who", "where", "how"})
_AFTER_IS = frozenset({"a", "an", "the", "in", "on", "at", "not", "from", "now", "called", "named"})
_MARKS = frozenset(',;:.()!?–"[]=*|•')


@cache
def _starters() -> frozenset[str]:
    """Words a value can begin with; all others are words without a further look."""
    listed = ("cardinals", "scales", "ordinals", "months", "weekdays", "currencies")
    keys = {k for name in listed for k in notation(name)}
    keys |= {day + "s" for day in notation("weekdays")}
    return frozenset(keys | {"a", "an", "the", "half", "noon", "midday", "midnight", "quarter"}
                     | {"version", "ver", "v", "every", "each"})  # fmt: skip


def split_word(text: str, following: str) -> list[str]:
    """Contractions and possessives apart: don't = do + not, it's = it + is, Ann's = Ann + 's."""
    low = text.lower()
    if low in _BARE_NOT:
        return [_BARE_NOT[low], "not"]
    if low in _IRREGULAR_NOT:
        return [_IRREGULAR_NOT[low], "not"]
    if low.endswith("n't"):
        return [text[:-3], "not"]
    for ending in _ALONE:
        if low.endswith(ending) and len(low) > len(ending):
            return _split_ending(text[: -len(ending)], ending, following)
    return [text]


def _split_ending(stem: str, ending: str, following: str) -> list[str]:
    if ending in _FULL:
        return [stem, _FULL[ending]]
    if ending == "'s":
        if stem.lower() == "let":
            return [stem, "us"]
        if stem.lower() in _IS or following in _AFTER_IS:
            return [stem, "has" if following in {"been", "got"} else "is"]
    return [stem, "'s" if ending == "'" else ending]


def words_apart(tokens: Sequence[Raw]) -> list[Raw]:
    """Tokens with contractions split and abbreviations written out."""
    out: list[Raw] = []
    for i, token in enumerate(tokens):
        if token.sort != "word":
            out.append(token)
            continue
        following = tokens[i + 1].low if i + 1 < len(tokens) else ""
        out.extend(replace(token, text=part) for part in split_word(token.text, following))
    return _written_out(out)


def _written_out(tokens: list[Raw]) -> list[Raw]:
    """Abbreviations of one word as the words they stand for; a dot after them goes."""
    full: dict[str, str] = table("abbreviations")["words"]
    dotted: dict[str, str] = table("abbreviations")["dotted"]
    out: list[Raw] = []
    skip = False
    for i, token in enumerate(tokens):
        if skip:
            skip = False
            continue
        low = token.low.rstrip(".")
        dot = i + 1 < len(tokens) and tokens[i + 1].text == "." and tokens[i + 1].joined
        inside = (token.joined and i and tokens[i - 1].text == "-") or (
            i + 1 < len(tokens) and tokens[i + 1].text == "-" and tokens[i + 1].joined
        )
        number_before = bool(out) and out[-1].text[-1:].isdigit()
        meant = full.get(low) if not number_before or low in {"hrs", "hr"} else None
        if meant is None and dot and not number_before:
            meant = dotted.get(low)
        if low == "st" and i + 1 + dot < len(tokens) and tokens[i + 1 + dot].text[0].isupper():
            meant = "saint"
        elif low == "st" and out and out[-1].text[0].isupper():
            meant = "street"
        if meant is None or inside or token.sort not in {"word", "dotted", "path"}:
            out.append(token)
            continue
        skip = dot and i + 2 < len(tokens)
        cased = meant.capitalize() if token.text[0].isupper() and i and " " not in meant else meant
        out.extend(Raw("word", part, token.start, token.joined) for part in cased.split())
    return out


def read(tokens: Sequence[Raw]) -> list[Unit]:
    """Units in the order of the text; words carry no lemma yet."""
    tokens = words_apart(_opened(tokens))
    units: list[Unit] = []
    i = 0
    while i < len(tokens):
        value = _value(tokens, i)
        if value is not None:
            units.append(Unit(value.key, "", value.sort, tokens[i].text))
            i += value.used
            continue
        unit = _plain(tokens, i)
        if unit is not None:
            units.append(unit)
        i += 1
    return units


def _opened(tokens: Sequence[Raw]) -> list[Raw]:
    """Rule: "90-day" and "/month" as their parts, so that units are seen."""
    out: list[Raw] = []
    for token in tokens:
        compound = (
            re.fullmatch(r"(\d+(?:\.\d+)?)-([a-zA-Z]+)", token.text)
            if token.sort == "code"
            else None
        )
        if compound and (known(compound.group(2).lower()) or len(compound.group(2)) > 3):
            out.append(Raw("number", compound.group(1), token.start, token.joined))
            out.append(Raw("word", compound.group(2), token.start, joined=True))
        elif (
            token.sort == "path"
            and re.fullmatch(r"/[a-z]+", token.text)
            and values.unit_of(token.text[1:])
        ):
            out.append(Raw("word", "per", token.start, joined=False))
            out.append(Raw("word", token.text[1:], token.start, joined=False))
        else:
            out.append(token)
    return out


def _value(tokens: Sequence[Raw], i: int) -> Value | None:
    token = tokens[i]
    if token.sort == "word" and token.low not in _starters() and not token.text.isupper():
        return None
    if token.sort == "symbol" and token.low not in notation("currencies"):
        return None
    for reader in _READERS:
        found = reader(tokens, i)
        if found is not None:
            return found
    return None


def _plain(tokens: Sequence[Raw], i: int) -> Unit | None:
    """A word, or a mark; signs that stand for words become those."""
    token = tokens[i]
    if token.sort in {"word", "dotted"}:
        low = token.low.replace(".", "")
        return Unit(standard_spelling(low), "", "word", token.text.replace(".", ""))
    signs = table("abbreviations")["signs"]
    if token.text in signs:
        return Unit(signs[token.text], "", "word", token.text)
    if token.text in {"-", "–"}:
        return _dash(tokens, i)
    if token.text in {"#", "'", "/"} and i + 1 < len(tokens) and token.text != "/":
        return None
    if token.text in _MARKS:
        return Unit(token.text, "", "mark", token.text)
    return Unit(token.text, "", "word", token.text)


def _dash(tokens: Sequence[Raw], i: int) -> Unit | None:
    """Between numbers a dash is "to", inside a word nothing, else a mark."""
    before = tokens[i - 1] if i else None
    after = tokens[i + 1] if i + 1 < len(tokens) else None
    if before is None or after is None:
        sign = after is not None and after.text[0].isdigit() and after.joined
        return Unit("minus", "", "word", "-") if sign else None
    digits = before.text[-1].isdigit() and after.text[0].isdigit()
    if digits and (tokens[i].joined or after.joined or tokens[i].text == "–"):
        return Unit("minus" if not tokens[i].joined and after.joined else "to", "", "word", "-")
    if not tokens[i].joined and after.joined and after.text[0].isdigit():
        return Unit("minus", "", "word", "-")
    if tokens[i].joined and after.joined and tokens[i].text == "-":
        return None
    both_days = before.low in notation("weekdays") and after.low in notation("weekdays")
    return Unit("to", "", "word", "-") if both_days else Unit("–", "", "mark", "–")
