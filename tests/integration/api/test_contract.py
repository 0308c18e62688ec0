"""Random sequences of calls against a model of the contract; `just fuzz` runs more."""

import functools
import itertools
import os
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.helpers.reference_model import FINAL_STATUSES, Expected, ModelJob, ReferenceModel

pytestmark = pytest.mark.usefixtures("consistent_store")

EXAMPLES = int(os.environ.get("CONTRACT_EXAMPLES", "40"))
STEPS = 40

JOBS = st.sampled_from(["j1", "j2"])
QUEUES = st.sampled_from([("a",), ("b",), ("a", "b"), ("b", "a")])
KEYS = st.sampled_from([None, "k1", "k2"])
VALUES = st.sampled_from([1, {"a": [None, 0.5]}])
#: The token of the job's last claim, none, or an invalid one.
TOKENS = st.sampled_from(["last", "last", "last", "last", "none", "none", "1-made-up"])
#: The difference between the version in `If-Match` and the job's; `None` sends no header.
VERSIONS = st.sampled_from([None] * 6 + [0, 1])
CHANGES = st.fixed_dictionaries(
    {"status": st.sampled_from(["pending", "running", "running", *sorted(FINAL_STATUSES)])},
    optional={
        "result": VALUES,
        "error_message": VALUES,
        "progress": st.fixed_dictionaries({"current": st.integers(0, 2)}),
    },
)
#: The body of a retry. A priority of an hour counts more than when a job was created.
RETRIES = st.fixed_dictionaries(
    {}, optional={"max_attempts": st.sampled_from([1, 3]), "priority": st.sampled_from([0, 3600, -3600])}
)

#: The body of a queue's settings; `None` for no body.
RETENTION = st.sampled_from([None, 60, 7200])
SETTINGS = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "paused": st.sampled_from([None, False, False, True]),
        "max_running": st.sampled_from([None, 1, 2]),
        "retention_seconds": st.none()
        | st.fixed_dictionaries({}, optional={status: RETENTION for status in sorted(FINAL_STATUSES)}),
    },
)

_examples = itertools.count()

P = ParamSpec("P")


def repeatable(call: Callable[Concatenate["Calls", P], None]) -> Callable[Concatenate["Calls", P], None]:
    """Return a call that `repeat` can repeat."""

    @functools.wraps(call)
    def remembered(self: "Calls", /, *args: P.args, **kwargs: P.kwargs) -> None:
        self.last = functools.partial(call, self, *args, **kwargs)
        call(self, *args, **kwargs)

    return remembered


class Calls(RuleBasedStateMachine):
    """Calls of every kind for a few jobs; the responses must match the model."""

    def __init__(self, api: httpx.Client) -> None:
        super().__init__()
        self.api = api
        self.contract = ReferenceModel()
        self.name = f"m{next(_examples)}"
        self.created: dict[str, str] = {}
        self.last: Callable[[], None] | None = None

    def id_of(self, job: str) -> str:
        return f"{self.name}-{job}"

    def send(self, method: str, path: str, body: Any = None, key: str | None = None, **headers: str) -> httpx.Response:
        named = {"Idempotency-Key": None if key is None else f"{self.name}-{key}"} | headers
        return self.api.request(method, path, json=body, headers={k: v for k, v in named.items() if v is not None})

    def conditions(self, job_id: str, token: str, version: int | None) -> tuple[dict[str, str], str | None, int | None]:
        """Return headers with a lease token and a version, and the token and the version themselves."""
        job, headers = self.contract.jobs.get(job_id), dict[str, str]()
        lease_token = job.token if token == "last" and job else None if token in {"none", "last"} else token
        if lease_token is not None:
            headers["Lease-Token"] = lease_token
        if version is None or job is None:
            return headers, lease_token, None
        headers["If-Match"] = f'"{self.created[job_id]}-{job.revision + version}"'
        return headers, lease_token, job.revision + version

    def holds(self, response: httpx.Response, expected: Expected) -> None:
        assert response.status_code == expected.status, (response.text, expected)
        if expected.problem:
            assert response.json()["type"] == f"urn:jobstate:problem:{expected.problem}", (response.text, expected)
        if expected.job is not None:
            assert expected.job.differences(response.json()) == []
            assert response.headers["etag"].startswith(f'"{self.created[expected.job.job_id]}-{expected.job.revision}')

    @initialize()
    def begin(self) -> None:
        """Create the jobs, the second one with labels, a priority, a retention, and time-outs that are never over."""
        for job in ("j1", "j2"):
            self.create(job, 1, 2, has_options=job == "j2")

    def create(self, job: str, value: Any, max_attempts: int, *, has_options: bool) -> None:
        job_id, queue = self.id_of(job), f"{self.name}-{'a' if job == 'j1' else 'b'}"
        body = {"job_id": job_id, "queue": queue, "input_params": value, "max_attempts": max_attempts}
        options: dict[str, Any] = {}
        if has_options:
            options = {"start_timeout_seconds": 3600, "run_timeout_seconds": 3600, "retention_seconds": 7200}
            options["priority"] = 3600
            options["labels"] = {"model": self.name, "job": job}
        expected, is_replay = self.contract.create(job_id, queue, value, max_attempts, options)
        response = self.send("POST", "/v1/jobs", body | options)
        if response.status_code == 201 and not is_replay:
            self.created[job_id] = response.headers["etag"].strip('"').partition("-")[0]
        self.holds(response, expected)
        assert ("idempotency-replayed" in response.headers) == is_replay

    @rule(job=JOBS, value=VALUES, max_attempts=st.sampled_from([2, 2, 2, 1]), has_options=st.booleans())
    def create_again(self, job: str, value: Any, max_attempts: int, has_options: bool) -> None:
        self.create(job, value, max_attempts, has_options=has_options)

    @rule()
    def repeat(self) -> None:
        """Repeat the last repeatable call with the same arguments."""
        if self.last is not None:
            self.last()

    @rule()
    def repeat_at_once(self) -> None:
        self.repeat()

    @rule(job=JOBS, key=KEYS, token=TOKENS)
    def start(self, job: str, key: str | None, token: str) -> None:
        self.change(job, {"status": "running"}, key, token, None)

    @rule(job=JOBS, key=KEYS, token=TOKENS, current=st.integers(0, 2))
    def progress(self, job: str, key: str | None, token: str, current: int) -> None:
        self.change(job, {"status": "running", "progress": {"current": current}}, key, token, None)

    @rule(
        job=JOBS, status=st.sampled_from(sorted(FINAL_STATUSES)), value=VALUES, key=KEYS, token=TOKENS, version=VERSIONS
    )
    def end(self, job: str, status: str, value: Any, key: str | None, token: str, version: int | None) -> None:
        content = {"result" if status == "completed" else "error_message": value}
        self.change(job, {"status": status, **content}, key, token, version)

    @rule(job=JOBS, body=CHANGES, key=KEYS, token=TOKENS, version=VERSIONS)
    def change_at_random(
        self, job: str, body: dict[str, Any], key: str | None, token: str, version: int | None
    ) -> None:
        self.change(job, body, key, token, version)

    @repeatable
    def change(self, job: str, body: dict[str, Any], key: str | None, token: str, version: int | None) -> None:
        job_id = self.id_of(job)
        headers, lease_token, if_match = self.conditions(job_id, token, version)
        expected = self.contract.change(job_id, body, key, lease_token, if_match)
        self.holds(self.send("PATCH", f"/v1/jobs/{job_id}", body, key, **headers), expected)

    @rule(job=JOBS, key=KEYS, token=TOKENS, version=VERSIONS)
    @repeatable
    def cancel(self, job: str, key: str | None, token: str, version: int | None) -> None:
        job_id = self.id_of(job)
        headers, lease_token, if_match = self.conditions(job_id, token, version)
        expected = self.contract.cancel(job_id, key, lease_token, if_match)
        self.holds(self.send("POST", f"/v1/jobs/{job_id}/cancel", None, key, **headers), expected)

    @rule(job=JOBS, body=RETRIES, key=KEYS, version=VERSIONS)
    @repeatable
    def retry(self, job: str, body: dict[str, Any], key: str | None, version: int | None) -> None:
        job_id = self.id_of(job)
        headers, _, if_match = self.conditions(job_id, "none", version)
        expected = self.contract.retry(job_id, body, key, if_match)
        self.holds(self.send("POST", f"/v1/jobs/{job_id}/retry", body or None, key, **headers), expected)

    @rule(
        job=JOBS,
        key=st.sampled_from(["k1", "k2"]),
        status=st.sampled_from(["failed", "cancelled"]),
        version=st.sampled_from([0, 0, 1]),
    )
    def retry_and_repeat(self, job: str, key: str, status: str, version: int) -> None:
        """Claim a job, end it, retry it, and send all of it again, also with the former token."""
        self.claim(("a", "b"), 60, None)
        held = self.contract.jobs.get(self.id_of(job))
        former = held.token or "none" if held else "none"
        self.change(job, {"status": status}, key, "last", None)
        self.retry(job, {}, "k3", version)
        for token in ("none", former):
            self.change(job, {"status": status}, key, token, None)
        self.claim(("a", "b"), 60, None)
        self.retry(job, {}, "k3", None)

    @rule(job=JOBS, key=KEYS, version=VERSIONS)
    @repeatable
    def delete(self, job: str, key: str | None, version: int | None) -> None:
        job_id = self.id_of(job)
        headers, _, if_match = self.conditions(job_id, "none", version)
        expected = self.contract.delete(job_id, key, if_match)
        self.holds(self.send("DELETE", f"/v1/jobs/{job_id}", None, key, **headers), expected)

    @rule(queues=QUEUES, lease_seconds=st.sampled_from([60, 60, 61]), key=KEYS)
    @repeatable
    def claim(self, queues: tuple[str, ...], lease_seconds: int, key: str | None) -> None:
        claimed_queues = tuple(f"{self.name}-{queue}" for queue in queues)
        expected = self.contract.claim(claimed_queues, lease_seconds, key)
        body = {"queues": claimed_queues, "worker": "w", "lease_seconds": lease_seconds}
        response = self.send("POST", "/v1/claims", body, key)
        self.holds(response, expected._replace(job=None))
        if (job := expected.job) is not None:
            token = response.json()["lease"]["token"]
            assert job.token in (None, token)
            self.contract.record_claim(job, token, claimed_queues, lease_seconds, key)
            assert job.differences(response.json()["job"]) == []

    @rule()
    def claim_any(self) -> None:
        self.claim(("a", "b"), 60, None)

    @rule(key=st.sampled_from(["k1", "k2"]), queues=QUEUES, lease_seconds=st.sampled_from([60, 61]))
    def claim_twice(self, key: str, queues: tuple[str, ...], lease_seconds: int) -> None:
        """Claim twice with one key, the second time perhaps with other arguments."""
        self.claim(("a", "b"), 60, key)
        self.claim(queues, lease_seconds, key)

    @rule(job=JOBS)
    def fail(self, job: str) -> None:
        """Claim a job and release it with an error."""
        self.claim(("a", "b"), 60, None)
        self.release(job, "last", 1, None)

    @rule(job=JOBS, token=TOKENS, progress=st.none() | st.fixed_dictionaries({"current": st.integers(0, 2)}))
    @repeatable
    def heartbeat(self, job: str, token: str, progress: Any) -> None:
        job_id = self.id_of(job)
        headers, lease_token, _ = self.conditions(job_id, token, None)
        expected = self.contract.heartbeat(job_id, lease_token, progress)
        body = None if progress is None else {"progress": progress}
        response = self.send("POST", f"/v1/jobs/{job_id}/heartbeat", body, **headers)
        self.holds(response, expected)
        if expected.status == 200:
            assert response.json()["cancel_requested"] is self.contract.jobs[job_id].cancel_requested

    @rule(job=JOBS, token=TOKENS, error=st.none() | VALUES, key=KEYS)
    @repeatable
    def release(self, job: str, token: str, error: Any, key: str | None) -> None:
        job_id = self.id_of(job)
        headers, lease_token, _ = self.conditions(job_id, token, None)
        expected = self.contract.release(job_id, lease_token, error, key)
        body = None if error is None else {"error_message": error}
        self.holds(self.send("POST", f"/v1/jobs/{job_id}/release", body, key, **headers), expected)

    @rule(job=JOBS, current=st.integers(0, 2))
    def report_twice(self, job: str, current: int) -> None:
        """Report the same progress twice."""
        self.claim(("a", "b"), 60, None)
        for _ in range(2):
            self.heartbeat(job, "last", {"current": current})

    @rule(job=JOBS, key=st.sampled_from(["k1", "k2"]), status=st.sampled_from(["failed", "cancelled"]))
    def replace(self, job: str, key: str, status: str) -> None:
        """Finish a job, delete and recreate it, and finish it again with the same key."""
        self.change(job, {"status": status}, key, "last", None)
        self.delete(job, None, None)
        self.create(job, 1, 2, has_options=job == "j2")
        self.change(job, {"status": status}, key, "none", None)

    @rule(queue=st.sampled_from("ab"), body=SETTINGS)
    def configure(self, queue: str, body: dict[str, Any] | None) -> None:
        name = f"{self.name}-{queue}"
        expected = self.contract.configure(name, body or {})
        response = self.send("PUT", f"/v1/queues/{name}", body)
        self.shows_queue(response, expected)

    @rule(queue=st.sampled_from("ab"))
    def read_queue(self, queue: str) -> None:
        name = f"{self.name}-{queue}"
        self.shows_queue(self.send("GET", f"/v1/queues/{name}"), self.contract.queue(name))

    def shows_queue(self, response: httpx.Response, expected: dict[str, Any]) -> None:
        assert response.status_code == 200, response.text
        shown = response.json()
        oldest = shown.pop("oldest_due_seconds", None)
        assert shown == expected
        assert (oldest is not None) == (expected["statuses"]["pending"] > 0)

    @rule(job=JOBS)
    def read(self, job: str) -> None:
        job_id = self.id_of(job)
        known = self.contract.jobs.get(job_id)
        expected = Expected(404, "job-not-found") if known is None else Expected(200, job=known)
        response = self.send("GET", f"/v1/jobs/{job_id}")
        self.holds(response, expected)
        if known is not None:
            again = self.send("GET", f"/v1/jobs/{job_id}", **{"If-None-Match": response.headers["etag"]})
            assert again.status_code == 304

    @rule()
    def listing(self) -> None:
        for queue in "ab":
            name = f"{self.name}-{queue}"
            expected = [job for job in self.contract.jobs.values() if job.queue == name]
            listed = self.send("GET", f"/v1/jobs?queue={name}&include=input_params,result").json()["items"]
            assert [job["job_id"] for job in listed] == [job.job_id for job in _newest_first(expected)]
            assert [job.differences(record) for job, record in zip(_newest_first(expected), listed, strict=True)] == [
                [] for _ in listed
            ]

    @rule(labels=st.sampled_from([["model"], ["job"], ["job", "model"]]), job=JOBS)
    def listing_by_labels(self, labels: list[str], job: str) -> None:
        wanted = {"model": self.name, "job": job}
        query = "&".join(f"label={label}:{wanted[label]}" for label in labels)
        listed = self.send("GET", f"/v1/jobs?{query}&label=model:{self.name}").json()["items"]
        expected = [
            one
            for one in self.contract.jobs.values()
            if "labels" in one.options and all(one.options["labels"][label] == wanted[label] for label in labels)
        ]
        assert [record["job_id"] for record in listed] == [one.job_id for one in _newest_first(expected)]

    def teardown(self) -> None:
        stats = self.send("GET", "/v1/stats").json()["queues"]
        for queue in "ab":
            name = f"{self.name}-{queue}"
            statuses = [job.status for job in self.contract.jobs.values() if job.queue == name]
            counted = {status: count for status, count in stats.get(name, {}).items() if count}
            assert counted == {status: statuses.count(status) for status in set(statuses)}
            self.send(
                "PUT", f"/v1/queues/{name}", {"paused": None, "max_running": None, "retention_seconds": None}
            ).raise_for_status()


def _newest_first(jobs: list[ModelJob]) -> list[ModelJob]:
    return sorted(jobs, key=lambda job: job.creation_order, reverse=True)


def test_every_sequence_of_calls_is_answered_as_the_contract_says(api: httpx.Client) -> None:
    run_state_machine_as_test(
        lambda: Calls(api),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize="CONTRACT_EXAMPLES" not in os.environ,
            phases=[phase for phase in Phase if phase is not Phase.shrink or "CONTRACT_UNSHRUNK" not in os.environ],
            suppress_health_check=list(HealthCheck),
        ),
    )
