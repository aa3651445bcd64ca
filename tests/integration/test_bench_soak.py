"""Scorecard R28 in short: under a steady load nothing is lost and nothing grows without bound."""

import json

import pytest

from engram.errors import UsageError
from engram_cli.bench import soak
from engram_cli.bench.growth import rss_mb, slope_mb_per_min
from engram_cli.main import run


def test_a_short_soak_loses_nothing_and_leaves_nothing_waiting(capsys, monkeypatch):
    monkeypatch.setattr(soak, "_QUICK_MINUTES", 0.1)
    assert run(["bench", "soak", "--quick", "--json"]) == 0
    found = {line["figure"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert found["stored data is right"]["met"] is True
    assert found["stored data is right"]["value"] == 600
    # What a relay publishes at once, and a second of what may come before it looks again.
    assert found["outbox, most lines"]["value"] <= 600
    assert found["outbox, lines at the end"]["value"] <= 100
    for service in ("ingest", "embedder", "curator"):
        assert found[f"memory of {service}, growth"]["params"]["last_mb"] < 600
    # Too short to judge times or a slope by.
    assert {line["target"] for line in found.values()} == {None}


@pytest.mark.parametrize(
    ("arguments", "minutes"), [([], 30.0), (["--minutes", "2.5"], 2.5), (["--quick"], 0.25)]
)
def test_a_soak_lasts_as_long_as_one_says(arguments, minutes):
    assert soak._minutes(arguments) == minutes


@pytest.mark.parametrize("arguments", [["--minutes", "0"], ["--minutes", "x"], ["--hours", "1"]])
def test_other_arguments_are_refused(arguments):
    with pytest.raises(UsageError):
        soak._minutes(arguments)


def test_a_leak_of_two_megabytes_a_minute_is_seen_and_a_warm_up_is_not():
    leaking = [(float(second), 100.0 + 2 * second / 60) for second in range(0, 600, 5)]
    assert slope_mb_per_min(leaking) == pytest.approx(2.0)
    warming = [(float(s), min(100.0, 50.0 + s)) for s in range(0, 600, 5)]
    assert slope_mb_per_min(warming) == pytest.approx(0.0, abs=1e-9)
    assert slope_mb_per_min([(0.0, 1.0)]) == 0.0
    assert rss_mb([2**22 + 1]) == 0.0
