"""The lists of words the rules rest on, read from the package's data once, when first needed."""

import tomllib
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def table(name: str) -> dict[str, Any]:
    """A data file of the guard as parsed TOML."""
    text = (files("engram.domain.guard") / "data" / f"{name}.toml").read_text("utf-8")
    return tomllib.loads(text)


@cache
def notation(section: str) -> dict[str, Any]:
    """One section of the notations."""
    content: dict[str, Any] = table("notations")[section]
    return content


@cache
def units(section: str) -> dict[str, tuple[str, Fraction]]:
    """Unit to dimension and factor to the dimension's base."""
    return {k: (v[0], Fraction(v[1])) for k, v in notation(section).items()}


@cache
def words(name: str) -> frozenset[str]:
    """One closed list of words, by its name in grammar.toml."""
    return frozenset(table("grammar")[name])


@cache
def dictionary() -> dict[str, int]:
    """English words and how often they occur, from the list that comes with symspellpy."""
    text = (files("symspellpy") / "frequency_dictionary_en_82_765.txt").read_text("utf-8-sig")
    return {word: int(count) for word, _, count in (x.partition(" ") for x in text.splitlines())}
