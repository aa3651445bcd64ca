"""docs/scaling.md adds up: its sizes follow from its figures, and those are what bench measures."""

import re

import pytest

from engram.domain.budget import quota_of
from tests.meta.checkout import text
from tests.support.capacity_page import (
    PAGE,
    PARTS,
    Unit,
    contradictions,
    differences,
    number,
    projections,
    units,
)

SCALE = text(PAGE)
UNITS = units(SCALE)


def test_each_size_is_its_figures_times_the_memories():
    assert [count for count, _ in projections(SCALE)] == [1e6, 1e8, 1e10]
    assert contradictions(SCALE, PARTS) == []


def test_the_time_at_a_provider_follows_from_its_quota():
    quota = quota_of("voyage", "voyage-4")
    assert quota is not None
    per_min = quota.tokens * 60 / quota.window_s
    told = re.search(r"([0-9]+) tokens each.*?([0-9]+)M tokens a minute", SCALE, re.DOTALL)
    assert told
    assert float(told[2]) * 1e6 == pytest.approx(per_min)


def test_a_wrong_size_and_a_wrong_figure_are_told():
    figure = "memory, table"
    wrong = re.sub(r"(\| `memory, table` \| )[0-9,]+", r"\g<1>9,999", SCALE)
    assert contradictions(wrong, PARTS)
    right = {name: unit.value for name, unit in UNITS.items()}
    assert differences(SCALE, right) == []
    assert "memory, table" in differences(SCALE, {**right, figure: 9_999.0})[0]
    assert differences(SCALE, {n: v for n, v in right.items() if n != figure}) == [
        f"{figure}: not measured"
    ]


def test_sizes_and_tolerances_are_read_as_they_are_written():
    assert number("1.5 TB") == 1.5e12
    unit = Unit("x", 100.0, "bytes", 1.25)
    assert unit.agrees(80.0)
    assert unit.agrees(125.0)
    assert not unit.agrees(79.0)
    assert not unit.agrees(126.0)
