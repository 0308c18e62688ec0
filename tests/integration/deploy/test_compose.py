"""The compose files and the image as they are run: `docker compose up` on ports and a network of its own."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as sync_redis

from service import __version__
from service.settings import VARIABLES
from tests.helpers.compose import ROOT, Compose, Stack
from tests.helpers.polling import TIMEOUT, wait_until

pytestmark = pytest.mark.compose

MIB = 1024 * 1024
#: Seconds until a cluster has elected a master. `cluster-node-timeout` is 5 s.
FAILOVER_TIMEOUT = 60.0


@pytest.fixture(scope="module")
def whole_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("compose"))
    try:
        stack.run_checked("build")
        yield stack
    finally:
        stack.remove()


@pytest.fixture
def stack(whole_stack: Stack) -> Stack:
    """The stack, up and healthy."""
    whole_stack.run_checked("up", "--detach", "--wait")
    return whole_stack


def test_up_ends_with_both_services_healthy(stack: Stack) -> None:
    health = {service: stack.inspect(service)["State"]["Health"]["Status"] for service in ("redis", "backend")}

    assert health == {"redis": "healthy", "backend": "healthy"}
    assert httpx.get(f"{stack.url}/health").json() == {"status": "ok", "version": __version__}
    assert httpx.get(f"{stack.url}/ready").status_code == 200


def test_ports_are_published_on_loopback_only(stack: Stack) -> None:
    assert stack.published_addresses("redis") == [("127.0.0.1", stack.redis_port)]
    assert stack.published_addresses("backend") == [("127.0.0.1", stack.backend_port)]


def test_redis_keeps_what_it_acknowledged_within_its_limits(stack: Stack) -> None:
    with sync_redis.Redis(port=stack.redis_port) as client:
        config = client.config_get("*")
    redis = stack.inspect("redis")

    wanted = {
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory": str(160 * MIB),
        "maxmemory-policy": "noeviction",
        "oom-score-adj": "yes",
        "hash-max-listpack-value": "4096",
    }
    assert {name: config[name] for name in wanted} == wanted
    assert (redis["HostConfig"]["Memory"], redis["HostConfig"]["NanoCpus"]) == (256 * MIB, 500_000_000)
    assert [(mount["Type"], mount["Destination"]) for mount in redis["Mounts"]] == [("volume", config["dir"])]


def test_the_backend_may_do_nothing_but_serve(stack: Stack) -> None:
    backend = stack.inspect("backend")
    attempt = "import os, pathlib; print(os.getuid()); pathlib.Path('/tmp/x').touch(); pathlib.Path('/opt/x').touch()"
    tried = stack.run("exec", "--no-TTY", "backend", "python", "-c", attempt)

    assert backend["Config"]["User"] == "10001:10001"
    assert backend["HostConfig"]["CapDrop"] == ["ALL"]
    assert backend["HostConfig"]["SecurityOpt"] == ["no-new-privileges:true"]
    assert tried.stdout == "10001\n"
    assert "Read-only file system: '/opt/x'" in tried.stderr


def test_the_image_runs_as_any_user(stack: Stack) -> None:
    assert __version__ in stack.run_checked("run", "--rm", "--no-deps", "--user", "12345:12345", "backend", "--version")


def test_a_wrong_setting_ends_the_container_with_what_is_allowed(stack: Stack) -> None:
    ended = stack.run("run", "--rm", "--no-deps", "--env", "JOB_TTL_DAYS=0", "backend")

    assert ended.returncode == 1
    assert "Error: JOB_TTL_DAYS='0' is not allowed; allowed: an integer from 1 to 365" in ended.stdout + ended.stderr


def test_a_job_survives_a_kill_of_both_containers(stack: Stack) -> None:
    job = {"job_id": "survivor", "input_params": {"seed": 42}, "slate_id": "pinewood-400"}
    httpx.post(f"{stack.url}/v1/jobs", json=job).raise_for_status()
    before = httpx.get(f"{stack.url}/v1/jobs/survivor").content

    stack.kill("redis", "backend")
    stack.run_checked("start")

    stack.wait_until_ready()
    assert httpx.get(f"{stack.url}/v1/jobs/survivor").content == before


def test_stop_waits_for_a_worker_and_loses_nothing(stack: Stack) -> None:
    with httpx.Client(base_url=stack.url) as api, ThreadPoolExecutor(1) as pool:
        api.post("/v1/jobs", json={"job_id": "leased", "queue": "apart", "input_params": 1}).raise_for_status()
        claim = api.post("/v1/claims", json={"queues": ["apart"], "worker": "w"}).raise_for_status().json()
        token = {"Lease-Token": claim["lease"]["token"]}
        stop = pool.submit(stack.run_checked, "stop", "backend")
        wait_until(lambda: api.get("/ready").status_code == 503, "the end to begin")
        api.post("/v1/jobs/leased/heartbeat", json={}, headers=token).raise_for_status()
        assert not stop.done()
        api.patch("/v1/jobs/leased", json={"status": "completed", "result": 7}, headers=token).raise_for_status()
        stop.result(TIMEOUT)
    assert "shutdown leases released" in stack.run_checked("logs", "backend")
    stack.run_checked("up", "--detach", "--wait")
    assert httpx.get(f"{stack.url}/v1/jobs/leased/result").json() == 7


def test_stop_ends_clean(stack: Stack) -> None:
    drain = next(variable.default for variable in VARIABLES if variable.name == "SHUTDOWN_DRAIN_SECONDS")

    stack.run_checked("stop")

    codes = {service: stack.inspect(service)["State"]["ExitCode"] for service in ("redis", "backend")}
    assert codes == {"redis": 0, "backend": 0}
    assert "Shutting down Redis connection" in stack.run_checked("logs", "backend")
    assert stack.inspect("backend")["Config"]["StopTimeout"] > int(drain or 0)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Stack]:
    """The stack of compose.cluster.yaml, up and healthy."""
    stack = Stack(tmp_path, "compose.cluster.yaml")
    try:
        stack.run_checked("build")
        stack.run_checked("up", "--detach", "--wait")
        yield stack
    finally:
        stack.remove()


def test_the_service_on_a_cluster_goes_on_after_a_kill_of_a_master(cluster: Stack) -> None:
    with httpx.Client(base_url=cluster.url) as api:

        def create(**fields: str) -> int:
            return api.post("/v1/jobs", json={"input_params": 1, **fields}).status_code

        def away() -> tuple[int, int]:
            body = api.get("/ready").raise_for_status().json()
            return body.get("nodes_away", 0), body.get("partitions_away", 0)

        ids = [f"job-{number}" for number in range(20)]
        assert {create(job_id=job_id) for job_id in ids} == {201}
        assert away() == (0, 0)

        cluster.kill("redis-1")  # one of the masters: the first three nodes are

        wait_until(lambda: away() == (1, 5), "the service to see it")
        # The service may just have sent a call to the node, and answers 503 until it knows better.
        wait_until(lambda: create() == 201, "a job in another partition")
        assert away() == (1, 5)
        wait_until(lambda: away() == (0, 0), "the replica to be the master", timeout=FAILOVER_TIMEOUT)
        assert {api.get(f"/v1/jobs/{job_id}").status_code for job_id in ids} == {200}
        assert {api.post(f"/v1/jobs/{job_id}/cancel").status_code for job_id in ids} == {200}


def config(*options: str, file: str = "compose.yaml") -> dict[str, Any]:
    """Return what compose makes of a file with nothing set around it."""
    found: dict[str, Any] = json.loads(Compose(*options, file=file).run_checked("config", "--format", "json"))
    return found


def test_the_stack_profile_adds_a_neighbour_on_loopback() -> None:
    """Its image is large and no part of this project, so only what compose makes of the file is checked."""
    plain, stack = config(), config("--profile", "stack")

    assert sorted(plain["services"]) == ["backend", "redis"]
    assert sorted(stack["services"]) == ["backend", "neo4j", "redis"]
    neo4j = stack["services"]["neo4j"]
    assert {port["host_ip"] for port in neo4j["ports"]} == {"127.0.0.1"}
    assert list(neo4j["networks"]) == ["nascar-network"]
    assert "7474" in neo4j["healthcheck"]["test"][-1]


def test_nobody_needs_a_key_while_the_port_is_on_loopback_only() -> None:
    backend = config()["services"]["backend"]
    assert (backend["environment"]["ALLOW_ANONYMOUS"], backend["environment"].get("API_KEYS")) == ("1", None)
    assert {port["host_ip"] for port in backend["ports"]} == {"127.0.0.1"}


def test_names_and_versions_are_what_others_rely_on() -> None:
    found = config()

    assert found["networks"]["nascar-network"]["name"] == "nascar-network"
    assert {port["published"] for service in found["services"].values() for port in service["ports"]} == {
        "6379",
        "8000",
    }
    assert found["services"]["backend"]["image"] == f"jobstate:{__version__}"
    assert f'image.version="{__version__}"' in (ROOT / "Dockerfile").read_text()


def test_the_cluster_has_the_settings_of_the_single_redis_and_is_on_loopback_only() -> None:
    single, services = config()["services"], config(file="compose.cluster.yaml")["services"]
    nodes = [service for name, service in services.items() if name.startswith("redis-")]

    assert len(nodes) == 6
    for node in nodes:
        assert set(single["redis"]["command"]) <= set(node["command"])
        assert "ports" not in node
    backend = services["backend"]
    assert {port["host_ip"] for port in backend["ports"]} == {"127.0.0.1"}
    assert (backend["image"], backend["build"]) == (single["backend"]["image"], single["backend"]["build"])
