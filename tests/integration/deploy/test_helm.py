"""The Helm chart, as `helm` renders it, against the schemas of Kubernetes and the settings of the service."""

import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from service.settings import VARIABLES, Settings
from tests.helpers.deploy_tools import CHART, Manifest, helm, manifests, rendered, validate
from tests.helpers.paths import ROOT

Render = Callable[..., dict[str, Manifest]]
MINIMAL: Manifest = {"redis": {"url": "redis://redis:6379/0"}, "apiKeys": {"existingSecret": "keys"}}
ANONYMOUS: Manifest = {"redis": {"url": "redis://redis:6379/0"}, "allowAnonymous": True}
MONITORED: Manifest = {**MINIMAL, "serviceMonitor": {"enabled": True, "apiKey": {"existingSecret": "reader"}}}
#: All values that have no effect by default.
FULL: Manifest = {
    "replicaCount": 3,
    "image": {"repository": "registry.example.org/jobstate", "tag": "0.3.0-1", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "redis": {"existingSecret": "redis"},
    "apiKeys": {"existingSecret": "keys"},
    "settings": {
        "ALLOWED_HOSTS": "jobs.example.org",
        "LOG_LEVEL": "warning",
        "MAX_BATCH_BYTES": 83_886_080,
        "REDIS_WAITAOF": 1,
        "RATE_LIMIT": "600/minute",
    },
    "shutdownDrainSeconds": 600,
    "service": {"type": "LoadBalancer", "port": 80, "annotations": {"a": "b"}},
    "serviceMonitor": {
        "enabled": True,
        "interval": "1m",
        "labels": {"release": "p"},
        "apiKey": {"existingSecret": "reader"},
    },
    "volumes": [{"name": "ca", "secret": {"secretName": "redis-ca"}}],
    "volumeMounts": [{"name": "ca", "mountPath": "/etc/redis", "readOnly": True}],
    "podAnnotations": {"c": "d"},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}},
}
#: An API key's entry, and the other texts that the Secrets have.
SECRETS = {
    ("keys", "API_KEYS"): "front:read+write:" + "ab" * 32,
    ("redis", "REDIS_URL"): "rediss://:secret@redis.example.org/0",
}
DOCUMENT = ROOT / "docs" / "deployment.md"
PATHS = json.loads((ROOT / "docs" / "openapi.json").read_text())["paths"]


@pytest.fixture
def render(tmp_path: Path) -> Render:
    """Return a function that renders the chart to its manifests by their kinds."""

    def render(values: Manifest, release: str = "jobs") -> dict[str, Manifest]:
        result = rendered(tmp_path, values, release)
        assert result.returncode == 0, result.stderr
        return {manifest["kind"]: manifest for manifest in manifests(result.stdout)}

    return render


def pod_of(found: dict[str, Manifest]) -> Manifest:
    pod: Manifest = found["Deployment"]["spec"]["template"]["spec"]
    return pod


def container_of(found: dict[str, Manifest]) -> Manifest:
    (container,) = pod_of(found)["containers"]
    assert isinstance(container, dict)
    return container


def environment_of(found: dict[str, Manifest]) -> dict[str, str]:
    """The environment of the container, with the texts of the Secrets and what the image sets."""
    environment = {"JOBSTATE_HOST": "0.0.0.0", "JOBSTATE_PORT": "8000"}
    for variable in container_of(found)["env"]:
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        text = SECRETS[reference["name"], reference["key"]] if reference else variable["value"]
        environment[variable["name"]] = text
    return environment


def documented(start: str) -> str:
    """The YAML in docs/deployment.md that begins with `start`."""
    blocks = re.findall(r"^( *)```yaml\n(.*?)^\1```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    (block,) = [text for _, text in blocks if textwrap.dedent(text).startswith(start)]
    return textwrap.dedent(block)


@pytest.mark.parametrize("values", [MINIMAL, ANONYMOUS, FULL], ids=["minimal", "anonymous", "full"])
def test_kubernetes_accepts_every_manifest(render: Render, values: Manifest) -> None:
    found = render(values)

    for manifest in found.values():
        validate(manifest)
    assert set(found) - {"ServiceMonitor"} == {"Deployment", "Service", "ServiceAccount", "PodDisruptionBudget"}


@pytest.mark.parametrize("values", [MINIMAL, ANONYMOUS, FULL], ids=["minimal", "anonymous", "full"])
def test_the_service_accepts_its_environment(render: Render, values: Manifest) -> None:
    environment = environment_of(render(values))

    assert set(environment) <= {variable.name for variable in VARIABLES}
    Settings.from_environment(environment)


def test_values_reach_the_settings(render: Render) -> None:
    settings = Settings.from_environment(environment_of(render(FULL)))

    assert settings.redis_url == SECRETS["redis", "REDIS_URL"]
    assert [key.name for key in settings.api_keys] == ["front"]
    assert settings.allowed_hosts == ("jobs.example.org",)
    assert (settings.log_level, settings.max_batch_bytes) == ("warning", 83_886_080)
    assert (settings.shutdown_drain_seconds, settings.redis_waitaof) == (600, True)
    assert (settings.allow_anonymous, settings.rate_limit is not None) == (False, True)


def test_without_keys_access_is_only_given_on_request(render: Render) -> None:
    settings = Settings.from_environment(environment_of(render(ANONYMOUS)))

    assert (settings.api_keys, settings.allow_anonymous) == ((), True)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "redis.url"),
        ({**ANONYMOUS, "redis": {"url": "redis://redis", "existingSecret": "redis"}}, "redis.existingSecret"),
        ({**ANONYMOUS, "redis": {"url": "redis://:secret@redis"}}, "redis.existingSecret"),
        ({**ANONYMOUS, "redis": {"url": "http://redis"}}, "redis.url"),
        ({"redis": {"url": "redis://redis"}}, "apiKeys.existingSecret"),
        ({**MINIMAL, "allowAnonymous": True}, "allowAnonymous"),
        ({**MINIMAL, "serviceMonitor": {"enabled": True}}, "serviceMonitor.apiKey.existingSecret"),
        ({**MINIMAL, "settings": {"LOG_LEVL": "info"}}, "LOG_LEVL"),
        ({**MINIMAL, "settings": {"LOG_LEVEL": "loud"}}, "LOG_LEVEL"),
        ({**MINIMAL, "settings": {"JOBSTATE_WORKERS": 65}}, "JOBSTATE_WORKERS"),
        ({**MINIMAL, "shutdownDrainSeconds": 601}, "shutdownDrainSeconds"),
        ({**MINIMAL, "replicas": 2}, "replicas"),
    ],
)
def test_a_wrong_value_is_rejected_by_its_name(tmp_path: Path, values: Manifest, named: str) -> None:
    result = rendered(tmp_path, values)

    assert result.returncode != 0
    assert named in result.stderr.replace("/", ".")  # Helm 4 reports `/redis/url`


def test_the_pod_has_no_rights(render: Render) -> None:
    pod, container = pod_of(found := render(MINIMAL)), container_of(found)

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is found["ServiceAccount"]["automountServiceAccountToken"] is False
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
    assert "memory" in container["resources"]["limits"]
    assert re.search(r"^USER \d+:\d+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE), "runAsNonRoot needs a number"


def test_services_of_kubernetes_set_no_variables(render: Render) -> None:
    assert pod_of(render(MINIMAL))["enableServiceLinks"] is False


@pytest.mark.parametrize("drain", [0, 90, 600])
def test_a_pod_has_time_for_its_drain(render: Render, drain: int) -> None:
    pod = pod_of(found := render({**MINIMAL, "shutdownDrainSeconds": drain}))
    command, seconds = container_of(found)["lifecycle"]["preStop"]["exec"]["command"]

    assert environment_of(found)["SHUTDOWN_DRAIN_SECONDS"] == str(drain)
    assert command == "sleep"
    assert pod["terminationGracePeriodSeconds"] >= int(seconds) + drain + 10


def test_the_probes_use_routes_that_there_are(render: Render) -> None:
    container = container_of(render(MINIMAL))
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}

    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/health",
        "liveness": "/health",
        "readiness": "/ready",
    }
    for probe in probes.values():
        assert "get" in PATHS[probe["path"]]
        assert ports[probe["port"]] == 8000
    assert container["readinessProbe"]["timeoutSeconds"] > 3, "/ready responds within 3 s"


def test_the_service_selects_the_pods(render: Render) -> None:
    found = render(MONITORED)
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    service = found["Service"]

    assert service["spec"]["selector"].items() <= labels
    assert found["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() <= labels
    assert found["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]


def test_metrics_are_scraped_only_on_request_and_with_a_key(render: Render) -> None:
    (endpoint,) = render(MONITORED)["ServiceMonitor"]["spec"]["endpoints"]

    assert "ServiceMonitor" not in render(MINIMAL)
    assert endpoint["path"] == "/metrics"
    assert "get" in PATHS["/metrics"]
    assert endpoint["authorization"]["credentials"] == {"name": "reader", "key": "JOBSTATE_API_KEY"}


@pytest.mark.parametrize(("release", "name"), [("jobs", "jobs-jobstate"), ("jobstate", "jobstate")])
def test_names_begin_with_the_release(render: Render, release: str, name: str) -> None:
    assert {manifest["metadata"]["name"] for manifest in render(MINIMAL, release).values()} == {name}


def test_helm_finds_no_fault() -> None:
    result = helm("lint", "--strict", str(CHART), "--set", "redis.url=redis://redis,apiKeys.existingSecret=keys")

    assert result.returncode == 0, result.stdout


def test_the_chart_accepts_the_values_of_the_document(render: Render) -> None:
    (values,) = manifests(documented("# values.yaml\n"))

    for manifest in render(values).values():
        validate(manifest)


def test_the_workers_of_the_document_have_time_for_their_drain() -> None:
    (workers,) = manifests(documented("apiVersion: apps/v1\n"))
    pod = workers["spec"]["template"]["spec"]

    validate(workers)
    assert pod["enableServiceLinks"] is False
    assert pod["terminationGracePeriodSeconds"] > 60, "`drain_seconds` of a worker"
