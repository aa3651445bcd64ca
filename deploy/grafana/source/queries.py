"""PromQL that several dashboards share."""

from engram.metrics import FRESH_S

# The promise: this share of memories has its vector within FRESH_S of the event. What is spilled or
# imported in bulk waits for its turn by design and is not part of it.
OBJECTIVE = 0.99
PROMISED = 'lane=~"live|retry"'
_BUCKET = f'engram_freshness_seconds_bucket{{{PROMISED},le="{float(FRESH_S)}"}}'
_COUNT = f"engram_freshness_seconds_count{{{PROMISED}}}"


def rate(metric: str, *by: str, of: str = "") -> str:
    """Return the increase of a counter a second, added up over all but some labels."""
    selector = f"{metric}{{{of}}}" if of else metric
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"sum{grouped} (rate({selector}[$__rate_interval]))"


def quantile(q: float, metric: str, *by: str, of: str = "") -> str:
    """Return a quantile of a histogram."""
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', 'le', *by, of=of)})"


def stock(metric: str, *by: str) -> str:
    """Return a gauge that one exporter shows, whichever process that is at the moment."""
    grouped = f" by ({', '.join(by)})" if by else ""
    return f"max{grouped} ({metric})"


def fresh_share(window: str) -> str:
    """Return the share of memories that kept the promise within a window."""
    return f"sum(increase({_BUCKET}[{window}])) / sum(increase({_COUNT}[{window}]))"


def burn(window: str) -> str:
    """Return how many times faster than allowed the error budget is used up."""
    return f"(1 - {fresh_share(window)}) / {round(1 - OBJECTIVE, 6)}"


def budget_left(window: str) -> str:
    """Return the share of the error budget that is left."""
    return f"1 - {burn(window)}"
