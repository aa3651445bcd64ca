"""What a PromQL expression names: metrics, labels they are asked for, labels it groups by."""

import re

# Grafana's own variables, as a query of a test has them.
_VARIABLES = {"$__rate_interval": "10s"}
_WORDS = frozenset({"group_left", "group_right"})
_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\})?")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SUFFIX = re.compile(r"_(?:bucket|sum|count|total)$")


def plain(expr: str) -> str:
    """Return an expression of a dashboard as Prometheus takes it."""
    for name, value in _VARIABLES.items():
        expr = expr.replace(name, value)
    return expr


def selectors(expr: str) -> dict[str, set[str]]:
    """Return the labels that each metric is asked for, by the metric's name."""
    found: dict[str, set[str]] = {}
    bare = _GROUPING.sub(" ", re.sub(r"\[[^\]]*\]", "", expr))
    # Names of labels that label_replace writes and reads are strings outside of braces.
    bare = re.sub(r'"[^"]*"(?=\s*[,)])', '""', bare)
    for name, braces in _SELECTOR.findall(bare):
        if "_" in name and name not in _WORDS and not _is_function(name, bare):
            asked = re.findall(r"(\w+)\s*[=!]", re.sub(r'"[^"]*"', '""', braces))
            found.setdefault(name, set()).update(asked)
    return found


def _is_function(name: str, expr: str) -> bool:
    return re.search(rf"\b{name}\s*\(", expr) is not None


def grouped(expr: str) -> set[str]:
    """Return the labels an expression groups or joins by."""
    return {
        label.strip() for labels in _GROUPING.findall(expr) for label in labels.split(",") if label
    }


def family(name: str) -> str:
    """Return the name of the family that a sample belongs to, as prometheus_client has it."""
    return _SUFFIX.sub("", name)
