"""The pure parts of the benchmarks: targets, exit codes, percentiles, recall and CPU labels."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from engram_cli.bench.clusters import Clusters, nearest, recall
from engram_cli.bench.figures import Results, Target, percentile
from engram_cli.bench.processes import cpu_seconds, spent_since
from engram_cli.bench.workload import ITEMS_A_REQUEST, bodies, memories, vectors_of


@pytest.mark.parametrize(
    ("value", "floor", "target", "met"),
    [
        (5.0, 10.0, Target(0.4), True),
        (3.0, 10.0, Target(0.4), False),
        (0.98, None, Target(0.98), True),
        (51.0, None, Target(50.0, at_most=True), False),
        (12.0, 10.0, Target(1.25, at_most=True), True),
        (1.0, None, None, None),
    ],
)
def test_a_target_is_compared_with_the_ratio_where_there_is_one(value, floor, target, met):
    results = Results("mine", as_json=False)
    results.add("speed", value, "ms", floor=floor, target=target)
    assert results.figures[0].met is met


@pytest.mark.parametrize(("faults", "code"), [([], 0), (["1 vector instead of 2"], 1)])
def test_only_wrong_data_is_a_failure_a_missed_target_is_not(faults, code, capsys):
    results = Results("mine", as_json=True)
    results.add("speed", 1.0, "ms", target=Target(2.0))
    results.checked(2, "vectors", faults)
    assert results.finish() == code
    assert [figure.met for figure in results.figures] == [False, not faults]
    assert all(fault in capsys.readouterr().err for fault in faults)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.95, 95), (0.951, 96), (1.0, 100), (0.001, 1)]
)
def test_a_percentile_is_one_of_the_values(share, expected):
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_texts_and_null_vectors_are_distinct_and_do_not_depend_on_the_start():
    listed = memories(3_000)
    assert len({memory.content for memory in listed}) == 3_000
    assert memories(10, start=500) == listed[500:510]
    assert [body.count(b'"content"') for body in bodies(listed[:501])] == [ITEMS_A_REQUEST, 1]


async def test_vectors_of_texts_are_distinct_and_follow_the_text():
    texts = [memory.content for memory in memories(1_500)]
    vectors = await vectors_of(texts)
    assert len({vector.tobytes() for vector in vectors.astype(np.float16)}) == 1_500
    assert np.array_equal(await vectors_of(texts[1_200:1_201]), vectors[1_200:1_201])


async def test_queries_lie_among_the_members_of_their_cluster():
    clusters = await Clusters.of(20)
    members = clusters.members(4_000, seed=3)
    scores = clusters.vectors @ members.T
    tenth = np.sort(scores, axis=1)[:, -10]
    assert np.array_equal(members, clusters.members(4_000, seed=3))
    assert tenth.min() > 0.6
    assert np.median(scores) < 0.1


def test_recall_counts_the_true_neighbours_that_were_found():
    stored = np.eye(4, dtype=np.float32)
    queries = np.array([[1, 0.5, 0.1, 0], [0, 0, 0.1, 1]], dtype=np.float32)
    true = nearest(queries, stored, 2)
    assert true == [{0, 1}, {2, 3}]
    assert recall([{0, 2}, {2, 3}], true) == 0.75


def test_cpu_of_a_child_that_has_ended_is_still_its_parents():
    root = os.getpid()
    before = cpu_seconds(root)
    burn = "import time\nwhile time.process_time() < 0.4: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    spent = spent_since(before, root)
    assert sum(seconds for label, seconds in spent.items() if label != "client") >= 0.35


def test_cpu_is_told_apart_by_what_a_process_runs():
    code = "import time; time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code, "run", "embedder"])
    try:
        deadline = time.monotonic() + 10
        while "embedder" not in cpu_seconds(os.getpid()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert {"embedder", "supervisor", "client"} <= cpu_seconds(os.getpid()).keys()
    finally:
        child.kill()
        child.wait()
