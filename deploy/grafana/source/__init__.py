"""The dashboards as code; `make dashboards` writes what Grafana reads."""
