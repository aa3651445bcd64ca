"""The strict decoder of search and context requests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from engram.domain.context import FORMATS, Format
from engram.domain.fields import MAX_NAMESPACE, FieldError, check_content, label
from engram.domain.filters import Condition, decode_filters
from engram.errors import Fault, InvalidError

MAX_LIMIT = 100
MOST_TOKENS = 100_000

Rank = Literal["similarity", "blended"]
Check = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """A checked search; ``min_score`` is a cosine similarity."""

    query: str
    namespace: str | None = None
    filters: Condition = field(default_factory=Condition)
    limit: int = 10
    min_score: float | None = None
    rank: Rank = "similarity"


@dataclass(frozen=True, slots=True)
class ContextRequest:
    """A checked request for a block of at most ``max_tokens`` estimated tokens."""

    query: str
    namespace: str | None = None
    filters: Condition = field(default_factory=Condition)
    limit: int = 20
    max_tokens: int = 1_000
    format: Format = "bullets"


def decode_search(value: Any) -> SearchRequest:
    """Check the body of a search.

    Raises:
        InvalidError: with one fault for each thing wrong.
    """
    return SearchRequest(**_decode(value, _SEARCH))


def decode_context(value: Any) -> ContextRequest:
    """Check the body of a request for context.

    Raises:
        InvalidError: with one fault for each thing wrong.
    """
    return ContextRequest(**_decode(value, _CONTEXT))


def _whole(low: int, high: int) -> Check:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise FieldError("wrong_type", "must be an integer")
        if not low <= value <= high:
            raise FieldError("out_of_range", f"must be between {low} and {high:,}")
        return value

    return check


def _one_of(*names: str) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise FieldError("unknown_value", f"must be one of {', '.join(names)}")
        return value

    return check


def _score(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FieldError("wrong_type", "must be a number")
    # Written so that NaN fails too.
    if not -1 <= value <= 1:
        raise FieldError("out_of_range", "must be between -1 and 1")
    return float(value)


_BOTH: Mapping[str, Check] = MappingProxyType(
    {
        "query": check_content,
        "namespace": label(MAX_NAMESPACE),
        "filters": decode_filters,
        "limit": _whole(1, MAX_LIMIT),
    }
)
_SEARCH: Mapping[str, Check] = MappingProxyType(
    {**_BOTH, "min_score": _score, "rank": _one_of("similarity", "blended")}
)
_CONTEXT: Mapping[str, Check] = MappingProxyType(
    {**_BOTH, "max_tokens": _whole(1, MOST_TOKENS), "format": _one_of(*FORMATS)}
)


def _decode(value: Any, checks: Mapping[str, Check]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _invalid([Fault("", "wrong_type", "must be an object")])
    clean: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, raw in value.items():
        check = checks.get(name)
        if check is None:
            faults.append(_unknown(name, checks))
        elif raw is not None:
            _apply(name, check, raw, clean, faults)
    if value.get("query") is None:
        faults.append(Fault("/query", "missing", "query is required"))
    if faults:
        raise _invalid(faults)
    return clean


def _apply(name: str, check: Check, raw: Any, clean: dict[str, Any], faults: list[Fault]) -> None:
    try:
        clean[name] = check(raw)
    except FieldError as error:
        faults.append(Fault(f"/{name}{error.where}", error.code, str(error)))
    except InvalidError as error:
        faults.extend(error.faults)


def _unknown(name: str, checks: Mapping[str, Check]) -> Fault:
    shown = ascii(name)[1:-1][:40].replace("~", "~0").replace("/", "~1")
    return Fault(f"/{shown}", "unknown_field", f"is not a field here; known: {', '.join(checks)}")


def _invalid(faults: list[Fault]) -> InvalidError:
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return InvalidError(
        "invalid_search",
        f"{faults[0].pointer or 'The request'} {faults[0].detail}{more}.",
        cure="Correct the named fields; see docs/search.md.",
        faults=tuple(faults),
    )
