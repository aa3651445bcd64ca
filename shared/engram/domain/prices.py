"""What embedding costs: documented list prices, in US dollars for a million tokens."""

from __future__ import annotations

from typing import Final

# List prices without free tokens and batch discounts; sources: docs.voyageai.com/docs/pricing and
# developers.openai.com/api/docs/pricing, as of 2026. What runs on this machine costs nothing here.
_USD_PER_MILLION: Final = {
    ("voyage", "voyage-4-large"): 0.12,
    ("voyage", "voyage-4"): 0.06,
    ("voyage", "voyage-4-lite"): 0.02,
    ("voyage", "voyage-3-large"): 0.18,
    ("voyage", "voyage-3.5"): 0.06,
    ("voyage", "voyage-3.5-lite"): 0.02,
    ("voyage", "voyage-code-3"): 0.18,
    ("openai", "text-embedding-3-small"): 0.02,
    ("openai", "text-embedding-3-large"): 0.13,
    ("openai", "text-embedding-ada-002"): 0.10,
}
_FREE: Final = frozenset({"minilm", "hashing", "null"})


def price_of(provider: str, model: str, paid: float | None = None) -> float | None:
    """Return the price of one token in US dollars, None where it is not known.

    Args:
        provider: as in a space.
        model: as in a space.
        paid: dollars for a million tokens that a person says are paid, instead of the list price.
    """
    if provider in _FREE:
        return 0.0
    price = paid if paid is not None else _USD_PER_MILLION.get((provider, model))
    return None if price is None else price / 1e6
