"""What a vector space is, how it is written down, and which one is chosen by default."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from engram.errors import ConflictError, UsageError

MAX_DIMENSIONS: Final = 3072

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:+-]{0,127}")
_SYNTAX: Final = "Write provider:model@dimensions, such as voyage:voyage-4@1024 or hashing@256."


@dataclass(frozen=True, slots=True)
class SpaceSpec:
    """One vector space: vectors of two different specs are never compared.

    Attributes:
        provider: name in the provider table, such as ``voyage``.
        model: the provider's own name of the model.
        dimensions: length of every vector, 1 to 3072.
        dtype: how a number is stored; ``float16`` is pgvector's ``halfvec``.
        input_type: ``document`` where the model embeds queries and documents differently (stored
            vectors are the document side), ``none`` where it does not.
        normalised: stored vectors have length 1.
        template: how a memory becomes the text that is embedded; ``plain`` is its content.
    """

    provider: str
    model: str
    dimensions: int
    dtype: str = "float16"
    input_type: str = "none"
    normalised: bool = True
    template: str = "plain"

    @property
    def key(self) -> str:
        """The stable text of this space in answers, settings and logs.

        ``parse_embedding(spec.key) == spec`` for every spec that ``parse_embedding`` makes.
        """
        return f"{self.provider}:{self.model}@{self.dimensions}"


@dataclass(frozen=True, slots=True)
class _Rules:
    """What one provider allows; ``sizes`` maps a model to the dimensions it can make."""

    model: str
    dimensions: int
    input_type: str = "none"
    sizes: dict[str, frozenset[int]] | None = None
    only_model: bool = False


# Sizes of the Voyage models that take output_dimension; source: docs.voyageai.com/docs/embeddings.
_VOYAGE_SIZES: Final = frozenset({256, 512, 1024, 2048})
_VOYAGE_FLEXIBLE: Final = (
    "voyage-4",
    "voyage-4-lite",
    "voyage-4-large",
    "voyage-3.5",
    "voyage-3.5-lite",
    "voyage-3-large",
    "voyage-code-3",
)

_RULES: Final[dict[str, _Rules]] = {
    "voyage": _Rules(
        "voyage-4", 1024, "document", sizes=dict.fromkeys(_VOYAGE_FLEXIBLE, _VOYAGE_SIZES)
    ),
    "openai": _Rules(
        "text-embedding-3-small",
        1536,
        sizes={
            "text-embedding-3-small": frozenset(range(1, 1537)),
            "text-embedding-3-large": frozenset(range(1, 3073)),
            "text-embedding-ada-002": frozenset({1536}),
        },
    ),
    "minilm": _Rules(
        "all-minilm-l6-v2", 384, sizes={"all-minilm-l6-v2": frozenset({384})}, only_model=True
    ),
    "hashing": _Rules("ngram-1", 256, only_model=True),
    "null": _Rules("shake-1", 1024, only_model=True),
}

# Models whose vectors may stand in one space, as their vendor says: any of them may embed
# documents or queries. Source, seen for Voyage 4:
# blog.voyageai.com/2026/01/15/voyage-4 and docs.voyageai.com/docs/embeddings.
_FAMILIES: Final[dict[str, tuple[frozenset[str], ...]]] = {
    "voyage": (frozenset({"voyage-4", "voyage-4-lite", "voyage-4-large"}),),
}

# Dimensions meant when a known model is named without any.
_MODEL_DIMENSIONS: Final = {"text-embedding-3-large": 3072}


def providers() -> tuple[str, ...]:
    """Names of the providers a specification may start with."""
    return tuple(_RULES)


def parse_embedding(text: str) -> SpaceSpec:
    """Read a specification such as ``voyage:voyage-4@1024``, ``minilm`` or ``hashing@256``.

    Args:
        text: ``provider[:model][@dimensions]``; what is left out is the provider's default.

    Raises:
        UsageError: unknown provider or model, or dimensions the model cannot make.
    """
    head, _, size = text.strip().partition("@")
    provider, _, model = head.partition(":")
    rules = _rules_of(provider)
    model = _model_of(provider, model, rules, named=":" in head)
    dimensions = _dimensions_of(provider, model, size, rules, named="@" in text)
    return SpaceSpec(provider, model, dimensions, input_type=rules.input_type)


def family_of(spec: SpaceSpec) -> frozenset[str]:
    """Return the models whose vectors may be compared with this space's, its own among them."""
    for family in _FAMILIES.get(spec.provider, ()):
        if spec.model in family:
            return family
    return frozenset({spec.model})


def are_compatible(one: SpaceSpec, other: SpaceSpec) -> bool:
    """Say whether vectors of two specs may stand in one space: one family, and all else equal."""
    return other.model in family_of(one) and replace(other, model=one.model) == one


def with_model(spec: SpaceSpec, model: str) -> SpaceSpec:
    """Return what embeds for a space when another model of its family does.

    Raises:
        ConflictError: ``not_compatible``: the model's vectors belong to another space.
    """
    changed = replace(spec, model=model)
    if are_compatible(spec, changed):
        return changed
    family = ", ".join(sorted(family_of(spec) - {spec.model}))
    raise ConflictError(
        "not_compatible",
        f"Vectors of {model[:64]!r} cannot be compared with those of {spec.key}.",
        cure=f"Its family has {family}." if family else "Move with `engram migrate` instead.",
    )


def choose_default(voyage_key: str | None) -> SpaceSpec:
    """The space used when nothing is configured: Voyage with a key, else the local model."""
    return parse_embedding("voyage" if voyage_key and voyage_key.strip() else "minilm")


def _rules_of(provider: str) -> _Rules:
    rules = _RULES.get(provider)
    if rules is not None:
        return rules
    raise UsageError(
        "unknown_provider",
        f"There is no embedding provider {provider[:64]!r}.",
        cure=_suggest(provider.lower(), _RULES),
    )


def _model_of(provider: str, model: str, rules: _Rules, *, named: bool) -> str:
    if not named:
        return rules.model
    if rules.only_model and model != rules.model:
        raise UsageError(
            "unknown_model",
            f"The provider {provider} has one model, {rules.model}, not {model[:64]!r}.",
            cure=f"Write {provider} or {provider}:{rules.model}.",
        )
    if not _MODEL.fullmatch(model):
        raise UsageError("bad_model", f"{model[:64]!r} is not a model name.", cure=_SYNTAX)
    return model


def _dimensions_of(provider: str, model: str, size: str, rules: _Rules, *, named: bool) -> int:
    if not named:
        return _default_dimensions(provider, model, rules)
    # str.isdecimal admits other scripts' digits, and a leading zero would be a second spelling.
    if not re.fullmatch(r"[1-9][0-9]{0,4}", size) or int(size) > MAX_DIMENSIONS:
        raise UsageError(
            "bad_dimensions",
            f"Dimensions must be a whole number from 1 to {MAX_DIMENSIONS}, not {size[:16]!r}.",
            cure=f"Write {provider}:{model}@{rules.dimensions}.",
        )
    dimensions = int(size)
    allowed = (rules.sizes or {}).get(model)
    if allowed is not None and dimensions not in allowed:
        nearest = min(allowed, key=lambda size: (abs(size - dimensions), size))
        raise UsageError(
            "bad_dimensions",
            f"The model {model} cannot make vectors of {dimensions} dimensions.",
            cure=f"Write {provider}:{model}@{nearest}.",
        )
    return dimensions


def _default_dimensions(provider: str, model: str, rules: _Rules) -> int:
    if model in _MODEL_DIMENSIONS:
        return _MODEL_DIMENSIONS[model]
    # A model nobody here knows could have any size, and a guess would fail only at the first text.
    if rules.sizes is not None and model not in rules.sizes:
        raise UsageError(
            "missing_dimensions",
            f"The dimensions of the model {model} are not known.",
            cure=f"Write {provider}:{model}@N with the length of its vectors as N.",
        )
    return rules.dimensions


def _suggest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    meant = f"Did you mean {close[0]}? " if close else ""
    return f"{meant}Known providers: {', '.join(known)}. {_SYNTAX}"
