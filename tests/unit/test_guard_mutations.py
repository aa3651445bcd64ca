"""The gate: of thousands of generated changes of fact not one is merged."""

from functools import cache
from pathlib import Path

import pytest

from engram.domain.guard import examine
from tests.support.mutations import mutations

BASES = Path(__file__).parents[1] / "data" / "guard-bases.txt"
SLICES = 8
LEAST_CHANGES = 5_000


@cache
def _sentences() -> tuple[str, ...]:
    return tuple(line for line in BASES.read_text("utf-8").splitlines() if line)


@pytest.mark.parametrize("part", range(SLICES))
def test_no_change_of_fact_is_merged(part: int) -> None:
    merged = [
        (kind, text, changed)
        for text in _sentences()[part::SLICES]
        for kind, changed in mutations(text)
        if examine(text, changed).proves
    ]
    assert merged == []


def test_the_gate_tries_more_than_five_thousand_changes() -> None:
    assert sum(1 for text in _sentences() for _ in mutations(text)) >= LEAST_CHANGES
