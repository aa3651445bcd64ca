"""Words reduced to their lemma with tense, number and form kept apart; spelling variants as one."""

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from engram.domain.guard.lexicon import dictionary, table, words

_VERB_TAGS = ("VB", "VBP", "VBZ", "VBD", "VBN", "VBG")
_DOUBLED = re.compile(
    r"(cancel|travel|label|model|fuel|level|channel|counsel|signal|total|marvel|jewel|dial|quarrel|tunnel|bevel|pencil|initial|rival|shovel|snorkel|program+)l(ed|ing|er|ers)"
)


class Forms(NamedTuple):
    """What a word can be: the verb's lemma and tags, the noun's lemma, or an adjective."""

    verb: str
    tags: frozenset[str]
    noun: str
    adjective: bool


@lru_cache(maxsize=50_000)
def forms(low: str) -> Forms:
    """Readings of a lower-case word, from lemminflect's tables."""
    import lemminflect  # type: ignore[import-untyped] # ships no types

    if not low.isascii() or len(low) > 30:
        return Forms("", frozenset(), "", adjective=False)
    lemmas = lemminflect.getAllLemmas(low)
    verbs = lemmas.get("VERB", lemmas.get("AUX", ()))
    verb = verbs[0] if verbs else ""
    found = lemminflect.getAllInflections(verb, "VERB") if verb else {}
    tags = frozenset(tag for tag in _VERB_TAGS if low in found.get(tag, ()))
    noun = lemmas.get("NOUN", ("",))[0]
    return Forms(verb if tags else "", tags, noun, adjective="ADJ" in lemmas)


@lru_cache(maxsize=50_000)
def known(low: str) -> bool:
    """Whether this is a word: in the word list, or a regular form of one."""
    if low in dictionary():
        return True
    reading = forms(low)
    return bool(reading.verb or reading.noun or reading.adjective)


@lru_cache(maxsize=50_000)
def standard_spelling(low: str) -> str:
    """One spelling for British and American variants and for unaccented loan words."""
    variants: dict[str, str] = table("spelling")["variants"]
    if low in variants:
        return variants[low]
    if not low.isascii():
        return _unaccented(low)
    if match := _DOUBLED.fullmatch(low):
        return match.group(1) + match.group(2)
    candidate = low
    if len(low) >= 5:
        candidate = re.sub(
            r"(?<=[a-z])our(?=$|s$|ed$|ing$|ite|able|ful|less|ites$|hood|er$|ers$)", "or", low
        )
    if len(low) >= 6:
        candidate = re.sub(r"is(e|ed|es|ing|er|ers|ation|ations)$", r"iz\1", candidate)
        candidate = re.sub(r"ys(e|ed|es|ing)$", r"yz\1", candidate)
    if candidate == low:
        return low
    reading = forms(candidate)
    listed = candidate in dictionary() or reading.noun or reading.adjective or reading.verb
    return candidate if listed else low


def _unaccented(low: str) -> str:
    plain = "".join(c for c in unicodedata.normalize("NFD", low) if not unicodedata.combining(c))
    loans = words("accented_apart")
    return plain if plain.isascii() and plain in dictionary() and plain not in loans else low
