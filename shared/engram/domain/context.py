"""The block of memories that is put into a model's prompt, within a budget of tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from engram.domain.batching import estimate_tokens

Format = Literal["bullets", "text", "xml"]
FORMATS: Final[tuple[Format, ...]] = ("bullets", "text", "xml")

# Control characters (white space is folded before), and what XML 1.0 section 2.2 does not allow.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"})


@dataclass(frozen=True, slots=True)
class Context:
    """A finished block.

    Attributes:
        text: empty when nothing fits.
        ids: memories in it, in order.
        tokens: estimated tokens of ``text``, never above the budget.
    """

    text: str
    ids: tuple[str, ...]
    tokens: int


def build_context(
    memories: Iterable[tuple[str, str]],
    *,
    max_tokens: int,
    style: Format = "bullets",
    estimate: Callable[[str], int] = estimate_tokens,
) -> Context:
    """Render memories, best first, as long as the whole block stays within the budget.

    One memory is one line: its white space is folded, so that no content can start a line of its
    own, and in ``xml`` everything that is markup is escaped. A memory that does not fit is left
    out; a shorter one after it may still fit.

    Args:
        memories: (id, content), best first.
        max_tokens: of the whole block, frame included.
        style: ``bullets`` (``- …`` lines), ``text`` (bare lines) or ``xml``
            (``<memory id="…">…</memory>`` within ``<memories>``).
        estimate: tokens of a text.
    """
    chosen = Context("", (), 0)
    lines: list[str] = []
    ids: list[str] = []
    for memory_id, content in memories:
        text = _frame([*lines, _line(memory_id, content, style)], style)
        tokens = estimate(text)
        if tokens > max_tokens:
            continue
        lines.append(_line(memory_id, content, style))
        ids.append(memory_id)
        chosen = Context(text, tuple(ids), tokens)
    return chosen


def _line(memory_id: str, content: str, style: Format) -> str:
    flat = _UNPRINTABLE.sub("", " ".join(content.split()))
    if style == "bullets":
        return f"- {flat}"
    if style == "text":
        return flat
    return f'<memory id="{memory_id.translate(_ESCAPES)}">{flat.translate(_ESCAPES)}</memory>'


def _frame(lines: list[str], style: Format) -> str:
    body = "\n".join(lines)
    return f"<memories>\n{body}\n</memories>" if style == "xml" else body
