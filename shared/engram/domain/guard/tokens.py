"""Typography folded away, and a text cut into words, numbers, identifiers and marks."""

import re
import unicodedata
from dataclasses import dataclass

MAX_TOKENS = 400
"""Beyond this only texts that are identical after folding are compared."""

_MARKS = str.maketrans(
    {
        "‘": "'", "’": "'", "‚": "'", "‛": "'", "`": "'", "´": "'", "ʼ": "'",
        "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‟": '"',
        "‐": "-", "‑": "-", "‒": "–", "—": "–", "―": "–", "−": "-",
        "…": ".", "⁄": "/", "×": "x", "µ": "u", "μ": "u",
        "\u200b": None, "\u200c": None, "\u200d": None, "\ufeff": None, "\u00ad": None,
    }
)  # fmt: skip

_FRACTIONS = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "⅛": "1/8"}

_TOKEN = re.compile(
    r"""
    (?P<url>(?:[a-z][a-z0-9+.-]*://|www\.)[^\s"<>]+)
  | (?P<email>[\w.+-]+@[\w-]+(?:\.[\w-]+)+)
  | (?P<iban>\b[A-Z]{2}\d{2}(?:\ ?[A-Z0-9]{4}){3,7}(?:\ ?[A-Z0-9]{1,3})?\b)
  | (?P<mac>\b(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}\b)
  | (?P<uuid>\b[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b)
  | (?P<phone>(?:\+|\b00(?=[1-9]))\d(?:[ ().-]{0,2}\d){6,14}(?!\w)
      | \(\d{3}\)\ ?\d{3}[ -]\d{4}\b | \b\d{3}[-.]\d{3}[-.]\d{4}\b | \b\d{3}\ \d{3}\ \d{4}\b
      | \(0\d{2,4}\)[ /-]?\d{3,}(?:[ -]\d{2,})*\b
      | \b0\d{2,4}[ /-]\d{3,}(?:[ -]\d{2,})*\b(?![-:.]\d) | \b0\d{9,10}\b)
  | (?P<isodate>\b\d{4}-\d{2}-\d{2}\b)
  | (?P<clock>\b\d{1,2}:\d{2}(?::\d{2})?(?:\b(?![.:]\d)|(?=[aApP][mM]\b)))
  | (?P<numdate>\b\d{1,2}(?P<ds>[./])\d{1,2}(?P=ds)\d{4}\b)
  | (?P<path>(?=[^\s"<>()]*[a-zA-Z])[\w~.-]*(?:[/\\][\w.@~-]+)+/?|[\w-]*[^\W_]_[\w-]+)
  | (?P<group>\b\d{1,3}(?:(?:,\d{3})+|(?:[\ '\u00a0\u202f]\d{3})+)(?:\.\d+)?(?![\w,]\d|\w))
  | (?P<height>\b\d'\ ?\d{1,2}(?:"|''))
  | (?P<number>\b\d+(?:[./]\d+)*(?!\w)(?!-[A-Za-z])(?!(?:\.\d+)+[A-Za-z]))
  | (?P<dotted>\b[A-Z][a-z]?\.(?:[A-Z][a-z]?\.)+
      | \b(?:[A-Za-z]\.){2,} | \b(?:[A-Za-z]\.)+[A-Za-z]\b(?!\.?\w))
  | (?P<code>\b(?=[\w.-]*\d)(?=[\w.-]*[A-Za-z])[A-Za-z0-9]+(?:[.-]?[A-Za-z0-9]+)*)
  | (?P<word>[^\W\d_]+(?:'[^\W\d_]+)*'?)
  | (?P<symbol>[^\w\s]|_)
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Raw:
    """A piece of text as written: its sort, its text, and what surrounds it."""

    sort: str
    text: str
    start: int
    joined: bool
    """No space before it: part of a hyphenated word, or a unit written against its number."""

    @property
    def low(self) -> str:
        """The text in lower case."""
        return self.text.lower()


def fold(text: str) -> str:
    """NFC, plain quotes and dashes, single spaces; case and digits stay."""
    folded = unicodedata.normalize("NFC", text).translate(_MARKS)
    for sign, plain in _FRACTIONS.items():
        if sign in folded:
            folded = re.sub(rf"(?<=\d){sign}", f" {plain}", folded).replace(sign, plain)
    return " ".join(folded.split())


def bare(text: str) -> str:
    """The folded text without marks that carry no meaning at its ends and between words."""
    words = (w.strip(".,;:!\"'()[]*") for w in fold(text).split())
    return " ".join(w for w in words if w and w not in {"–", "-"})


def tokenise(folded: str) -> list[Raw]:
    """Cut a folded text; trailing dots of identifiers are marks, not parts."""
    tokens: list[Raw] = []
    end = 0
    position = 0
    while match := _TOKEN.search(folded, position):
        sort = next(k for k, v in match.groupdict().items() if v is not None and k != "ds")
        text = match.group()
        if sort in {"url", "email", "path"}:
            text = text.rstrip(".,;:!?)'") or text
        if sort == "word" and text.endswith("'") and not text.lower().endswith("s'"):
            text = text.rstrip("'")
        tokens.append(Raw(sort, text, match.start(), match.start() == end and end > 0))
        end = position = match.start() + len(text)
    return tokens
