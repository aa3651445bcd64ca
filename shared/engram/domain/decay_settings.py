"""Which policy a namespace fades by: its own rule, those of prefixes, the workspace's, defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from engram.domain.decay import DEFAULT, Policy
from engram.domain.fields import FieldError, type_of_json
from engram.domain.memory import invalid
from engram.errors import Fault

MAX_DAYS: Final = 36_500.0
MIN_HALF_LIFE_DAYS: Final = 0.001
MIN_FLOOR: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Override:
    """What settings say of a policy; None leaves it to what is less specific."""

    half_life_days: float | None = None
    floor: float | None = None
    grace_days: float | None = None
    enabled: bool | None = None

    def changed(self, changes: Mapping[str, float | bool | None]) -> Override:
        """Return this with some fields set, or with None cleared."""
        return Override(**{name: changes.get(name, getattr(self, name)) for name in NAMES})

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return all(getattr(self, name) is None for name in NAMES)


NAMES: Final = tuple(field.name for field in fields(Override))


@dataclass(frozen=True, slots=True)
class Rule:
    """Settings of the namespaces of one name, or of all whose names begin with it.

    The workspace's own settings are the rule of the empty prefix.
    """

    namespace: str
    is_prefix: bool
    override: Override


class Rules:
    """The rules of one workspace.

    Field by field, the exact name comes first, then prefixes from the longest to the empty one,
    then the defaults.
    """

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        listed = list(rules)
        self._exact = {rule.namespace: rule.override for rule in listed if not rule.is_prefix}
        prefixes = (rule for rule in listed if rule.is_prefix)
        self._prefixes = sorted(prefixes, key=lambda rule: -len(rule.namespace))

    def own(self, namespace: str, *, is_prefix: bool) -> Override:
        """Return what is said of exactly this name or prefix."""
        if not is_prefix:
            return self._exact.get(namespace, Override())
        found = (rule.override for rule in self._prefixes if rule.namespace == namespace)
        return next(found, Override())

    def policy(self, namespace: str) -> Policy:
        """Return the policy of a namespace; of a prefix, that of what it does not name further."""
        said = [self._exact[namespace]] if namespace in self._exact else []
        said += [r.override for r in self._prefixes if namespace.startswith(r.namespace)]
        return _first_of_each(said)

    def bound(self) -> Policy:
        """Return a policy by which everything is due that is due by the policy of its namespace.

        It costs one look at a memory to leave out nearly all, before namespaces are told apart.
        """
        said = [*self._exact.values(), *(rule.override for rule in self._prefixes)]
        return Policy(
            half_life_days=min(_values(said, "half_life_days")),
            floor=max(_values(said, "floor")),
            grace_days=min(_values(said, "grace_days")),
            enabled=any(_values(said, "enabled")),
        )


def _values(said: Iterable[Override], name: str) -> list[Any]:
    given = (getattr(override, name) for override in said)
    return [getattr(DEFAULT, name), *(value for value in given if value is not None)]


def _first_of_each(said: Iterable[Override]) -> Policy:
    listed = list(said)
    values: dict[str, Any] = {}
    for name in NAMES:
        given = (getattr(override, name) for override in listed)
        values[name] = next((v for v in given if v is not None), getattr(DEFAULT, name))
    return Policy(**values)


def decode_changes(value: Any) -> dict[str, float | bool | None]:
    """Check the body of a change of settings; null clears a field.

    Raises:
        InvalidError: with a fault for each field that does not fit.
    """
    if not isinstance(value, dict):
        raise invalid([Fault("", "wrong_type", "must be an object")])
    faults = [
        Fault(f"/{ascii(name)[1:-1][:40]}", "unknown_field", f"known: {', '.join(NAMES)}")
        for name in value
        if name not in _CHECKS
    ]
    changes: dict[str, float | bool | None] = {}
    for name, check in _CHECKS.items():
        if name in value:
            try:
                changes[name] = None if value[name] is None else check(value[name])
            except FieldError as error:
                faults.append(Fault(f"/{name}", error.code, str(error)))
    if not value:
        faults.append(Fault("", "empty", f"names no field; known: {', '.join(NAMES)}"))
    if faults:
        raise invalid(faults)
    return changes


def _number(low: float, high: float, *, or_zero: bool = False) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise FieldError("wrong_type", f"must be a number, not {type_of_json[type(value)]}")
        if not (low <= value <= high or (or_zero and value == 0)):
            or_0 = "0 or " if or_zero else ""
            raise FieldError("out_of_range", f"must be {or_0}from {low:g} to {high:g}")
        return float(value)

    return check


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise FieldError("wrong_type", f"must be a boolean, not {type_of_json[type(value)]}")
    return value


_CHECKS: Final[dict[str, Callable[[Any], float | bool]]] = {
    "half_life_days": _number(MIN_HALF_LIFE_DAYS, MAX_DAYS),
    "floor": _number(MIN_FLOOR, 1, or_zero=True),
    "grace_days": _number(0, MAX_DAYS),
    "enabled": _boolean,
}
