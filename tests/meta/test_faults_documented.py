"""docs/embedding.md tells of each fault where it is seen: every name it gives exists."""

import dataclasses
import functools
import re
from typing import get_args

import pytest
import typer.main
from prometheus_client.metrics import MetricWrapperBase

from engram import metrics
from engram.domain.retry import classify_status
from engram.serving.operations import PATHS
from engram_cli.bench.fake_faults import Fault, FaultKind
from engram_cli.main import build_app as build_cli
from engram_ingest.app import build_app
from tests.meta.checkout import ROOT, files, text

PAGE = text("docs/embedding.md")
SUFFIXES = {"counter": ("_total",), "histogram": ("", "_bucket", "_sum", "_count"), "gauge": ("",)}
# Names of ours that are no metrics: roles, schemas and packages.
OTHERS = ("engram_api", "engram_worker", "engram_vec", "engram_live", "engram_cli", "engram_pool",
          "engram_ingest", "engram_embedder", "engram_curator", "engram_migrator",
          "engram_owner")  # fmt: skip


def real_metrics() -> dict[str, set[str]]:
    """Return the labels of every series there can be, by its name."""
    known = [one for one in vars(metrics).values() if isinstance(one, MetricWrapperBase)]
    return {
        metric._name + suffix: set(metric._labelnames)
        for metric in known
        for suffix in SUFFIXES[metric._type]
    }


def section(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without its head."""
    body = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in body.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


FAULTS = {row[0]: row for row in section("Each fault, and where it is seen")}


def test_metrics_named_in_any_page_exist():
    named = {
        f"{page.name}: {name}": name
        for page in files(".md")
        for name in re.findall(r"\bengram_[a-z_]+[a-z]\b", page.read_text(encoding="utf-8"))
        if not name.startswith(OTHERS)
    }
    known = real_metrics()
    assert [where for where, name in named.items() if name not in known] == []


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_seen_somewhere(fault):
    _, happens, seen = FAULTS[fault]
    assert happens
    assert re.search(r"`[^`]+`|\*[^*]+\*", seen)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_metrics_of_a_fault_have_the_labels_it_names(fault):
    known = real_metrics()
    for name, labels in re.findall(r"`(engram_\w+)(?:\{([^`]*)\})?`", FAULTS[fault][2]):
        assert set(re.findall(r"(\w+)=", labels)) <= known[name]


@functools.cache
def routes():
    return build_app().openapi()["paths"]


@functools.cache
def source():
    return "".join(
        path.read_text(encoding="utf-8")
        for folder in ("shared", "services")
        for path in (ROOT / folder).rglob("*.py")
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_the_routes_of_a_fault_exist(fault):
    paths = routes()
    for verb, path in re.findall(r"`([A-Z]+) (/[^`]*)`", FAULTS[fault][2]):
        assert path in PATHS or verb.lower() in paths[path]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_commands_of_a_fault_exist(fault):
    for words in re.findall(r"`engram ([a-z -]+)`", FAULTS[fault][2]):
        command = typer.main.get_command(build_cli())
        for word in words.split():
            command = command.commands[word]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_log_lines_of_a_fault_are_written(fault):
    for line in re.findall(r"\*([^*]+)\*", FAULTS[fault][2]):
        assert re.search(rf'log\.\w+\(\s*"{re.escape(line)}"', source()), line


def test_the_page_tells_the_class_of_each_status_as_the_rule_does():
    told = {
        int(status): re.findall(r"`(\w+)`", row[1])[0]
        for row in section("When a provider fails")
        for status in re.findall(r"\b[1-5][0-9]{2}\b", row[0])
        if status != "200"
    }
    assert {status: classify_status(status) for status in told} == told
    assert {400, 401, 402, 403, 408, 409, 413, 422, 425, 429, 500, 501, 503, 529} <= set(told)


def test_the_faults_that_can_be_tried_out_are_all_there():
    listed = PAGE.split("A fault has a `kind`:")[1].split("`times` says")[0]
    options = {field.name for field in dataclasses.fields(Fault)}
    assert set(re.findall(r"`(\w+)`", listed)) - options == set(get_args(FaultKind)) - {"status"}
