import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.domain.jobs import OldestJob, RunningCount, Stats
from service.domain.states import Status
from service.domain.store_health import StoreAvailability, StoreHealth
from service.observability.metrics import Metrics

STATS = Stats(
    at="2026-01-01T00:01:00.500000Z",
    statuses={status: number for number, status in enumerate(Status)},
    delayed=7,
    queues={"a-queue-of-a-client": dict.fromkeys(Status, 1)},
    running=RunningCount(leased=2, unleased=3),
    oldest_pending=OldestJob("j", "q", "2026-01-01T00:00:00.000000Z"),
)
UP = StoreAvailability(nodes=3, nodes_away=1, partitions_away=5)
HEALTH = StoreHealth(
    version="7.0.15", memory=100, memory_limit=200, can_evict=True, aof_enabled=False, aof_healthy=True
)


def samples(page: bytes) -> dict[str, float]:
    """Every sample by its name and labels, as `name{label=value}`."""
    return {
        sample.name + (str(sample.labels) if sample.labels else ""): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def test_metrics_have_counts_of_the_process_and_values_of_redis() -> None:
    metrics = Metrics()
    metrics.request_started()
    metrics.request_started()
    metrics.request_finished("GET", "/v1/jobs/{job_id}", 404, 0.002, "job-not-found")
    metrics.on_call_start()
    metrics.on_call_end("create", "CREATED", 0.001)
    metrics.on_job_change("expired", 5)

    page, media_type = metrics.render("", availability=UP, stats=STATS, health=[HEALTH])
    found = samples(page)

    labels = {"method": "GET", "route": "/v1/jobs/{job_id}", "status": "404"}
    assert media_type.startswith("text/plain")
    assert found[f"jobstate_http_request_duration_seconds_count{labels}"] == 1
    assert found[f"jobstate_http_request_duration_seconds_bucket{ {'le': '0.001', **labels} }".replace("{ {", "{")] == 0
    assert found["jobstate_http_requests_in_progress"] == 1
    assert found["jobstate_http_problems_total{'type': 'job-not-found'}"] == 1
    assert found["jobstate_redis_command_duration_seconds_count{'command': 'create', 'outcome': 'CREATED'}"] == 1
    assert found["jobstate_redis_commands_in_progress"] == 0
    assert found["jobstate_job_changes_total{'change': 'expired'}"] == 5
    assert found["jobstate_jobs{'status': 'failed'}"] == 3
    assert found["jobstate_jobs_delayed"] == 7
    assert found["jobstate_jobs_running{'lease': 'live'}"] == 2
    assert found["jobstate_jobs_running{'lease': 'none'}"] == 3
    assert found["jobstate_oldest_pending_age_seconds"] == 60.5
    assert (found["jobstate_redis_up"], found["jobstate_redis_warnings"]) == (1, 2)
    nodes = ("jobstate_redis_nodes", "jobstate_redis_nodes_away", "jobstate_redis_partitions_away")
    assert [found[name] for name in nodes] == [3, 1, 5]
    assert (found["jobstate_redis_memory_bytes"], found["jobstate_redis_memory_limit_bytes"]) == (100, 200)
    assert found["jobstate_redis_info{'version': '7.0.15'}"] == 1
    assert "a-queue-of-a-client" not in page.decode()


def test_changes_that_replicas_miss_are_counted_from_zero() -> None:
    metrics = Metrics()

    def count() -> float:
        page = metrics.render("", availability=None, stats=None, health=None)[0]
        return samples(page)["jobstate_redis_replicas_missing_total"]

    assert count() == 0
    metrics.on_replicas_missing()
    assert count() == 1


def test_metrics_without_redis_omit_its_values() -> None:
    found = samples(Metrics().render("", availability=None, stats=None, health=None)[0])
    assert found["jobstate_redis_up"] == 0
    assert not [
        name for name in found if name.startswith(("jobstate_jobs", "jobstate_oldest", "jobstate_redis_memory"))
    ]


@pytest.mark.parametrize(
    ("is_up", "health", "known"), [(True, HEALTH, 1), (True, None, 0), (False, HEALTH, 1), (False, None, None)]
)
def test_metrics_show_whether_durability_could_be_checked(
    is_up: bool, health: StoreHealth | None, known: int | None
) -> None:
    found = samples(
        Metrics().render(
            "", availability=UP if is_up else None, stats=STATS, health=None if health is None else [health]
        )[0]
    )
    assert found["jobstate_redis_up"] == is_up
    assert found.get("jobstate_redis_durability_known") == known
    assert ("jobstate_redis_warnings" in found) is (health is not None)


def test_a_scraper_that_accepts_openmetrics_gets_it() -> None:
    accept = "application/openmetrics-text;version=1.0.0;q=0.6,*/*;q=0.1"
    page, media_type = Metrics().render(accept, availability=None, stats=None, health=None)
    assert media_type.startswith("application/openmetrics-text")
    assert page.endswith(b"# EOF\n")


@pytest.mark.parametrize(
    ("health", "hints"),
    [
        ({"can_evict": False, "aof_enabled": True, "aof_healthy": True}, []),
        ({"can_evict": True, "aof_enabled": True, "aof_healthy": True}, ["noeviction"]),
        ({"can_evict": False, "aof_enabled": False, "aof_healthy": True}, ["appendonly yes"]),
        ({"can_evict": False, "aof_enabled": True, "aof_healthy": False}, ["disk"]),
    ],
)
def test_each_durability_risk_is_a_warning(health: dict[str, Any], hints: list[str]) -> None:
    found = StoreHealth(version="7.0.0", memory=1, memory_limit=0, **health).warnings
    assert len(found) == len(hints)
    assert all(hint in warning for hint, warning in zip(hints, found, strict=True))


PROGRAM = """
import sys
from pathlib import Path
from service.observability import metrics
folder, worker, work = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
metrics.configure(folder, worker)
here = metrics.Metrics()
here.set_pool_size(64)
here.set_partitions(16)
if work == "count":
    here.request_started()
    here.request_finished("GET", "/", 200, 0.002, "p")
    here.request_started()
if work == "forget":
    metrics.mark_worker_dead(folder, 1)
print(here.render("", availability=None, stats=None, health=None)[0].decode())
"""


def worker(folder: Path, number: int, work: str) -> dict[str, float]:
    command = [sys.executable, "-c", PROGRAM, str(folder), str(number), work]
    return samples(subprocess.run(command, capture_output=True, check=True).stdout)


def test_every_process_shows_the_sums_over_all_processes(tmp_path: Path) -> None:
    count = "jobstate_http_request_duration_seconds_count{'method': 'GET', 'route': '/', 'status': '200'}"
    for number in (0, 1):
        worker(tmp_path, number, "count")

    found = worker(tmp_path, 2, "read")
    assert (found[count], found["jobstate_http_problems_total{'type': 'p'}"]) == (2, 2)
    assert found["jobstate_http_requests_in_progress"] == 2
    assert found["jobstate_redis_pool_max_connections"] == 3 * 64
    assert found["jobstate_partitions"] == 16

    found = worker(tmp_path, 1, "count")
    assert found[count] == 3, "a restarted process continues its counters"

    found = worker(tmp_path, 2, "forget")
    assert found[count] == 3, "the counters of an exited process still count"
    assert found["jobstate_http_requests_in_progress"] == 1, "its gauges do not"


def test_the_file_that_a_process_is_just_creating_is_left_out(tmp_path: Path) -> None:
    worker(tmp_path, 0, "count")
    (tmp_path / "counter_1.db").touch()

    found = worker(tmp_path, 2, "read")

    assert found["jobstate_http_problems_total{'type': 'p'}"] == 1
