"""Values with a notation of their own: quantities, money and percentages in one canonical form."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from engram.domain.guard.lexicon import notation, units
from engram.domain.guard.numbers import digits, read_number
from engram.domain.guard.tokens import Raw


@dataclass(frozen=True, slots=True)
class Value:
    """A notation read: its canonical key, its sort, and how many tokens it took."""

    key: str
    sort: str
    used: int


_ATTACHED = re.compile(r"(\d[\d,]*(?:\.\d+)?)-?([^\d\W]+(?:/[a-z]+)?[23²³]?)")
_AGED = re.compile(r"(\d+)-(year|month|week|day)s?-old")
_OLDEST = 150
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)", re.IGNORECASE)
_OWNERS = frozenset({"the", "my", "his", "her", "its", "our", "their", "your"})
_SUMMED = frozenset({"time", "months", "length", "mass"})


def unit_of(text: str) -> tuple[str, Fraction] | None:
    """Dimension and factor of one word; exact case first, because Mb is not MB."""
    exact = units("units").get(text)
    if exact is not None:
        return exact
    low = text.lower()
    by_word = units("unit_words")
    return by_word.get(low) or by_word.get(low.removesuffix("s")) or by_word.get(low.rstrip("s'"))


def currency_of(text: str) -> str | None:
    """ISO code, or the bare name where several countries share it."""
    low = text.lower()
    known = notation("currencies")
    found: str | None = known.get(low) or known.get(low.removesuffix("s"))
    if text in units("units"):
        return None
    return found if low != "try" or text == "TRY" else None


def _phrase(tokens: Sequence[Raw], i: int, phrases: dict[str, object]) -> tuple[str, int] | None:
    for length in (3, 2):
        if i + length <= len(tokens):
            text = " ".join(t.low for t in tokens[i : i + length] if t.text != "-")
            forms = (text, text.removesuffix("s"), text.replace("degrees", "degree"))
            for form in (*forms, re.sub(r"s(?= per )", "", text)):
                if form in phrases:
                    return form, length
    return None


def unit_at(tokens: Sequence[Raw], i: int) -> tuple[str, Fraction, int] | None:
    """The unit at token i with the tokens it took; a hyphen before it counts."""
    dash = int(i + 1 < len(tokens) and tokens[i].text == "-")
    i += dash
    if i >= len(tokens):
        return None
    if found := _phrase(tokens, i, dict(units("unit_phrases"))):
        dimension, factor = units("unit_phrases")[found[0]]
        return dimension, factor, found[1] + dash
    text = tokens[i].text
    if text == "°" and i + 1 < len(tokens) and tokens[i + 1].text in {"C", "F"}:
        return ("celsius" if tokens[i + 1].text == "C" else "fahrenheit"), Fraction(1), 2 + dash
    if text in {"in", "a", "A", "d", "t", "L", "at"} and not tokens[i].joined:
        return None
    unit = unit_of(text)
    return (*unit, 1 + dash) if unit else None


def _money(amount: Fraction, currency: str, used: int) -> Value:
    return Value(f"q:money:{currency}:{amount}", "quantity", used)


def _amount(tokens: Sequence[Raw], i: int) -> tuple[Fraction, int] | None:
    """A number, with k, M or bn against it."""
    if i >= len(tokens):
        return None
    if tokens[i].sort == "code":
        match = _ATTACHED.fullmatch(tokens[i].text)
        factor = notation("suffixes").get(match.group(2)) if match else None
        value = digits(match.group(1)) if match else None
        return (value * factor, 1) if factor and value is not None else None
    found = read_number(tokens, i)
    if found and i + found[1] < len(tokens):
        after = tokens[i + found[1]]
        factor = notation("suffixes").get(after.text) if after.text in {"bn", "mn", "mio"} else None
        return (found[0] * factor, found[1] + 1) if factor else found
    return found


def money(tokens: Sequence[Raw], i: int) -> Value | None:
    """$1,200; 1200 USD; KSh 1,500,000; one and a half million Kenyan shillings; 54k EUR."""
    prefix = currency_of(tokens[i].text)
    if (
        prefix
        and i + 1 < len(tokens)
        and (tokens[i].sort == "symbol" or tokens[i].text[:1].isupper())
    ):
        amount = _amount(tokens, i + 1)
        if amount and tokens[i + 1].text[0].isdigit():
            return _money(
                amount[0], prefix, amount[1] + 1 + _named(tokens, i + 1 + amount[1], prefix)
            )
    amount = _amount(tokens, i)
    if amount is None or (after := i + amount[1]) >= len(tokens):
        return None
    if found := _phrase(tokens, after, notation("currency_phrases")):
        return _money(amount[0], notation("currency_phrases")[found[0]], amount[1] + found[1])
    code = currency_of(tokens[after].text)
    if code is None or _weighed(tokens, after):
        return None
    return _money(amount[0], code, amount[1] + 1)


def _named(tokens: Sequence[Raw], i: int, code: str) -> int:
    """1 where the currency is said twice: "$5 USD"."""
    return int(i < len(tokens) and currency_of(tokens[i].text) == code)


def _weighed(tokens: Sequence[Raw], i: int) -> bool:
    """Rule: "pounds" are money unless something is weighed in them."""
    return tokens[i].low in {"pound", "pounds"} and (
        (i + 1 < len(tokens) and tokens[i + 1].low in {"of", "heavy", "heavier", "lighter"})
        or any(t.low.startswith(("weigh", "los", "gain", "lift", "bag")) for t in tokens[:i])
    )


def _part(tokens: Sequence[Raw], i: int) -> tuple[str, Fraction, int] | None:
    """One number with its unit."""
    if i >= len(tokens):
        return None
    special = _attached(tokens[i]) or _halved(tokens, i) or _single(tokens, i)
    if special is not None:
        return special
    number = _amount(tokens, i)
    unit = unit_at(tokens, i + number[1]) if number else None
    if number is None or unit is None:
        return None
    return unit[0], number[0] * unit[1], number[1] + unit[2]


def _attached(token: Raw) -> tuple[str, Fraction, int] | None:
    """Read 12km, 500GB, 90-day."""
    match = _ATTACHED.fullmatch(token.text) if token.sort == "code" else None
    unit = unit_of(match.group(2)) if match else None
    value = digits(match.group(1)) if match else None
    return (unit[0], value * unit[1], 1) if unit and value is not None else None


def _halved(tokens: Sequence[Raw], i: int) -> tuple[str, Fraction, int] | None:
    """Read "half an hour" and "an hour and a half"."""
    article = {"a", "an"}
    if tokens[i].low == "half" and i + 2 < len(tokens) and tokens[i + 1].low in article:
        unit = unit_of(tokens[i + 2].text)
        return (unit[0], unit[1] / 2, 3) if unit else None
    if tokens[i].low in article and (more := _and_a_half(tokens, i + 2)):
        unit = unit_of(tokens[i + 1].text)
        return (unit[0], unit[1] * Fraction(3, 2), 2 + more) if unit else None
    return None


def _single(tokens: Sequence[Raw], i: int) -> tuple[str, Fraction, int] | None:
    """Rule: "for a week" is one week; elsewhere "a week" is a rate. A fortnight is two weeks."""
    if tokens[i].low in {"fortnight", "fortnights"}:
        return ("time", Fraction(1209600), 1)
    if tokens[i].low not in {"a", "an"} or not i or i + 1 >= len(tokens):
        return None
    unit = unit_of(tokens[i + 1].text) if len(tokens[i + 1].text) > 2 else None
    led = tokens[i - 1].low in {
        "for",
        "within",
        "last",
        "lasts",
        "lasted",
        "took",
        "takes",
        "after",
    }
    return (unit[0], unit[1], 2) if unit and led and unit[0] in {"time", "months"} else None


def _height(token: Raw) -> Value | None:
    """Read 6'2" as feet and inches."""
    if token.sort != "height":
        return None
    feet, inches = (int(part) for part in re.findall(r"\d+", token.text))
    return Value(f"q:length:{(feet * 12 + inches) * Fraction(254, 10000)}", "quantity", 1)


def _and_a_half(tokens: Sequence[Raw], i: int) -> int:
    return 3 * (tuple(t.low for t in tokens[i : i + 3]) == ("and", "a", "half"))


_COMPOUND = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?:in)?)?(?:(\d+)s)?")


def _compound(token: Raw) -> Value | None:
    """1m30s, 1h30m, 2h15."""
    match = _COMPOUND.fullmatch(token.text)
    if token.sort != "code" or not match or sum(g is not None for g in match.groups()) < 2:
        return None
    seconds = sum(
        int(g or 0) * f for g, f in zip(match.groups(), (86400, 3600, 60, 1), strict=True)
    )
    return Value(f"q:time:{seconds}", "quantity", 1)


def quantity(tokens: Sequence[Raw], i: int) -> Value | None:
    """250 ml, 90 seconds, 1h 30m, five foot ten inches, half an hour, 12°C, 4.5 percent."""
    if whole := _compound(tokens[i]) or _height(tokens[i]):
        return whole
    part = _part(tokens, i)
    if part is None:
        return None
    dimension, total, used = part
    last = total
    while dimension in _SUMMED:
        joiner = int(i + used < len(tokens) and tokens[i + used].low == "and")
        more = _part(tokens, i + used + joiner) or None
        if (
            more
            and more[0] == "length"
            and dimension == "time"
            and tokens[i + used].text.endswith("m")
        ):
            more = ("time", more[1] * 60, more[2])
        if dimension == "length" and (more is None or more[0] != dimension):
            more = _inches(tokens, i + used)
        if more is None or more[0] != dimension or not 0 < more[1] < last:
            break
        total, last, used = total + more[1], more[1], used + joiner + more[2]
    return Value(f"q:{dimension}:{total}", "quantity", used)


def _inches(tokens: Sequence[Raw], i: int) -> tuple[str, Fraction, int] | None:
    """What follows feet: "6 ft 2 in", "six foot two"."""
    if i >= len(tokens) or tokens[i - 1].low not in {"ft", "foot", "feet"}:
        return None
    number = read_number(tokens, i)
    if number is None or number[0] >= 12:
        return None
    after = tokens[i + number[1]] if i + number[1] < len(tokens) else None
    named = after is not None and after.low in {"in", "inch", "inches"}
    if not named and after is not None and after.low not in {"tall", ".", ",", ";", ")"}:
        return None
    return "length", number[0] * Fraction(254, 10000), number[1] + named


def age(tokens: Sequence[Raw], i: int) -> Value | None:
    """Read "34 years old", "five-year-old", "aged 5"."""
    if tokens[i].low == "aged":
        number = read_number(tokens, i + 1) if i + 1 < len(tokens) else None
        if number is None or number[0] > _OLDEST:
            return None
        years = i + 1 + number[1]
        named = years < len(tokens) and tokens[years].low in {"year", "years"}
        return Value(f"age:months:{number[0] * 12}", "quantity", 1 + number[1] + named)
    if match := _AGED.fullmatch(tokens[i].low):
        unit = unit_of(match.group(2))
        return (
            Value(f"age:{unit[0]}:{int(match.group(1)) * unit[1]}", "quantity", 1) if unit else None
        )
    number = read_number(tokens, i)
    unit_there = unit_at(tokens, i + number[1]) if number else None
    if number is None or unit_there is None or unit_there[0] not in {"time", "months"}:
        return None
    at = i + number[1] + unit_there[2]
    at += at < len(tokens) and tokens[at].text == "-"
    if at >= len(tokens) or tokens[at].low != "old":
        return None
    return Value(f"age:{unit_there[0]}:{number[0] * unit_there[1]}", "quantity", at + 1 - i)


def share(tokens: Sequence[Raw], i: int) -> Value | None:
    """A fraction of something as a percentage: "a quarter of", "half of", "2/3 of"."""
    low = tokens[i].low
    found: tuple[Fraction, int] | None = None
    if (
        low in {"a", "one"}
        and i + 1 < len(tokens)
        and tokens[i + 1].low in {"quarter", "third", "half", "fifth", "tenth"}
    ):
        found = Fraction(1, notation("denominators")[tokens[i + 1].low]), 2
    elif low == "half":
        found = Fraction(1, 2), 1
    else:
        number = read_number(tokens, i)
        found = number if number and number[0] < 1 else None
    if found is None or i + found[1] >= len(tokens):
        return None
    after = tokens[i + found[1]].low
    if after != "of" and not (low == "half" and after in _OWNERS):
        return None
    return Value(f"q:percent:{found[0] * 100}", "quantity", found[1])


def ordinal(tokens: Sequence[Raw], i: int) -> Value | None:
    """14th, third, twenty-first."""
    token = tokens[i]
    if match := _ORDINAL.fullmatch(token.text):
        return Value(f"ord:{int(match.group(1))}", "number", 1)
    ordinals, cardinals = notation("ordinals"), notation("cardinals")
    if token.low in ordinals and token.low != "second":
        return Value(f"ord:{ordinals[token.low]}", "number", 1)
    if token.low == "second":
        return Value("ord:2", "number", 1)
    tens = cardinals.get(token.low)
    if tens is not None and tens >= 20 and i + 2 < len(tokens) and tokens[i + 1].text == "-":
        unit = ordinals.get(tokens[i + 2].low)
        if unit is not None and unit < 10:
            return Value(f"ord:{tens + unit}", "number", 3)
    return None


def number(tokens: Sequence[Raw], i: int) -> Value | None:
    """A plain number. A decimal keeps its written digits: 3.1 and 3.10 may be versions."""
    token = tokens[i]
    text = token.text
    if (
        token.sort == "number"
        and not text.isdigit()
        and read_number(tokens, i) == (digits(text), 1)
    ):
        return Value(f"n:{text}", "number", 1)
    if token.sort == "number" and text.isdigit() and len(text) > 1 and text[0] == "0":
        return Value(f"id:{text}", "identifier", 1)
    found = _amount(tokens, i)
    if found:
        return Value(f"n:{found[0]}", "number", found[1])
    return Value(f"id:{text}", "identifier", 1) if token.sort == "number" else None
