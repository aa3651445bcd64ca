"""``engram bench NAME``: each benchmark runs by itself, small here, and prints its figures."""

import json

import pytest

from engram.domain.budget import Quota
from engram_cli.bench import (
    e2e,
    freshness,
    import_beside,
    imports,
    lanes,
    migrate,
    provider,
    rss,
    search,
)
from engram_cli.bench.migrate_planted import Planted
from engram_cli.main import run

FIELDS = ["bench", "figure", "value", "unit", "floor", "ratio", "target", "met", "params"]


def figures(capsys, name: str) -> dict[str, dict[str, object]]:
    """Run a benchmark as a user does; its figures by name."""
    assert run(["bench", name, "--quick", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(line) for line in lines] == [FIELDS] * len(lines)
    assert {line["bench"] for line in lines} == {name}
    found = {line["figure"]: line for line in lines}
    assert found["stored data is right"]["met"] is True
    return found


def test_e2e_compares_an_import_with_plain_inserts(capsys, monkeypatch):
    monkeypatch.setattr(e2e, "_QUICK_COUNT", 1_000)
    found = figures(capsys, "e2e")
    rate = found["import to committed vectors"]
    assert rate["ratio"] == pytest.approx(rate["value"] / rate["floor"], abs=1e-3)
    assert (rate["target"], rate["met"]) == (0.4, rate["ratio"] >= 0.4)
    assert set(rate["params"]["floor_by_connections"]) == {"1", "2", "4"}
    assert found["stored data is right"]["value"] == 2_000  # with those of the warm-up
    assert found["cpu of postgres"]["value"] > 0


def test_freshness_is_the_time_until_a_search_finds_it(capsys, monkeypatch):
    monkeypatch.setattr(freshness, "_QUICK_COUNT", 5)
    found = figures(capsys, "freshness")
    stages = ("stored", "committed vector", "found")
    p50 = [found[f"request to {stage}, p50"]["value"] for stage in stages]
    assert p50 == sorted(p50)
    assert found["request to found, p50"]["params"]["provider_ms"] > 0


def test_search_asks_by_http_and_compares_with_an_exact_scan(capsys, monkeypatch):
    monkeypatch.setattr(search, "_QUICK_SIZES", (10, 400))
    found = figures(capsys, "search")
    for size in ("10", "400"):
        recalled = found[f"recall@10 of {size}"]
        assert (recalled["value"], recalled["target"], recalled["met"]) == (1.0, 1.0, True)
        assert recalled["params"]["route"] == "exact"
        assert found[f"p95 of {size}"]["value"] >= found[f"p50 of {size}"]["value"] > 0


def test_rss_compares_the_peaks_of_two_imports(capsys, monkeypatch):
    monkeypatch.setattr(rss, "_QUICK_SIZES_MB", (1, 2))
    found = figures(capsys, "rss")
    small, large = found["peak of importing 1 MB"], found["peak of importing 2 MB"]
    assert small["value"] > 20  # an interpreter with the client in it
    assert large["ratio"] == pytest.approx(large["value"] / small["value"], abs=1e-3)
    assert found["peak of ingest, importing 2 MB"]["value"] > 20
    assert found["peak of parsing 2 MB"]["value"] > 15


def test_import_compares_storing_with_plain_inserts_and_shows_what_parsing_costs(
    capsys, monkeypatch
):
    monkeypatch.setattr(imports, "_QUICK_COUNT", 2_400)
    monkeypatch.setattr(imports, "_WARM_UP", 600)
    monkeypatch.setattr(imports, "_PARSED", 200)
    monkeypatch.setattr(imports, "_QUICK_BESIDE", (1_200, 1.0))
    monkeypatch.setattr(import_beside, "_WARM_UP_S", 0.2)
    found = figures(capsys, "import")
    stored = found["a job of native NDJSON, stored"]
    assert stored["ratio"] == pytest.approx(stored["value"] / stored["floor"], abs=1e-2)
    assert (stored["target"], stored["params"]["memories"]) == (0.4, 1_800)
    parsed = [figure for name, figure in found.items() if name.startswith("parsing ")]
    assert len(parsed) == 6
    assert all(figure["value"] > 0 for figure in parsed)
    assert found["stored data is right"]["value"] == 3_000
    for what in ("writes", "searches"):
        p95 = found[f"{what} beside an import, p95"]
        assert p95["ratio"] == pytest.approx(p95["value"] / p95["floor"], abs=1e-2)
        assert (p95["target"], p95["params"]["memories"]) == (2.0, 1_200)
        assert p95["params"]["requests"] >= 20


def test_lanes_compares_latencies_with_those_without_a_bulk_run(capsys, monkeypatch):
    monkeypatch.setattr(lanes, "_QUICK", (300, 1.0))
    monkeypatch.setattr(lanes, "_WARM_UP_S", 0.2)
    found = figures(capsys, "lanes")
    for what in ("writes", "searches"):
        p95 = found[f"{what}, p95"]
        assert p95["ratio"] == pytest.approx(p95["value"] / p95["floor"], abs=1e-2)
        assert p95["params"]["requests"] >= 20
    assert found["bulk"]["value"] > 0
    assert found["stored data is right"]["value"] == 300


def test_provider_keeps_to_the_limits_and_compares_latencies(capsys, monkeypatch):
    short = Quota(2_000, 500_000, window_s=2.0, grant_s=0.05)
    monkeypatch.setattr(provider, "_QUICK", provider._Scale(short, 2.0, 1, 0.5))
    found = figures(capsys, "provider")
    sustained = found["sustained"]
    assert sustained["floor"] == 250_000
    assert 0.3 < sustained["ratio"] <= 1.5  # how much of it is no matter on a busy machine
    assert found["calls answered 429"]["params"]["calls"] > 0
    assert found["calls during an outage of 600 s"]["met"] is True
    assert found["recovery to full rate"]["met"] is True
    assert found["texts at 50 ms latency"]["ratio"] > 0


def test_an_unknown_argument_is_refused_before_anything_starts(capsys):
    assert run(["bench", "e2e", "--quik"]) == 2
    assert "--quick" in capsys.readouterr().err


def test_migrate_moves_everything_at_the_limits_and_no_read_fails(capsys, monkeypatch):
    monkeypatch.setattr(migrate, "_QUICK", migrate._Scale(Planted(300, 30), 2_000, 900_000, 1.0))
    monkeypatch.setattr(migrate, "_WARM_UP_S", 0.2)
    found = figures(capsys, "migrate")
    total = found["start to complete"]
    assert total["floor"] == pytest.approx(60 * 300 * 150 / 900_000)
    assert total["params"]["reads_per_s"] == total["params"]["writes_per_s"] == 20
    for verb in ("cutover", "rollback"):
        none = found[f"failed or mixed reads, {verb}"]
        assert (none["value"], none["met"]) == (0, True)
    assert found["texts sent to the provider"]["value"] < 1.5
    assert {"search during backfill, p95", "ingest during backfill, p95", "index build"} <= set(
        found
    )
