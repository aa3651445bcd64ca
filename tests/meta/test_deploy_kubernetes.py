"""Both overlays of deploy/kubernetes build, are valid, and every reference leads somewhere."""

import re
import shutil

import kubernetes_validate
import pytest
import yaml

from engram.broker import topology
from engram.serving.operations import PATHS
from engram_cli.services import SERVICES
from tests.meta.checkout import ROOT, text
from tests.meta.deployed import (
    DEFAULTS,
    SECRETS,
    check_command,
    check_settings,
    load,
    make_secrets,
    run_tool,
)
from tests.support.cluster import GRACE_S

HERE = ROOT / "deploy/kubernetes"
KUBERNETES = "1.37"
# Their schemas come with KEDA and the Prometheus operator, not with Kubernetes.
CUSTOM = {
    "ScaledObject": "keda.sh/v1alpha1",
    "ServiceMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
}
# Secrets that a person makes, as docs/deploy.md says, with their keys.
MADE = {"engram": {"database_url", "nats_url"}, "nats": {"passwords.conf"}}
SECOND = "deploy/kubernetes/components/second-space/kustomization.yaml"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the objects of each overlay, built from a copy with secrets as a person makes them."""
    copy = tmp_path_factory.mktemp("kubernetes") / "kubernetes"
    shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns("secrets"))
    make_secrets(copy / "overlays/dev/secrets")
    return {
        name: list(yaml.safe_load_all(run_tool("kubectl", "kustomize", copy / "overlays" / name)))
        for name in ("dev", "production")
    }


@pytest.fixture(params=["dev", "production"])
def objects(request, built):
    return built[request.param]


def of(objects, kind):
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}


def pods(objects):
    """Return the pod template of every workload, by the workload's name."""
    return {
        one["metadata"]["name"]: one["spec"]["template"]
        for one in objects
        if one["kind"] in ("Deployment", "StatefulSet", "Job")
    }


def containers(template):
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def selected(selector, templates):
    """Return the names of workloads whose pods a selector of labels takes."""
    wanted = selector.get("matchLabels", {}).items()
    return {name for name, pod in templates.items() if wanted <= pod["metadata"]["labels"].items()}


def test_every_object_is_valid_by_the_schemas_of_kubernetes(objects):
    for one in objects:
        if one["kind"] in CUSTOM:
            assert one["apiVersion"] == CUSTOM[one["kind"]]
        else:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)


def test_every_service_of_the_code_is_deployed_with_the_command_that_runs_it(objects):
    ours = {f"engram-{name}": name for name in SERVICES}
    assert set(of(objects, "Deployment")) == set(ours)
    for deployment, name in ours.items():
        spec = of(objects, "Deployment")[deployment]["spec"]["template"]["spec"]
        assert spec["containers"][0]["args"] == ["run", name]
        assert spec["terminationGracePeriodSeconds"] > GRACE_S
    for template in pods(objects).values():
        for container in containers(template):
            if container["image"].startswith("engram"):
                check_command(container["args"])


def test_nothing_starts_before_the_bootstrap_job_is_done(objects):
    job = of(objects, "Job")["engram-bootstrap"]["spec"]["template"]["spec"]
    assert job["containers"][0]["args"] == ["bootstrap"]
    for name in SERVICES:
        spec = pods(objects)[f"engram-{name}"]["spec"]
        assert spec["initContainers"][0]["args"][:3] == ["bootstrap", "--wait-for", name]
        assert spec["initContainers"][0]["env"] == spec["containers"][0]["env"]


def test_every_pod_is_restricted_and_gets_no_variables_of_services(objects):
    for name, template in pods(objects).items():
        spec = template["spec"]
        assert spec["enableServiceLinks"] is False, name
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(template):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert set(container["resources"]) == {"requests", "limits"}


def test_every_variable_is_a_setting_and_every_secret_file_is_mounted(objects):
    maps = of(objects, "ConfigMap")
    for template in pods(objects).values():
        for container in containers(template):
            mounts = {one["mountPath"] for one in container["volumeMounts"]}
            for source in container.get("envFrom", ()):
                check_settings(maps[source["configMapRef"]["name"]]["data"])
            for variable in container.get("env", ()):
                check_settings([variable["name"]])
                if variable["name"] in SECRETS:
                    folder, _, key = variable["value"].rpartition("/")
                    assert folder in mounts
                    assert key in MADE["engram"]


def test_every_volume_comes_from_something_that_is_there(objects):
    maps, secrets = of(objects, "ConfigMap"), of(objects, "Secret")
    for template in pods(objects).values():
        for volume in template["spec"].get("volumes", ()):
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps
            if "secret" in volume:
                name = volume["secret"]["secretName"]
                assert name in (secrets or MADE)


def test_secrets_that_dev_makes_hold_the_keys_that_are_read(built):
    made = {
        name.rpartition("-")[0]: set(one["data"])
        for name, one in of(built["dev"], "Secret").items()
    }
    assert {name: made[name] for name in MADE} == MADE
    assert made["postgres"] == {"postgres_password", "database_password"}


def test_probes_ask_paths_that_are_served_on_ports_that_are_named(objects):
    for name in SERVICES:
        container = pods(objects)[f"engram-{name}"]["spec"]["containers"][0]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            assert asked["path"] in PATHS
            assert ports[asked["port"]] == DEFAULTS["ENGRAM_OPS_PORT"]
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    maps = of(objects, "ConfigMap").values()
    settings = next(one["data"] for one in maps if "ENGRAM_PORT" in one["data"])
    assert settings["ENGRAM_PORT"] == str(DEFAULTS["ENGRAM_PORT"])
    assert settings["ENGRAM_OPS_PORT"] == str(DEFAULTS["ENGRAM_OPS_PORT"])


def test_services_lead_to_ports_that_their_pods_have(objects):
    templates = pods(objects)
    for service in of(objects, "Service").values():
        taken = selected({"matchLabels": service["spec"]["selector"]}, templates)
        ports = {
            port["name"]
            for name in taken
            for container in containers(templates[name])
            for port in container.get("ports", ())
        }
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_every_selector_takes_the_pods_it_means(objects):
    templates = pods(objects)
    for kind in ("Deployment", "StatefulSet"):
        for name, one in of(objects, kind).items():
            assert selected(one["spec"]["selector"], templates) == {name}
    for name, one in of(objects, "PodDisruptionBudget").items():
        assert selected(one["spec"]["selector"], templates) == {name}
    assert set(of(objects, "PodDisruptionBudget")) >= {f"engram-{name}" for name in SERVICES}


def test_network_policies_cover_every_pod_and_open_only_ports_that_are_served(objects):
    templates, covered = pods(objects), set()
    served = {
        port["containerPort"]
        for template in templates.values()
        for container in containers(template)
        for port in container.get("ports", ())
    }
    for policy in of(objects, "NetworkPolicy").values():
        covered |= selected(policy["spec"]["podSelector"], templates)
        for rule in policy["spec"].get("ingress", ()):
            assert {port["port"] for port in rule["ports"]} <= served
    assert covered == set(templates)
    operations = of(objects, "NetworkPolicy")["engram-operations"]["spec"]["podSelector"]
    assert set(operations["matchExpressions"][0]["values"]) == {
        f"engram-{name}" for name in SERVICES
    }


def test_addresses_in_the_secrets_are_services_that_are_there(built):
    for address in re.findall(r"@(\w+):", text("deploy/compose/make-secrets.sh")):
        assert address in of(built["dev"], "Service")


def test_embedders_scale_by_the_durable_of_each_lane_with_a_fallback(built):
    scaled = of(built["production"], "ScaledObject")["engram-embedder"]["spec"]
    assert scaled["scaleTargetRef"]["name"] in of(built["production"], "Deployment")
    assert scaled["minReplicaCount"] <= scaled["fallback"]["replicas"] < scaled["maxReplicaCount"]
    second = yaml.safe_load(load(SECOND)["patches"][0]["patch"])[0]["value"]
    for space, trigger in enumerate([*scaled["triggers"], second], 1):
        durable = topology.embed_durable(space)
        metadata = trigger["metadata"]
        assert trigger["type"] == "nats-jetstream"
        assert (metadata["stream"], metadata["consumer"]) == (durable.stream, durable.name)
        host, _, port = metadata["natsServerMonitoringEndpoint"].partition(":")
        assert host == "nats.engram.svc.cluster.local"
        service = of(built["production"], "Service")["nats"]
        assert service["metadata"]["namespace"] == "engram"
        assert int(port) in {one["port"] for one in service["spec"]["ports"]}
    deployment = of(built["production"], "Deployment")["engram-embedder"]
    assert "replicas" not in deployment["spec"]


def test_prometheus_finds_the_operations_port_of_every_service(built):
    objects = built["production"]
    monitor = of(objects, "ServiceMonitor")["engram"]["spec"]
    service = of(objects, "Service")["engram-operations"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    endpoint = monitor["endpoints"][0]
    assert endpoint["path"] in PATHS
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    taken = selected({"matchLabels": service["spec"]["selector"]}, pods(objects))
    assert taken >= {f"engram-{name}" for name in SERVICES}


def test_production_brings_the_alerts_and_every_dashboard(built):
    objects = built["production"]
    alerts = of(objects, "PrometheusRule")["engram"]["spec"]
    assert alerts == load("deploy/prometheus/alerts.yml")
    shown = {
        file: one["data"][file]
        for one in of(objects, "ConfigMap").values()
        if one["metadata"].get("labels", {}).get("grafana_dashboard") == "1"
        for file in one["data"]
    }
    boards = (ROOT / "deploy/grafana/dashboards").iterdir()
    assert shown == {path.name: path.read_text(encoding="utf-8") for path in boards}


def test_production_keeps_three_copies_of_each_stream_on_three_servers(built):
    objects = built["production"]
    maps = of(objects, "ConfigMap")
    assert {one["data"].get("ENGRAM_REPLICAS") for one in maps.values()} == {"3", None}
    servers = of(objects, "StatefulSet")["nats"]["spec"]
    assert servers["replicas"] == 3
    routes = re.findall(
        r"nats://(nats-\d)\.(\w+):6222", text("deploy/kubernetes/components/nats-cluster/nats.conf")
    )
    assert routes == [(f"nats-{number}", servers["serviceName"]) for number in range(3)]


def test_both_overlays_use_the_images_of_the_compose_file(built):
    composed = {one["image"] for one in load("docker-compose.yml")["services"].values()}
    ours = re.search(r"\$\{ENGRAM_IMAGE:-(.*)\}", " ".join(composed))[1]
    for objects in built.values():
        used = {c["image"] for template in pods(objects).values() for c in containers(template)}
        assert used <= composed | {ours}


def test_the_login_script_of_postgres_is_the_same_everywhere():
    assert text("deploy/kubernetes/components/postgres/login.sql") == text(
        "deploy/postgres/login.sql"
    )
