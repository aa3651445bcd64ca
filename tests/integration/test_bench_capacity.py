"""The bytes a memory takes are those that docs/scaling.md reckons with, measured small here."""

import json

from engram_cli.bench import capacity
from engram_cli.main import run
from tests.meta.checkout import text
from tests.support.capacity_page import PAGE, units

# CPU and sweeps tell nothing when so little is measured; an HNSW index is not built for so few.
BYTES = (
    "memory, table",
    "memory, indexes",
    "vector of 1,024 numbers, table",
    "vector of 1,024 numbers, keys",
    "write-ahead log, imported",
)


def test_the_bytes_of_a_memory_are_those_of_the_page(capsys, monkeypatch):
    monkeypatch.setattr(capacity, "_QUICK_COUNT", 2_000)
    monkeypatch.setattr(capacity, "_QUICK_SINGLES", 40)
    assert run(["bench", "capacity", "--quick", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    measured = {line["figure"]: line["value"] for line in lines}
    known = units(text(PAGE))
    wrong = {name: measured[name] for name in BYTES if not known[name].agrees(measured[name])}
    assert wrong == {}
    assert {name for name in known if "hnsw" not in name} <= set(measured)
    assert measured["cpu of all, imported"] > 0
    assert measured["streams, written alone"] > measured["streams, imported"]
