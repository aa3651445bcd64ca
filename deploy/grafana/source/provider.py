"""The embedding providers: how they answer, what they allow, what they cost."""

from deploy.grafana.source.panels import Board, Query, Row, course, number
from deploy.grafana.source.queries import quantile, rate, stock

_COST = "engram_provider_cost_dollars_total"
_REQUESTS = "engram_provider_request_seconds"

_MONEY = Row(
    "Cost",
    (
        number(
            "Today",
            "US dollars in the last 24 hours, by the price of each model.",
            "currencyUSD",
            Query(f"sum(increase({_COST}[24h]))", "24 h"),
        ),
        number(
            "30 days",
            "US dollars in the last 30 days.",
            "currencyUSD",
            Query(f"sum(increase({_COST}[30d]))", "30 days"),
        ),
        course(
            "Dollars an hour",
            "By space and kind: documents are stored, queries are asked.",
            "currencyUSD",
            Query(f"{rate(_COST, 'space', 'kind')} * 3600", "{{space}} {{kind}}"),
        ),
        course(
            "Tokens",
            "As the provider counted them, a second.",
            "short",
            Query(rate("engram_provider_tokens_total", "space", "kind"), "{{space}} {{kind}}"),
        ),
    ),
)

_ANSWERS = Row(
    "Answers",
    (
        course(
            "Requests by outcome",
            "`rate_limited` are 429s; `auth` means that the key or the plan is refused.",
            "reqps",
            Query(rate(f"{_REQUESTS}_count", "outcome"), "{{outcome}}"),
        ),
        course(
            "Request time",
            "Median and 99th percentile by kind.",
            "s",
            Query(quantile(0.5, _REQUESTS, "kind"), "{{kind}} p50"),
            Query(quantile(0.99, _REQUESTS, "kind"), "{{kind}} p99"),
        ),
        course(
            "429s",
            "Share of requests that were refused because of the rate.",
            "percentunit",
            Query(
                rate(f"{_REQUESTS}_count", "space", of='outcome="rate_limited"')
                + f" / {rate(f'{_REQUESTS}_count', 'space')}",
                "{{space}}",
            ),
            ceiling=1,
        ),
        course(
            "Texts that failed",
            "By class of error.",
            "ops",
            Query(rate("engram_embedding_failures_total", "class"), "{{class}}"),
        ),
        course(
            "Vectors for a request",
            "How well texts are packed: mean number of vectors committed for each request.",
            "short",
            Query(
                f"{rate('engram_embedded_vectors_total', 'space')} / "
                + rate(f"{_REQUESTS}_count", "space", of='kind="document",outcome="ok"'),
                "{{space}}",
            ),
        ),
    ),
)

_LIMITS = Row(
    "Limits",
    (
        course(
            "Breaker",
            "0 calls pass, 0.5 a probe is under way, 1 the provider is taken for down.",
            "none",
            Query(stock("engram_provider_breaker", "provider", "model"), "{{provider}} {{model}}"),
            ceiling=1,
        ),
        course(
            "Lanes paused",
            "1 while a lane waits because the provider refuses or fails everything.",
            "none",
            Query(stock("engram_lane_paused", "space"), "{{space}}"),
            ceiling=1,
        ),
        course(
            "Share of the rate in use",
            "1 is the whole quota. A 429 halves it; it comes back by itself.",
            "percentunit",
            Query(
                "min by (provider, model) (engram_provider_budget_share)", "{{provider}} {{model}}"
            ),
            ceiling=1,
        ),
        course(
            "Wait for the budget, 95th percentile",
            "By kind. Long waits of queries mean that the quota is too small.",
            "s",
            Query(quantile(0.95, "engram_provider_budget_wait_seconds", "kind"), "{{kind}}"),
        ),
        course(
            "Calls in flight at most",
            "As each embedder has adapted it.",
            "short",
            Query(
                "sum by (provider, model) (engram_provider_window_calls)", "{{provider}} {{model}}"
            ),
        ),
    ),
)

BOARD = Board(
    "provider",
    "engram: provider and cost",
    "How the embedding providers answer, what they allow and what they cost.",
    (_MONEY, _ANSWERS, _LIMITS),
)
