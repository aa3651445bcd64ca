"""Dashboards and alerts: what is committed is what the code makes, and every name in it exists."""

import json
import re

import pytest
import yaml
from deploy.grafana.source import queries
from deploy.grafana.source.boards import BOARDS
from deploy.grafana.source.write import DEPLOY, GRAFANA, KUBERNETES, files

from engram.metrics import FRESH_S
from engram_cli.services import SERVICES
from tests.meta.checkout import ROOT, text
from tests.ops.alert_cases import CASES
from tests.ops.metric_table import EXPORTED, PROCESS
from tests.ops.promql import family, grouped, selectors

RULES = {
    rule["alert"]: rule
    for group in yaml.safe_load(text("deploy/prometheus/alerts.yml"))["groups"]
    for rule in group["rules"]
}
RUNBOOKS = ROOT / "docs/runbooks"
PANELS = [(board.name, panel) for board in BOARDS for row in board.rows for panel in row.panels]
# Given to every series by Prometheus itself.
TARGET = {"job", "instance", "le"}
EXPRESSIONS = {
    **{
        f"{board}: {panel.title} {i}": query.expr
        for board, panel in PANELS
        for i, query in enumerate(panel.queries)
    },
    **{name: rule["expr"] for name, rule in RULES.items()},
}


def test_the_committed_files_are_what_the_code_makes():
    made = files()
    committed = {name: (DEPLOY / name).read_text(encoding="utf-8") for name in made}
    assert committed == made, "run `make dashboards`"
    for folder in (GRAFANA, KUBERNETES):
        found = {path.relative_to(DEPLOY).as_posix() for path in (DEPLOY / folder).iterdir()}
        assert found == {name for name in made if name.startswith(f"{folder}/")}


def test_every_panel_has_a_title_a_description_and_a_unit():
    for path in (DEPLOY / GRAFANA).iterdir():
        panels = [p for p in json.loads(path.read_text())["panels"] if p["type"] != "row"]
        assert len(panels) >= 8
        for panel in panels:
            assert panel["title"]
            assert panel["description"].endswith("."), panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["targets"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "prometheus"}


def test_titles_and_uids_are_unique():
    assert len({board.name for board in BOARDS}) == len(BOARDS)
    for board in BOARDS:
        titles = [panel.title for name, panel in PANELS if name == board.name]
        assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_metric_and_label_that_is_named_is_exported(name):
    expr, known = EXPRESSIONS[name], {**EXPORTED, **PROCESS}
    found = selectors(expr)
    assert found
    for metric, asked in found.items():
        assert family(metric) in known, metric
        assert asked <= known[family(metric)] | TARGET, metric
    labels = set().union(*(known[family(metric)] for metric in found))
    assert grouped(expr) <= labels | TARGET | _made(expr)


def _made(expr):
    """Return the labels that an expression makes itself."""
    return set(re.findall(r'label_replace\([^"]*"(\w+)"', expr, flags=re.DOTALL))


@pytest.mark.parametrize("name", ["no_such_metric", "engram_outbox_lines"])
def test_a_name_that_does_not_exist_would_be_noticed(name):
    found = selectors(f'sum by (zone) (rate({name}{{colour="red"}}[5m]))')
    assert found == {name: {"colour"}}
    assert grouped(f"sum by (zone) ({name})") == {"zone"}


def test_legends_use_labels_that_the_query_keeps():
    for _, panel in PANELS:
        for query in panel.queries:
            assert set(re.findall(r"\{\{(\w+)\}\}", query.legend)) <= grouped(query.expr), (
                panel.title
            )


def test_every_metric_of_the_table_is_on_a_dashboard_or_wakes_somebody():
    shown = {family(metric) for expr in EXPRESSIONS.values() for metric in selectors(expr)}
    assert set(EXPORTED) - shown == set()


def test_every_alert_says_how_urgent_it_is_and_has_its_page():
    for name, rule in RULES.items():
        assert re.fullmatch(r"Engram[A-Z]\w+", name)
        assert rule["labels"]["severity"] in ("page", "ticket")
        said = rule["annotations"]
        assert said["summary"]
        assert said["description"].endswith(".")
        page = (ROOT / said["runbook"]).read_text(encoding="utf-8")
        assert f"`{name}`" in page
        for heading in ("## What it means", "## What to look at", "## What to do"):
            assert heading in page, said["runbook"]


def test_every_runbook_belongs_to_an_alert_and_is_listed():
    pages = {f"docs/runbooks/{path.name}" for path in RUNBOOKS.glob("*.md")}
    listed = "docs/runbooks/README.md"
    assert pages - {listed} == {rule["annotations"]["runbook"] for rule in RULES.values()}
    index = text(listed)
    for name, rule in RULES.items():
        page = rule["annotations"]["runbook"].rpartition("/")[2]
        assert re.search(rf"`{name}`.*\({page}\)", index), name


def test_every_alert_has_a_case_that_fires_and_one_that_does_not():
    assert set(CASES) == set(RULES)
    assert all(case.fires and case.quiet for case in CASES.values())


def test_alerts_and_dashboards_speak_of_the_same_promise():
    for name in ("EngramFreshnessBurnsFast", "EngramFreshnessBurns", "EngramFreshnessBurnsSlowly"):
        expr = RULES[name]["expr"]
        assert set(re.findall(r'le="([^"]+)"', expr)) == {str(float(FRESH_S))}
        assert set(re.findall(r'\{(lane=~"[^"]+")', expr)) == {queries.PROMISED}
        assert str(round(1 - queries.OBJECTIVE, 6)) in expr


def test_a_missing_service_of_any_kind_is_noticed():
    named = re.findall(r'process="(\w+)"', RULES["EngramServiceMissing"]["expr"])
    assert named == list(SERVICES)
