"""How texts are packed into provider calls, and how many tokens a text is guessed to have."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

T = TypeVar("T")

# Tokens per unit (see estimate_tokens) of English prose with a common subword tokenizer, plus room.
DEFAULT_RATIO: Final = 0.3
MIN_RATIO: Final = 0.05
MAX_RATIO: Final = 4.0


def pack(
    items: Sequence[T],
    tokens: Callable[[T], int] | Sequence[int],
    max_inputs: int,
    max_tokens: int,
) -> list[list[int]]:
    """Cut items into batches that respect both limits.

    Order is kept, so batches are consecutive runs of indexes; no batch is empty; an item above
    ``max_tokens`` stands alone, so that the provider's refusal hits nobody else.

    Args:
        items: what is to be packed.
        tokens: tokens of each item, or a function of an item; counts below 0 are taken as 0.
        max_inputs: most items in a batch, at least 1.
        max_tokens: most tokens in a batch, at least 1.

    Raises:
        ValueError: a limit below 1, or not one token count per item.
    """
    if max_inputs < 1 or max_tokens < 1:
        raise ValueError("max_inputs and max_tokens must be at least 1")
    counts = [tokens(item) for item in items] if callable(tokens) else tokens
    if len(counts) != len(items):
        raise ValueError("one token count per item is needed")
    batches: list[list[int]] = []
    used = 0
    for index, raw in enumerate(counts):
        count = max(raw, 0)
        if not batches or used + count > max_tokens or len(batches[-1]) >= max_inputs:
            batches.append([])
            used = 0
        batches[-1].append(index)
        used += count
    return batches


def cut(text: str, max_chars: int) -> list[str]:
    """Cut a text into parts of at most ``max_chars`` characters that join to the text again.

    Cuts fall after white space where there is some in the last quarter of a part; a text that fits
    is its own only part, the empty one too.

    Raises:
        ValueError: ``max_chars`` below 1.
    """
    if max_chars < 1:
        raise ValueError("max_chars must be at least 1")
    parts = []
    start = 0
    while len(text) - start > max_chars:
        end = start + max_chars
        earliest = end - max_chars // 4
        spaces = (at for at in range(end, earliest - 1, -1) if text[at - 1].isspace())
        end = next(spaces, end)
        parts.append(text[start:end])
        start = end
    return [*parts, text[start:]]


def estimate_tokens(text: str, ratio: float = DEFAULT_RATIO) -> int:
    """Guess the tokens of a text, at least 1; never a promise (see ``learn_ratio``).

    A text has one unit a character and two more for every UTF-8 byte above one, so a Cyrillic
    letter weighs 3 and a Chinese one 5: subword vocabularies spend about that many more tokens
    there. Counted in C, so it costs under a microsecond for a short text.

    Args:
        text: what will be embedded.
        ratio: tokens per unit.
    """
    units = len(text)
    if not text.isascii():
        units += 2 * (len(text.encode("utf-8", "surrogatepass")) - units)
    return max(1, math.ceil(units * ratio))


def learn_ratio(
    old: float, estimated: int, actual: int | None, *, made_with: float | None = None
) -> float:
    """Move the ratio towards what the provider counted.

    Underestimates are corrected faster than overestimates, because only they get a batch refused.

    Args:
        old: the ratio as it is now.
        estimated: sum of the estimates of one call, in tokens.
        actual: the provider's ``total_tokens`` of that call; None when it told none.
        made_with: the ratio that made the estimate, None when it is ``old``. Calls in flight
            together are answered after one another: what each of them teaches is where the ratio
            should be, not by how much to move it once more.

    Returns:
        A ratio from ``MIN_RATIO`` to ``MAX_RATIO``; ``old`` when the call teaches nothing.
    """
    if actual is None or actual <= 0 or estimated <= 0:
        return old
    target = (old if made_with is None else made_with) * actual / estimated
    weight = 0.5 if target > old else 0.1
    return min(MAX_RATIO, max(MIN_RATIO, old + weight * (target - old)))
