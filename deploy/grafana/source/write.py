"""Writes dashboards for Grafana, and both dashboards and alerts for Kubernetes: `make dashboards`.

A kustomization reads nothing above its own folder, so what Kubernetes gets is written there too.
"""

from pathlib import Path

import yaml
from deploy.grafana.source.boards import BOARDS
from deploy.grafana.source.panels import rendered

DEPLOY = Path(__file__).parents[2]
GRAFANA = "grafana/dashboards"
KUBERNETES = "kubernetes/components/monitoring/dashboards"
RULES = "kubernetes/components/monitoring/alerts.yaml"
_SAID = "# Made of deploy/prometheus/alerts.yml by `make dashboards`; change that one.\n"


def files() -> dict[str, str]:
    """Return every file that is made, by its path below deploy/."""
    boards = {f"{board.name}.json": rendered(board) for board in BOARDS}
    made = {f"{folder}/{name}": boards[name] for folder in (GRAFANA, KUBERNETES) for name in boards}
    return {**made, RULES: _rules()}


def _rules() -> str:
    alerts = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text(encoding="utf-8"))
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "engram"},
        "spec": alerts,
    }
    return _SAID + yaml.safe_dump(rule, sort_keys=False, width=100, allow_unicode=True)


def main() -> None:
    """Write the files, and remove dashboards that are no more."""
    wanted = files()
    for folder in (GRAFANA, KUBERNETES):
        (DEPLOY / folder).mkdir(exist_ok=True)
        for path in (DEPLOY / folder).glob("*.json"):
            if path.relative_to(DEPLOY).as_posix() not in wanted:
                path.unlink()
    for name, text in wanted.items():
        (DEPLOY / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
