"""Every alert fires on what it is for and not on what is next to it: promtool runs the rules."""

import json
import subprocess

import pytest
import yaml

from tests.meta.checkout import ROOT
from tests.ops.alert_cases import CASES, HEALTHY, QUIET_LATER

RULES = ROOT / "deploy/prometheus/alerts.yml"
pytestmark = pytest.mark.ops


def alerts() -> dict[str, dict]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def promtool(*arguments: object) -> None:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def written(folder, series, at, expr, samples, every="1m"):
    """Write a test of the rules as promtool reads it."""
    values = {name: value for name, value in {**HEALTHY, **series}.items() if value is not None}
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": value} for name, value in values.items()],
        "promql_expr_test": [{"expr": expr, "eval_time": at, "exp_samples": samples}],
    }
    path = folder / "test.yml"
    file = {"rule_files": [str(RULES)], "evaluation_interval": every, "tests": [test]}
    path.write_text(json.dumps(file))
    return path


def firing(name):
    return (
        f'count without (alertstate, severity) (ALERTS{{alertstate="firing",alertname="{name}"}})'
    )


def test_the_rules_are_valid():
    promtool("check", "rules", RULES)


def test_every_alert_has_a_case():
    assert set(CASES) == set(alerts())


@pytest.mark.parametrize("name", CASES)
def test_it_fires(name, tmp_path):
    case = CASES[name]
    labels = ",".join(
        f'{key}="{value}"' for key, value in {"alertname": name, **case.labels}.items()
    )
    expected = [{"labels": f"{{{labels}}}", "value": 1}]
    promtool(
        "test", "rules", written(tmp_path, case.fires, case.at, firing(name), expected, case.every)
    )


@pytest.mark.parametrize("name", CASES)
def test_it_does_not_fire_on_what_is_next_to_it(name, tmp_path):
    case, at = CASES[name], QUIET_LATER.get(name, CASES[name].at)
    promtool("test", "rules", written(tmp_path, case.quiet, at, firing(name), [], case.every))


@pytest.mark.parametrize(("at", "every"), [("10m", "1m"), ("90m", "1m"), ("72h", "1h")])
def test_nothing_fires_while_all_is_well(at, every, tmp_path):
    promtool("test", "rules", written(tmp_path, {}, at, 'ALERTS{alertstate="firing"}', [], every))
