"""``engram bench dedup`` measures the join, and tells when a pair is missing."""

import json
from unittest.mock import AsyncMock

import numpy as np
import pytest

from engram_cli.bench import dedup, dedup_child
from engram_cli.bench.dedup_child import Task, measure
from engram_cli.bench.dedup_vectors import vectors
from engram_cli.main import run


def test_the_bench_prints_each_figure_with_its_floor(capsys, monkeypatch):
    small = dedup.Scale((300, 600), (0.9,), 300, 50, 200, 100, 10)
    monkeypatch.setattr(dedup, "_QUICK", small)
    monkeypatch.setattr(dedup.dedup_fetch, "measure", AsyncMock())
    assert run(["bench", "dedup", "--quick", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {line["figure"]: line for line in lines}
    full = found["600 texts at 0.9"]
    assert full["ratio"] == pytest.approx(full["value"] / full["floor"], rel=0.1)
    assert full["target"] == 0.4
    assert found["1 % new of 600 at 0.9"]["floor"] == full["value"]
    assert 0 < found["memory of 600 at 0.9"]["value"] < 1_000
    assert found["100 copies"]["params"]["pairs"] == 4_950
    assert found["stored data is right"]["value"] == 300 + 50 + 200 * 2 + 50


@pytest.mark.parametrize("new_only", [False, True])
def test_a_join_that_loses_a_pair_is_told(monkeypatch, new_only):
    task = Task("copies", 300, 0.9, new_only=new_only, checked_rows=300)
    assert measure(task).wrong == 0
    complete = dedup_child._joined

    def one_less(*given):
        count, sketch, pairs = complete(*given)
        return count, sketch, pairs[1:]

    monkeypatch.setattr(dedup_child, "_joined", one_less)
    assert measure(task).wrong == 1


@pytest.mark.parametrize("kind", ["texts", "isotropic", "copies"])
def test_measured_vectors_are_unit_halves_and_the_same_in_every_run(kind):
    made = vectors(kind, 4_200)
    assert (made.dtype, made.shape) == (np.float16, (4_200, 1_024))
    assert np.allclose(np.linalg.norm(made.astype(np.float32), axis=1), 1, atol=2e-3)
    assert np.array_equal(made[:10], vectors(kind, 4_200)[:10])
