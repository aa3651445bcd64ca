"""The pages under docs/ name everything there is, and nothing that is not."""

import re

from prometheus_client.metrics import MetricWrapperBase

from engram import events, metrics
from engram.broker import topology
from engram.serving.operations import PATHS
from engram.settings import CLIENT_NAMES, Settings, variable_names
from engram_ingest.app import build_app
from tests.meta.checkout import ROOT, code, files, rows, text

METHODS = {"get", "post", "patch", "put", "delete"}


def test_settings_page_lists_every_setting_with_its_default():
    page = {code(row[0]): code(row[2]) for row in rows(text("docs/settings.md"))}
    real = {}
    for field, name in variable_names().items():
        default = Settings.model_fields[field].default
        real[name] = "" if default is None else str(default)
    assert {name: page[name] for name in page if name not in CLIENT_NAMES} == real
    assert set(page) == set(real) | set(CLIENT_NAMES)


def test_metrics_page_lists_every_metric_with_its_kind_and_labels():
    page = {
        code(row[0]): (row[1], tuple(re.findall(r"`(\w+)`", row[2])))
        for row in rows(text("docs/metrics.md"))
    }
    real = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            name = metric._name + ("_total" if metric._type == "counter" else "")
            real[name] = (metric._type, metric._labelnames)
    assert page == real


def test_metrics_are_ours_by_name_and_no_label_holds_a_tenant_or_an_id():
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            assert metric._name.startswith("engram_")
            assert not {"workspace", "namespace", "tenant", "id", "user"} & set(metric._labelnames)


def test_http_page_lists_every_route():
    page = {code(row[0]) for row in rows(text("docs/http-api.md"))}
    paths = build_app().openapi()["paths"]
    real = {f"{verb.upper()} {path}" for path in paths for verb in paths[path] if verb in METHODS}
    assert page == real | {f"GET {path}" for path in PATHS}


def test_events_page_lists_every_subject_and_type():
    listed = rows(text("docs/events.md"))
    page = {code(row[0]) for row in listed}
    subjects = {events.memory_subject(kind) for kind in events.EVENT_KINDS}
    others = {f"{events.SUBJECT_INGEST}.<workspace>", f"{events.SUBJECT_MIGRATION}.<action>"}
    assert page == subjects | others | set(events.COMMAND_TYPES.values())
    streams = {code(row[1]) for row in listed if len(row) == 3}
    assert streams == {stream.name for stream in topology.STREAMS}


def test_links_between_pages_lead_somewhere():
    for page in files(".md"):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_page_can_be_reached_from_the_readme():
    linked = set(re.findall(r"\]\((docs/[a-z0-9-]+\.md)\)", text("README.md")))
    assert linked == {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}


def test_make_targets_named_in_the_pages_exist():
    targets = set(re.findall(r"^([a-z-]+):.*##", text("Makefile"), flags=re.MULTILINE))
    named = set()
    for page in files(".md"):
        source = page.read_text(encoding="utf-8")
        named |= set(re.findall(r"(?:^|`)make ([a-z-]+)", source, flags=re.MULTILINE))
    assert named <= targets
    assert {"setup", "demo", "test", "check", "bench"} <= named & targets
