"""A text read into units: values in one notation, words with lemma and form, marks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from engram.domain.guard import identifiers, periods, times, values
from engram.domain.guard.lexicon import notation, table
from engram.domain.guard.morphology import standard_spelling
from engram.domain.guard.opening import opened
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
    values.age, periods.quarter, times.date, periods.spoken_clock, times.clock, values.money,
    values.quantity, values.share, times.weekday, identifiers.version, identifiers.named_code,
    values.ordinal, values.number, identifiers.identifier,
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
_NAMED_TIMES = ("weekdays", "months")
_MARKS = frozenset(',;:.()!?–"[]=*|•')


@cache
def _starters() -> frozenset[str]:
    """Words a value can begin with; all others are words without a further look."""
    listed = ("cardinals", "scales", "ordinals", "months", "weekdays", "currencies")
    keys = {k for name in listed for k in notation(name)}
    keys |= {day + "s" for day in notation("weekdays")}
    return frozenset(keys | {"a", "an", "the", "half", "noon", "midday", "midnight", "quarter"}
                     | {"version", "ver", "v", "every", "each", "aged", "fortnight"})  # fmt: skip


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
    out: list[Raw] = []
    skip = False
    for i, token in enumerate(tokens):
        if skip:
            skip = False
            continue
        dot = i + 1 < len(tokens) and tokens[i + 1].text == "." and tokens[i + 1].joined
        meant = _meaning(tokens, i, out, dot=dot)
        if meant is None or _hyphened(tokens, i) or token.sort not in _ABBREVIATED:
            out.append(token)
            continue
        skip = dot and i + 2 < len(tokens)
        cased = meant.capitalize() if token.text[0].isupper() and i and " " not in meant else meant
        out.extend(Raw("word", part, token.start, token.joined) for part in cased.split())
    return out


_ABBREVIATED = frozenset({"word", "dotted", "path", "code"})


def _hyphened(tokens: Sequence[Raw], i: int) -> bool:
    before = tokens[i].joined and i and tokens[i - 1].text == "-"
    behind = i + 1 < len(tokens) and tokens[i + 1].text == "-" and tokens[i + 1].joined
    return bool(before or behind)


def _meaning(tokens: Sequence[Raw], i: int, before: Sequence[Raw], *, dot: bool) -> str | None:
    """What a short form stands for where it stands; None for other words."""
    listed = table("abbreviations")
    token = tokens[i]
    low = token.low.rstrip(".")
    if token.sort == "dotted":
        low = low.replace(".", "")
    if low == "st":
        return _street_or_saint(tokens, i + 1 + dot, before) or ("street" if dot else None)
    after_number = bool(before) and before[-1].text[-1:].isdigit()
    if after_number and token.sort != "dotted":
        return listed["words"].get(low) if low in {"hrs", "hr"} else None
    meant: str | None = listed["exact"].get(token.text.replace(".", ""))
    meant = meant or listed["words"].get(low)
    return meant or (listed["dotted"].get(low) if dot else None)


def _street_or_saint(tokens: Sequence[Raw], i: int, before: Sequence[Raw]) -> str | None:
    if i < len(tokens) and tokens[i].text[0].isupper():
        return "saint"
    return "street" if before and before[-1].text[0].isupper() else None


def read(tokens: Sequence[Raw]) -> list[Unit]:
    """Units in the order of the text; words carry no lemma yet."""
    tokens = words_apart(opened(tokens))
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
        return _worded(tokens, i)
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


def _worded(tokens: Sequence[Raw], i: int) -> Unit:
    token = tokens[i]
    if token.text == "A" and _names(tokens, i):
        # A letter that names, as in "plan A": no article.
        return Unit("a'", "", "name", token.text)
    low = token.low.replace(".", "")
    return Unit(standard_spelling(low), "", "word", token.text.replace(".", ""))


def _names(tokens: Sequence[Raw], i: int) -> bool:
    """Whether A is a letter and no article: before a verb or the end, or in the middle."""
    after = tokens[i + 1] if i + 1 < len(tokens) else None
    if after is None or after.text in _MARKS or after.low in {"is", "was", "has", "are"}:
        return True
    before = tokens[i - 1] if i else None
    begins = before is None or before.text in _MARKS or before.sort == "symbol"
    return not begins and not (before is not None and before.text.isupper())


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
    if any(before.low in notation(name) and after.low in notation(name) for name in _NAMED_TIMES):
        return Unit("to", "", "word", "-")
    if tokens[i].joined and after.joined and tokens[i].text == "-":
        return None
    return Unit("–", "", "mark", "–")
