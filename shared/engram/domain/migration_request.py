"""What may be asked of a migration: the fields of a plan, of its options, and of a choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from engram.domain.fields import MAX_NAMESPACE, FieldError, label
from engram.domain.spaces import SpaceSpec, parse_embedding
from engram.errors import Fault, InvalidError, UsageError

ORDERS: Final = ("most_read", "smallest")
MIN_SHARE: Final = 0.01
MAX_SAMPLE: Final = 10_000
MAX_QUERIES: Final = 1_000
MAX_LISTED: Final = 1_000
DEFAULTS: Final[Mapping[str, Any]] = {
    "order": "most_read",
    "share": 1.0,
    "sample": 200,
    "queries": 50,
    "adapter": False,
}
_name = label(MAX_NAMESPACE)


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """A plan that is asked for.

    Attributes:
        target: the space to be filled.
        workspaces: ids or names of those whose memories move, None for all.
        options: every option, those not given by their default.
        measure: ask the provider to count the tokens of a few texts.
    """

    target: SpaceSpec
    workspaces: tuple[str, ...] | None
    options: dict[str, Any]
    measure: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """Which namespaces a verb is about.

    Attributes:
        workspace: id or name; None is the caller's own where namespaces are named, else all.
        namespaces: their names, None for all.
        judged: queries with the ids that should be found, for verify.
    """

    workspace: str | None
    namespaces: tuple[str, ...] | None
    judged: tuple[dict[str, Any], ...] | None


def decode_plan(value: Any) -> PlanRequest:
    """Read the body of a plan.

    Raises:
        InvalidError: with a fault for each field that does not fit.
    """
    faults: list[Fault] = []
    fields = _object(value, ("to", "workspaces", "measure", *DEFAULTS), faults)
    target = _target(fields.get("to"), faults)
    workspaces = _names(fields, "workspaces", faults)
    options = {**DEFAULTS, **_options(fields, faults)}
    measure = _checked(fields, "measure", _flag, faults)
    if faults or target is None:
        raise _invalid(faults)
    return PlanRequest(target, workspaces, options, True if measure is None else measure)


def decode_options(value: Any) -> dict[str, Any]:
    """Read the options that are to change.

    Raises:
        InvalidError: a field is unknown or does not fit, or there is none.
    """
    faults: list[Fault] = []
    options = _options(_object(value, tuple(DEFAULTS), faults), faults)
    if not options and not faults:
        faults.append(Fault("", "empty", f"names no field; known: {', '.join(DEFAULTS)}"))
    if faults:
        raise _invalid(faults)
    return options


def decode_choice(value: Any) -> Choice:
    """Read which namespaces a verb is about; nothing at all is all of them.

    Raises:
        InvalidError: a field is unknown or does not fit.
    """
    faults: list[Fault] = []
    fields = _object(value, ("workspace", "namespaces", "judged"), faults)
    workspace = _checked(fields, "workspace", _text, faults)
    namespaces = _names(fields, "namespaces", faults)
    judged = _judged(fields.get("judged"), faults)
    if faults:
        raise _invalid(faults)
    return Choice(workspace, namespaces, judged)


def _object(value: Any, known: tuple[str, ...], faults: list[Fault]) -> dict[str, Any]:
    if not isinstance(value, dict):
        faults.append(Fault("", "wrong_type", "must be an object"))
        return {}
    faults += (
        Fault(f"/{ascii(name)[1:-1][:40]}", "unknown_field", f"known: {', '.join(known)}")
        for name in value
        if name not in known
    )
    return value


def _target(value: Any, faults: list[Fault]) -> SpaceSpec | None:
    if not isinstance(value, str):
        faults.append(Fault("/to", "missing", "must name a space, such as voyage:voyage-4@1024"))
        return None
    try:
        return parse_embedding(value)
    except UsageError as error:
        faults.append(Fault("/to", error.code, f"{error.detail} {error.cure}"))
        return None


def _options(fields: dict[str, Any], faults: list[Fault]) -> dict[str, Any]:
    found = {name: _checked(fields, name, check, faults) for name, check in _CHECKS.items()}
    return {name: value for name, value in found.items() if value is not None}


def _checked(
    fields: dict[str, Any], name: str, check: Callable[[Any], Any], faults: list[Fault]
) -> Any:
    if fields.get(name) is None:
        return None
    try:
        return check(fields[name])
    except FieldError as error:
        faults.append(Fault(f"/{name}", error.code, str(error)))
        return None


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise FieldError("wrong_type", "must be a JSON boolean")
    return value


def _text(value: Any) -> str:
    checked = _name(value)
    if checked is None:
        raise FieldError("wrong_type", "must be a text")
    return checked


def _order(value: Any) -> str:
    if value not in ORDERS:
        raise FieldError("unknown_value", f"must be one of {', '.join(ORDERS)}")
    return str(value)


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FieldError("wrong_type", "must be a number")
    if not MIN_SHARE <= value <= 1:
        raise FieldError("out_of_range", f"must be from {MIN_SHARE:g} to 1")
    return float(value)


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise FieldError("wrong_type", "must be a whole number")
        if not low <= value <= high:
            raise FieldError("out_of_range", f"must be from {low} to {high}")
        return value

    return check


_CHECKS: Final[dict[str, Callable[[Any], Any]]] = {
    "order": _order,
    "share": _share,
    "sample": _whole(1, MAX_SAMPLE),
    "queries": _whole(0, MAX_QUERIES),
    "adapter": _flag,
}


def _names(fields: dict[str, Any], name: str, faults: list[Fault]) -> tuple[str, ...] | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_LISTED:
        faults.append(Fault(f"/{name}", "wrong_type", f"must list 1 to {MAX_LISTED} names"))
        return None
    checked = []
    for index, one in enumerate(value):
        try:
            checked.append(_text(one))
        except FieldError as error:
            faults.append(Fault(f"/{name}/{index}", error.code, str(error)))
    return tuple(dict.fromkeys(checked))


def _judged(value: Any, faults: list[Fault]) -> tuple[dict[str, Any], ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_QUERIES:
        faults.append(Fault("/judged", "wrong_type", f"must list 1 to {MAX_QUERIES} queries"))
        return None
    for index, one in enumerate(value):
        if not _is_judged(one):
            detail = 'must be {"query": text, "namespace": text or null, "relevant": [ids]}'
            faults.append(Fault(f"/judged/{index}", "wrong_type", detail))
    return tuple(value)


def _is_judged(one: Any) -> bool:
    return (
        isinstance(one, dict)
        and set(one) <= {"query", "namespace", "relevant"}
        and isinstance(one.get("query"), str)
        and isinstance(one.get("namespace"), str | None)
        and isinstance(one.get("relevant"), list)
        and all(isinstance(memory, str) for memory in one["relevant"])
    )


def _invalid(faults: list[Fault]) -> InvalidError:
    return InvalidError(
        "invalid_migration",
        "The migration cannot be read.",
        cure="docs/migrating.md shows what it takes.",
        faults=tuple(faults),
    )
