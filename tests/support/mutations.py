"""Changes of fact made from plain sentences: none of them may ever be merged with its source."""

import re
from collections.abc import Iterator

import lemminflect

NEIGHBOURS = (
    ("red", "blue", "green", "yellow", "black", "white", "grey"),
    ("brother", "sister", "cousin", "uncle", "aunt", "mother", "father", "son", "daughter"),
    ("cat", "dog", "rabbit", "horse", "parrot"),
    ("carpenter", "pilot", "nurse", "plumber", "lawyer", "teacher"),
    ("coffee", "tea", "juice", "water", "wine"),
    ("kitchen", "bathroom", "garage", "cellar", "attic", "garden"),
    ("car", "van", "bus", "train", "bicycle", "boat"),
    ("chess", "tennis", "poker", "golf", "cello", "piano"),
    ("morning", "evening", "afternoon", "night"),
    ("breakfast", "lunch", "dinner"),
    ("French", "German", "Polish", "Dutch", "Spanish"),
    ("Postgres", "MySQL", "Redis", "Kafka"),
    ("left", "right"), ("before", "after"), ("open", "closed"), ("new", "old"),
    ("opens", "closes"), ("buys", "sells"), ("bought", "sold"), ("likes", "hates"),
    ("always", "never", "sometimes"), ("all", "some", "most", "none"), ("more", "less"),
    ("with", "without"), ("from", "to"), ("early", "late"), ("on", "off"), ("list", "set", "map"),
    ("weekdays", "weekends"), ("every", "most", "some"), ("near", "behind", "above"),
    ("primary", "secondary"), ("doctor", "dentist", "vet"), ("rose", "fell"), ("paid", "refused"),
    ("library", "museum", "bakery", "clinic"), ("staging", "production"), ("under", "over"),
    ("tea", "cocoa"), ("iron", "zinc", "magnesium"), ("walnuts", "almonds", "peanuts"),
    ("minutes", "hours", "seconds", "days"), ("month", "week", "year", "day"),
    ("because", "although"), ("and", "or"), ("two", "three", "four", "five", "six"),
    ("older", "younger"), ("more", "less"), ("above", "below"), ("uncle", "nephew"),
    ("must", "may"), ("cannot", "can"), ("not allowed", "allowed"), ("ago", "from now"),
    ("instead of", "and"), ("Q1", "Q2", "Q3", "Q4"), ("first", "second", "third"),
    ("Half", "A quarter", "All", "None"), ("or more", "or less"), ("over", "under"),
    ("fortnight", "month", "week"), ("by", "for"), ("is", "was"),
)  # fmt: skip
INSERTED = (
    "not",
    "only",
    "never",
    "formerly",
    "almost",
    "no longer",
    "possibly",
    "hardly",
    "partly",
)
CONDITIONS = (
    " if it rains", " unless Zoe objects", " except in winter", " but only for a week",
    " when nobody is home", " until next spring", " provided the budget allows it",
    " as long as the sun shines", " only on holidays", " or so he claims", " in theory only",
    ", but not on Sundays", ", maybe", " whenever the boss is away", " instead of Rome",
)  # fmt: skip
UNITS = (
    ("mg", "g"), ("kg", "g"), ("GB", "MB"), ("GB", "GiB"), ("km", "miles"), ("euros", "dollars"),
    ("dollars", "pounds"), ("°C", "°F"), ("am", "pm"), ("pm", "am"), ("UTC", "EST"),
    ("g", "ounces"),    ("%", " per mille"), ("minute", "hour"), ("month", "year"),
    ("days", "weeks"),
    ("kilometres", "miles"),
)  # fmt: skip
MONTHS = ("January", "March", "April", "May", "June", "July", "August", "September", "October")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MODALS = ("may", "might", "should", "could", "must", "wants to", "used to", "would", "tried to")


_DROPPED = ("not", "never", "only", "no", "without", "may", "might", "former", "used to", "unless")
_NO_NAMES = {"the", "his", "her", "our", "two", "has", "and"}
_SYMMETRIC = ("married", "head of", "siblings", "share calendar")


def mutations(text: str) -> Iterator[tuple[str, str]]:
    """All changes of fact of one sentence as (kind, changed text)."""
    for make in (_inserted, _digits, _calendar, _units, _identifiers, _verbs, _swapped, _neighbours,
                 _conditions, _dropped, _owners, _letters):  # fmt: skip
        seen = {text}
        for kind, changed in make(text):
            if changed not in seen:
                seen.add(changed)
                yield kind, changed


def _inserted(text: str) -> Iterator[tuple[str, str]]:
    parts = text.split(" ")
    for word in INSERTED:
        for at in range(1, len(parts)):
            yield f"inserted {word}", " ".join([*parts[:at], word, *parts[at:]])


def _digits(text: str) -> Iterator[tuple[str, str]]:
    for match in re.finditer(r"\d", text):
        digit = str((int(match.group()) + 1) % 10)
        yield "digit", text[: match.start()] + digit + text[match.end() :]
    for match in re.finditer(r"\d{2,}", text):
        turned = match.group()[::-1]
        if turned != match.group():
            yield "digits turned", text[: match.start()] + turned + text[match.end() :]


def _calendar(text: str) -> Iterator[tuple[str, str]]:
    for names in (MONTHS, DAYS):
        for i, name in enumerate(names):
            if re.search(rf"\b{name}", text):
                yield "date", re.sub(rf"\b{name}", names[(i + 1) % len(names)], text)


def _units(text: str) -> Iterator[tuple[str, str]]:
    for unit, other in UNITS:
        pattern = rf"(?<=\d ){re.escape(unit)}\b|(?<=\d){re.escape(unit)}|(?<=[a-z] ){unit}\b"
        if re.search(pattern, text):
            yield "unit", re.sub(pattern, other, text, count=1)


def _identifiers(text: str) -> Iterator[tuple[str, str]]:
    for match in re.finditer(r"\b(?=\S*\d)(?=\S*[A-Za-z])[\w./-]{4,}\b|/[\w./]+", text):
        for offset, char in enumerate(match.group()):
            if char.isalpha():
                at = match.start() + offset
                yield (
                    "identifier",
                    text[:at] + ("x" if char.lower() != "x" else "q") + text[at + 1 :],
                )


def _verbs(text: str) -> Iterator[tuple[str, str]]:
    parts = text.split(" ")
    for at, part in enumerate(parts[:5]):
        if at and part[0].isupper():
            continue
        for lemma in lemminflect.getAllLemmas(part.lower()).get("VERB", ()):
            forms = lemminflect.getAllInflections(lemma, "VERB")
            if part.lower() not in forms.get("VBZ", ()):
                continue
            for past in forms.get("VBD", ()):
                yield "tense", " ".join([*parts[:at], past, *parts[at + 1 :]])
            for modal in MODALS:
                yield f"modality {modal}", " ".join([*parts[:at], modal, lemma, *parts[at + 1 :]])


def _swapped(text: str) -> Iterator[tuple[str, str]]:
    if any(word in text for word in _SYMMETRIC):
        return
    found = re.findall(r"\b[A-Z][a-z]{2,}", text)
    names = [n for n in dict.fromkeys(found) if n.lower() not in _NO_NAMES]
    for i, name in enumerate(names):
        for other in names[i + 1 :]:
            if re.search(rf"\b{name}(?:, | and | or ){other}\b", text):
                continue
            swap = {name: other, other: name}
            yield "roles", re.sub(rf"\b(?:{name}|{other})\b", lambda m, s=swap: s[m.group()], text)


def _neighbours(text: str) -> Iterator[tuple[str, str]]:
    for group in NEIGHBOURS:
        for word in group:
            if re.search(rf"\b{word}\b", text):
                for other in group:
                    if other != word:
                        yield f"word {word}", re.sub(rf"\b{word}\b", other, text, count=1)


def _conditions(text: str) -> Iterator[tuple[str, str]]:
    for condition in CONDITIONS:
        yield "condition", text.rstrip(".") + condition + "."


def _dropped(text: str) -> Iterator[tuple[str, str]]:
    for word in (
        "not",
        "never",
        "only",
        "no",
        "without",
        "may",
        "might",
        "former",
        "used to",
        "unless",
        "if",
    ):
        if re.search(rf" {word} ", text):
            yield f"dropped {word}", re.sub(rf" {word} ", " ", text, count=1)


def _owners(text: str) -> Iterator[tuple[str, str]]:
    for match in re.finditer(r"(?<!^)\b[A-Z][a-z]{2,}\b(?!')", text):
        yield "owner", text[: match.end()] + "'s neighbour" + text[match.end() :]
    yield "claim", "Bruno claims that " + text[0].lower() + text[1:]
    yield "hope", "Hopes that " + text[0].lower() + text[1:]
    yield "denial", "It is not true that " + text[0].lower() + text[1:]


def _letters(text: str) -> Iterator[tuple[str, str]]:
    """A letter that names is another one, or is taken for an article."""
    for match in re.finditer(r"(?<=[a-z] )[A-D]\b(?!\.\w)", text):
        yield "letter", text[: match.start()] + "E" + text[match.end() :]
        yield "letter lost", text[: match.start() - 1] + text[match.end() :]
