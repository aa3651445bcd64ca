"""The part of ``engram bench dedup`` that reads from PostgreSQL prints figures with floors."""

import json

import pytest

from engram_cli.bench.dedup_fetch import measure
from engram_cli.bench.figures import Results


async def test_reading_and_joining_are_measured_together(capsys):
    await measure(Results("dedup", as_json=True), 500, 12)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    full, new, small = found
    assert [line["figure"] for line in found] == [
        "500 read and joined",
        "1 % new of 500, read and joined",
        "12 namespaces of 100 read and joined",
    ]
    assert min(full["params"]["read_s"], full["value"], small["value"]) > 0
    assert new["floor"] == full["value"]
    assert small["floor"] == pytest.approx(small["params"]["read_s"], abs=0.001)
