"""The filter language of search and lists, turned into one bound SQL condition.

``{"AND"|"OR"|"NOT": […]}`` over owner ids, metadata paths, categories and times. A value alone
means equality; an object names operators. Nothing a sender writes ever becomes SQL text: columns
come from a table, everything else is a bound argument.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from engram.domain.fields import FieldError, check_metadata, check_time
from engram.errors import Fault, InvalidError

MAX_CONDITIONS = 100
MAX_DEPTH = 8

_TEXT = {
    name: f"m.{name}"
    for name in (
        "user_id",
        "agent_id",
        "session_id",
        "app_id",
        "namespace",
        "source",
        "external_id",
    )
}
_TEXT["run_id"] = _TEXT["session_id"]
_TIMES = {
    name: f"m.{name}"
    for name in ("created_at", "updated_at", "expires_at", "valid_until", "last_accessed_at")
}
_COMPARE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_TEXT_OPERATORS = {
    "eq": "{column} = {text}",
    "ne": "{column} IS DISTINCT FROM {text}",
    "contains": "strpos({column}, {text}) > 0",
    "icontains": "strpos(lower({column}), lower({text})) > 0",
    **{name: f'{{column}} {sign} {{text}} COLLATE "C"' for name, sign in _COMPARE.items()},
}
_NUMBER_ARGUMENT = re.compile(r"\$\?(\d+)\?")


@dataclass(frozen=True, slots=True)
class Condition:
    """A SQL condition over ``engram.memory m`` and the arguments it is bound to.

    Attributes:
        template: SQL with ``$?0?``, ``$?1?`` … where arguments go; empty when there is none.
    """

    template: str = ""
    arguments: list[Any] = field(default_factory=list)

    def numbered_from(self, first: int) -> str:
        """Return the SQL with its arguments numbered from ``$first``."""
        return _NUMBER_ARGUMENT.sub(lambda m: f"${first + int(m[1])}", self.template)


def decode_filters(value: Any, *, pointer: str = "/filters") -> Condition:
    """Check a filter and return its condition; null or ``{}`` is no condition.

    Raises:
        InvalidError: unknown field or operator, wrong type, too many or too deeply nested parts.
    """
    if value is None or value == {}:
        return Condition()
    reader = _Reader()
    sql = reader.group(value, pointer, 1)
    return Condition(sql, reader.arguments)


class _Reader:
    def __init__(self) -> None:
        self.arguments: list[Any] = []
        self._conditions = 0

    def group(self, value: Any, pointer: str, depth: int) -> str:
        if not isinstance(value, dict) or not value:
            raise _fault(pointer, "wrong_type", "must be an object that names a field")
        if depth > MAX_DEPTH:
            raise _fault(pointer, "too_deep", f"nests deeper than {MAX_DEPTH} levels")
        parts = [
            self._part(name, item, f"{pointer}/{_shown(name)}", depth)
            for name, item in value.items()
        ]
        return f"({' AND '.join(parts)})"

    def _part(self, name: str, value: Any, pointer: str, depth: int) -> str:
        if name in ("AND", "OR", "NOT"):
            return self._combined(name, value, pointer, depth)
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise _fault(pointer, "too_many", f"holds more than {MAX_CONDITIONS} conditions")
        operators = value if isinstance(value, dict) else {"eq": value}
        if not operators:
            raise _fault(pointer, "empty", "names no operator")
        return self._field(name, operators, pointer)

    def _combined(self, name: str, value: Any, pointer: str, depth: int) -> str:
        entries = [value] if isinstance(value, dict) else value
        if not isinstance(entries, list) or not entries:
            raise _fault(pointer, "wrong_type", "must be a list of filters")
        parts = [self.group(e, f"{pointer}/{i}", depth + 1) for i, e in enumerate(entries)]
        if name == "NOT":
            # Unknown counts as not matching, so that its negation matches.
            return "(" + " AND ".join(f"NOT coalesce({part}, false)" for part in parts) + ")"
        return "(" + f" {name} ".join(parts) + ")"

    def _field(self, name: str, operators: Mapping[str, Any], pointer: str) -> str:
        build = self._builder(name, pointer)
        parts = []
        for operator, operand in operators.items():
            try:
                parts.append(build(operator, operand))
            except FieldError as error:
                raise _fault(f"{pointer}/{_shown(operator)}", error.code, str(error)) from None
        return f"({' AND '.join(parts)})"

    def _builder(self, name: str, pointer: str) -> Callable[[str, Any], str]:
        if name in _TEXT:
            return lambda operator, operand: self._text(_TEXT[name], operator, operand)
        if name in _TIMES:
            return lambda operator, operand: self._time(_TIMES[name], operator, operand)
        if name == "categories":
            return self._categories
        if name == "metadata" or name.startswith("metadata."):
            path = name.split(".")[1:]
            return lambda operator, operand: self._metadata(path, operator, operand)
        known = ", ".join((*_TEXT, *_TIMES, "categories", "metadata.<path>"))
        raise _fault(pointer, "unknown_field", f"is no field to filter by; known: {known}")

    def _bind(self, value: Any) -> str:
        self.arguments.append(value)
        return f"$?{len(self.arguments) - 1}?"

    def _text(self, column: str, operator: str, operand: Any) -> str:
        if operator == "in":
            return f"{column} = ANY ({self._bind(_texts(operand))}::text[])"
        if operand is None and operator in ("eq", "ne"):
            return f"{column} IS {'NOT ' if operator == 'ne' else ''}NULL"
        if operand == "*" and operator == "eq":
            return f"{column} IS NOT NULL"
        template = _TEXT_OPERATORS.get(operator)
        if template is None:
            raise _unknown_operator()
        return template.format(column=column, text=f"{self._bind(_text(operand))}::text")

    def _time(self, column: str, operator: str, operand: Any) -> str:
        if operand is None and operator in ("eq", "ne"):
            return f"{column} IS {'NOT ' if operator == 'ne' else ''}NULL"
        if operator == "in":
            times = [_time(entry) for entry in _list(operand)]
            return f"{column} = ANY ({self._bind(times)}::timestamptz[])"
        sign = {**_COMPARE, "eq": "=", "ne": "IS DISTINCT FROM"}.get(operator)
        if sign is None:
            raise _unknown_operator()
        return f"{column} {sign} {self._bind(_time(operand))}::timestamptz"

    def _categories(self, operator: str, operand: Any) -> str:
        if operator in ("eq", "contains"):
            return f"{self._bind(_text(operand))}::text = ANY (m.categories)"
        if operator == "ne":
            return f"NOT ({self._bind(_text(operand))}::text = ANY (m.categories))"
        if operator == "in":
            return f"m.categories && {self._bind(_texts(operand))}::text[]"
        raise _unknown_operator()

    def _metadata(self, path: list[str], operator: str, operand: Any) -> str:
        _refuse_unstorable(operand)
        at = f"(m.metadata #> {self._bind([_text(key) for key in path])}::text[])"
        if operator in ("eq", "ne", "in"):
            # The driver sends None as SQL's NULL, and reads a list of lists as a matrix: both
            # are put into one JSON array. A key that is absent is null.
            wanted = self._bind(_list(operand) if operator == "in" else [operand])
            found = f"coalesce({at}, 'null') IN (SELECT jsonb_array_elements({wanted}::jsonb))"
            return f"NOT {found}" if operator == "ne" else found
        if operator == "contains" and not isinstance(operand, str):
            if operand is None:
                raise FieldError("wrong_type", "must not be null")
            return f"{at} @> {self._bind(operand)}::jsonb"
        if operator in ("contains", "icontains"):
            return self._metadata_text(at, operator, _text(operand))
        if operator in _COMPARE:
            return self._metadata_order(at, _COMPARE[operator], operand)
        raise _unknown_operator()

    def _metadata_text(self, at: str, operator: str, text: str) -> str:
        value, wanted = f"({at} #>> '{{}}')", f"{self._bind(text)}::text"
        if operator == "icontains":
            value, wanted = f"lower({value})", f"lower({wanted})"
        # A list contains its entries, a string its parts.
        return (
            f"(CASE jsonb_typeof({at}) WHEN 'array' THEN {at} ? {self._bind(text)}::text "
            f"ELSE strpos({value}, {wanted}) > 0 END)"
        )

    def _metadata_order(self, at: str, sign: str, operand: Any) -> str:
        if isinstance(operand, bool) or not isinstance(operand, int | float | str):
            raise FieldError("wrong_type", "must be a number or a string")
        kind = "string" if isinstance(operand, str) else "number"
        # jsonb orders numbers as numbers and strings as text; across kinds nothing matches.
        return f"(jsonb_typeof({at}) = '{kind}' AND {at} {sign} {self._bind(operand)}::jsonb)"


def _text(operand: Any) -> str:
    if not isinstance(operand, str):
        raise FieldError("wrong_type", "must be a string")
    _refuse_unstorable(operand)
    return operand


def _time(operand: Any) -> datetime:
    instant = check_time(operand)
    if instant is None:
        raise FieldError("wrong_type", "must be a time, not null")
    return instant


def _refuse_unstorable(value: Any) -> None:
    """Refuse what neither ``text`` nor ``jsonb`` can hold: NUL, lone surrogates, NaN, depth."""
    check_metadata({"": value})
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, int) and not -(1 << 63) <= node < 1 << 64:
            raise FieldError("number_too_large", "holds an integer beyond 64 bits")


def _list(operand: Any) -> list[Any]:
    if not isinstance(operand, list) or len(operand) > 1000:
        raise FieldError("wrong_type", "must be a list of at most 1,000 values")
    return operand


def _texts(operand: Any) -> list[str]:
    return [_text(entry) for entry in _list(operand)]


def _unknown_operator() -> FieldError:
    return FieldError(
        "unknown_operator",
        "is no operator here; known: eq, ne, in, gt, gte, lt, lte, contains, icontains",
    )


def _shown(name: str) -> str:
    return ascii(name)[1:-1][:40].replace("~", "~0").replace("/", "~1")


def _fault(pointer: str, code: str, detail: str) -> InvalidError:
    return InvalidError(
        "invalid_filter",
        f"The filter at {pointer} {detail}.",
        cure="See docs/search.md for the filter language.",
        faults=(Fault(pointer, code, detail),),
    )
