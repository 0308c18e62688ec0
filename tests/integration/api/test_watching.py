"""Long polls and event streams over HTTP, with one process and with several."""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.store.events.reader import EVENTS_KEPT
from service.store.events.sources import POLL_INTERVAL
from tests.helpers.background import Outcomes, in_background
from tests.helpers.cluster_clients import sync_clients, sync_command_calls
from tests.helpers.deployments import DEPLOYMENT, reads_events, sync_client
from tests.helpers.partitions import PARTITIONS
from tests.helpers.polling import wait_until
from tests.helpers.redis_servers import NewRedis, RedisServer
from tests.helpers.service_process import Service
from tests.helpers.sse_clients import SseClient, open_clients
from tests.integration.server.test_limits import connect

pytestmark = pytest.mark.usefixtures("consistent_store")

Poll = Callable[..., Future[httpx.Response]]
#: The events of the partition of the job `a`.
EVENTS = PARTITIONS.of("a").events


def create(api: httpx.Client, job_id: str = "j", **fields: Any) -> None:
    response = api.post("/v1/jobs", json={"job_id": job_id, "input_params": {"a": 1}, **fields})
    assert response.status_code == 201, response.text


def create_before(api: httpx.Client, job_id: str) -> None:
    """Create a job, and return when the service has read its event: no stream begins with it. A cluster is polled."""
    with watch(api, "/v1/events") as watcher:
        wait_for_events(watcher, 1)
        create(api, job_id)
        watcher.wait_until(lambda events: events[-1].json().get("job_id") == job_id)


def update(api: httpx.Client, status: str, job_id: str = "j", **fields: Any) -> None:
    api.patch(f"/v1/jobs/{job_id}", json={"status": status, **fields}).raise_for_status()


def finish(api: httpx.Client, job_id: str = "j") -> None:
    update(api, "running", job_id)
    update(api, "completed", job_id)


def watch(
    api: httpx.Client, path: str = "/v1/jobs/j/events", last_event_id: str | None = None, **query: str
) -> SseClient:
    return SseClient(str(api.base_url), path, last_event_id, **query)


def wait_for_events(watcher: SseClient, number: int) -> None:
    watcher.wait_until(lambda events: len(events) >= number, f"{number} events")


class TestOneJob:
    def test_its_stream_ends_with_its_final_status(self, api: httpx.Client) -> None:
        create(api, slate_id="s")
        with watch(api) as watcher:
            wait_for_events(watcher, 1)
            update(api, "running")
            wait_for_events(watcher, 2)
            update(api, "completed", result={"large": "x"})
            watcher.wait_until_closed()
        assert watcher.types_and_statuses == [("changed", "pending"), ("changed", "running"), ("changed", "completed")]
        assert f'"{watcher.ids[-1]}"' == api.get("/v1/jobs/j").headers["etag"]
        record = api.get("/v1/jobs/j").json()
        del record["input_params"], record["result"]
        assert watcher.events[-1].json() == record

    def test_a_client_that_has_the_final_status_gets_204(self, api: httpx.Client) -> None:
        create(api)
        update(api, "failed", error_message="why")
        with watch(api) as seen:
            assert seen.wait_until_closed().types_and_statuses == [("changed", "failed")]
        assert seen.events[0].json()["error_message"] == "why"
        with watch(api, last_event_id=seen.ids[0]) as again:
            assert (again.response.status_code, again.response.read()) == (204, b"")

    def test_a_reconnecting_client_receives_only_new_changes(self, api: httpx.Client) -> None:
        create(api)
        with watch(api) as before:
            wait_for_events(before, 1)
        with watch(api, last_event_id=before.ids[0]) as after:
            update(api, "running")
            wait_for_events(after, 1)
            assert after.types_and_statuses == [("changed", "running")]

    def test_an_unknown_one_is_not_found(self, api: httpx.Client) -> None:
        with watch(api) as watcher:
            assert watcher.response.status_code == 404
            assert "job-not-found" in watcher.response.read().decode()

    def test_line_breaks_in_json_do_not_break_an_event(self, api: httpx.Client) -> None:
        create(api)
        for text in ('{"status": "failed", "error_message": {\n\n"event":\r\n\r\n"x"\r, "y": "\u2028\\n"}}',):
            api.patch("/v1/jobs/j", content=text, headers={"Content-Type": "application/json"}).raise_for_status()
        with watch(api) as watcher:
            watcher.wait_until_closed()
        assert watcher.types_and_statuses == [("changed", "failed")]
        assert watcher.events[0].json()["error_message"] == {"event": "x", "y": "\u2028\n"}

    def test_a_key_of_the_wrong_type_does_not_affect_other_watchers(self, api: httpx.Client, redis_url: str) -> None:
        create(api)
        with sync_client(redis_url) as redis:
            wrong = PARTITIONS.of("wrong").job("wrong")
            redis.set(wrong, "x")
            with ThreadPoolExecutor(20) as pool:
                answers = list(pool.map(lambda n: api.get(f"/v1/jobs/{('wrong', 'j')[n % 2]}?wait=1"), range(20)))
            redis.delete(wrong)
        assert {(n % 2, answer.status_code) for n, answer in enumerate(answers)} == {(0, 500), (1, 200)}

    def test_every_one_of_many_watchers_receives_the_change(self, api: httpx.Client) -> None:
        create(api)
        watchers = [watch(api) for _ in range(30)]
        with open_clients(*watchers):
            finish(api)
            assert {tuple(watcher.wait_until_closed().types_and_statuses)[-1] for watcher in watchers} == {
                ("changed", "completed")
            }


@pytest.fixture
def poll(api: httpx.Client) -> Iterator[Poll]:
    """Send GET from a thread."""
    with ThreadPoolExecutor(8) as pool:

        def poll(path: str = "/v1/jobs/j?wait=20", **headers: str) -> Future[httpx.Response]:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return pool.submit(api.get, path, headers=named, timeout=40)

        yield poll


class TestLongPoll:
    def test_it_responds_as_soon_as_the_job_changes(self, api: httpx.Client, poll: Poll) -> None:
        create(api)
        for options in ({}, {"If_None_Match": "etag"}, {"path": "/v1/jobs/j", "Prefer": "respond-async, wait=20"}):
            etag = api.get("/v1/jobs/j").headers["etag"]
            answer = poll(**{name: etag if value == "etag" else value for name, value in options.items()})
            wait_for_waiting(api, 1)
            update(api, "running", progress={"current": int(time.time() * 1000)})
            found = answer.result(10)
            assert (found.status_code, found.json()["status"]) == (200, "running")
            assert found.json()["input_params"] == {"a": 1}
            assert found.headers["etag"] == api.get("/v1/jobs/j").headers["etag"]

    def test_it_responds_at_once_to_another_etag_and_for_a_finished_job(self, api: httpx.Client, poll: Poll) -> None:
        create(api)
        started = time.monotonic()
        assert poll(If_None_Match='"1-1"').result(10).status_code == 200
        finish(api)
        assert poll().result(10).json()["status"] == "completed"
        etag = api.get("/v1/jobs/j").headers["etag"]
        assert poll(If_None_Match=etag).result(10).status_code == 304
        assert poll("/v1/jobs/nobody?wait=20").result(10).status_code == 404
        assert time.monotonic() - started < 10

    def test_it_waits_while_the_etag_is_one_of_if_none_match(self, api: httpx.Client, poll: Poll) -> None:
        create(api)
        etag = api.get("/v1/jobs/j").headers["etag"]
        next_one = etag.replace("-1", "-2")
        for tags in (f"{etag}, {next_one}", "*"):
            answer = poll("/v1/jobs/j?wait=2", If_None_Match=tags)
            wait_for_waiting(api, 1)
            started = time.monotonic()
            update(api, "running", progress={"current": int(time.time() * 1000)})
            assert answer.result(10).status_code == 304
            assert time.monotonic() - started > 1

    def test_after_the_wait_an_unchanged_job_is_returned_or_304(self, api: httpx.Client, poll: Poll) -> None:
        create(api)
        etag = api.get("/v1/jobs/j").headers["etag"]
        started = time.monotonic()
        plain, conditional = poll("/v1/jobs/j?wait=1"), poll("/v1/jobs/j?wait=1", If_None_Match=etag)
        assert (plain.result(10).status_code, plain.result().json()["status"]) == (200, "pending")
        assert conditional.result(10).status_code == 304
        assert time.monotonic() - started >= 1

    @pytest.mark.parametrize(
        ("prefer", "applied"),
        [
            ("wait=1", "wait=1"),
            ('foo; bar=1, Wait="1"', "wait=1"),
            ("waiting=3", None),
            ("wait=x", None),
            ("wait=0", "wait=0"),
        ],
    )
    def test_the_response_shows_whether_a_preference_was_applied(
        self, api: httpx.Client, prefer: str, applied: str | None
    ) -> None:
        create(api)
        assert api.get("/v1/jobs/j", headers={"Prefer": prefer}).headers.get("preference-applied") == applied

    def test_a_wait_that_is_too_long_is_rejected_in_the_query_and_clamped_in_prefer(self, api: httpx.Client) -> None:
        create(api)
        update(api, "failed")
        rejected = api.get("/v1/jobs/j?wait=31")
        assert (rejected.status_code, rejected.json()["errors"][0]["field"]) == (400, "wait")
        assert api.get("/v1/jobs/j", headers={"Prefer": "wait=100000"}).headers["preference-applied"] == "wait=30"


def wait_for_waiting(api: httpx.Client, requests: int) -> None:
    """Return when this many requests wait."""

    def found() -> bool:
        lines = api.get("/metrics").text.splitlines()
        return f"jobstate_http_requests_waiting {requests}.0" in lines

    wait_until(found, f"{requests} waiting requests")


class TestAllJobs:
    def test_every_change_is_streamed_once_and_in_order(self, api: httpx.Client) -> None:
        with watch(api, "/v1/events") as watcher:
            wait_for_events(watcher, 1)
            create(api, "a", slate_id="s", queue="q")
            create(api, "b")
            update(api, "failed", "a")
            api.delete("/v1/jobs/a").raise_for_status()
            wait_for_events(watcher, 5)
        assert [(e.event, e.json().get("job_id"), e.json().get("revision")) for e in watcher.events] == [
            ("hello", None, None),
            *(("changed", "a", 1), ("changed", "b", 1), ("changed", "a", 2), ("deleted", "a", 3)),
        ]
        event = watcher.events[1].json()
        assert event.pop("at")[:20] == event.pop("created_at")[:20]
        assert event == {"job_id": "a", "status": "pending", "revision": 1, "queue": "q", "slate_id": "s"}
        assert len(set(watcher.ids)) == 5

    @pytest.mark.parametrize(
        "wanted", [{"queue": "q"}, {"slate_id": "s"}, {"status": "failed"}, {"queue": "q", "status": "failed"}]
    )
    def test_filters_are_anded(self, api: httpx.Client, wanted: dict[str, str]) -> None:
        with watch(api, "/v1/events", **wanted) as watcher:
            create(api, "a", slate_id="s", queue="q")
            create(api, "b", slate_id="t")
            for job_id in "ab":
                update(api, "failed", job_id)
            create(api, "last", queue="q", slate_id="s")
            update(api, "failed", "last")
            watcher.wait_until(lambda events: any(e.json().get("job_id") == "last" for e in events))
            watcher.wait_until(lambda events: events[-1].json().get("status") == "failed")
        jobs = {"a": {"queue": "q", "slate_id": "s"}, "b": {"slate_id": "t"}, "last": {"queue": "q", "slate_id": "s"}}
        happened = [("a", "pending"), ("b", "pending"), ("a", "failed"), ("b", "failed"), ("last", "pending")]
        assert [(e.json()["job_id"], e.json()["status"]) for e in watcher.events[1:]] == [
            (job_id, status)
            for job_id, status in [*happened, ("last", "failed")]
            if all({**jobs[job_id], "status": status}.get(name) == value for name, value in wanted.items())
        ]

    def test_a_reconnecting_client_receives_missed_events_once(self, api: httpx.Client) -> None:
        with watch(api, "/v1/events") as before:
            create(api, "a")
            wait_for_events(before, 2)
        for number in range(700):  # more than one read of the history returns
            create(api, f"j{number}")
        with watch(api, "/v1/events", last_event_id=before.ids[-1]) as after:
            wait_for_events(after, 701)
            create(api, "b")
            wait_for_events(after, 702)
        assert [e.json().get("job_id") for e in after.events] == [None, *(f"j{n}" for n in range(700)), "b"]
        assert after.ids[0] == before.ids[-1]

    def test_since_starts_the_stream_in_the_past(self, api: httpx.Client) -> None:
        beginning = api.get("/v1/stats").json()["at"]
        time.sleep(0.01)
        create(api, "a")
        create(api, "b")
        time.sleep(0.01)
        moment = api.get("/v1/stats").json()["at"]
        create(api, "c")
        for since, jobs in ((moment, ["c"]), (beginning.replace("Z", "+00:00"), ["a", "b", "c"])):
            with watch(api, "/v1/events", since=since) as watcher:
                wait_for_events(watcher, 1 + len(jobs))
                create(api, f"after-{len(jobs)}")
                last = f"after-{len(jobs)}"
                watcher.wait_until(lambda events, last=last: events[-1].json().get("job_id") == last)
            assert watcher.events[0].event == "hello"
            assert [e.json()["job_id"] for e in watcher.events[1:]][: len(jobs)] == jobs

    def test_since_before_the_oldest_event_gets_reset(self, api: httpx.Client, redis_url: str) -> None:
        entry = {"event": "changed", "job_id": "j", "status": "pending", "revision": 1, "queue": "q", "created": 1}
        with sync_client(redis_url) as redis:
            redis.delete(EVENTS)
            for start in range(0, EVENTS_KEPT, 5000):
                with redis.pipeline(transaction=False) as pipe:
                    for number in range(start, start + 5000):
                        pipe.xadd(EVENTS, entry, id=f"{number + 1}-0")
                    pipe.execute()
            with watch(api, "/v1/events", since="1970-01-01T00:00:00Z") as watcher:
                wait_for_events(watcher, 3)
            with watch(api, "/v1/events") as last:  # until the service has noticed the loss, for the next test
                wait_for_events(last, 1)
                redis.delete(EVENTS)
                create(api, "a")
                last.wait_until(lambda events: any(event.event == "reset" for event in events))
        assert [event.event for event in watcher.events[:3]] == ["hello", "reset", "changed"]

    @pytest.mark.parametrize("since", ["yesterday", "2026-01-01", "2026-01-01T00:00:00", "12345"])
    def test_an_invalid_since_is_rejected(self, api: httpx.Client, since: str) -> None:
        rejected = api.get("/v1/events", params={"since": since})
        assert (rejected.status_code, rejected.json()["errors"][0]["field"]) == (400, "since")

    @pytest.mark.parametrize("position", ["5-5", "9999999999999-0"], ids=["too old", "too new"])
    def test_a_position_outside_the_history_gets_reset(self, api: httpx.Client, position: str) -> None:
        create_before(api, "a")
        with watch(api, "/v1/events", last_event_id=position) as watcher:
            wait_for_events(watcher, 2)
            create(api, "b")
            wait_for_events(watcher, 3)
        assert [event.event for event in watcher.events] == ["hello", "reset", "changed"]
        assert watcher.events[2].json()["job_id"] == "b"

    @pytest.mark.parametrize("is_closed", [True, False], ids=["connection closed", "connection kept"])
    def test_a_lost_history_resets_the_stream(self, api: httpx.Client, redis_url: str, is_closed: bool) -> None:
        create_before(api, "a")
        with watch(api, "/v1/events") as watcher, sync_client(redis_url) as redis:
            wait_for_events(watcher, 1)
            redis.delete(EVENTS)  # as after the restore of an older file
            if is_closed:
                redis.client_kill_filter(_type="normal", skipme=True)
            wait_for_events(watcher, 2)
            create(api, "b")
            wait_for_events(watcher, 3)
        assert [event.event for event in watcher.events] == ["hello", "reset", "changed"]

    def test_a_closed_connection_to_redis_loses_no_event(self, api: httpx.Client, redis_url: str) -> None:
        create_before(api, "a")
        with watch(api, "/v1/events") as watcher, sync_client(redis_url) as redis:
            wait_for_events(watcher, 1)
            for number in range(5):
                redis.client_kill_filter(_type="normal", skipme=True)
                create(api, f"j{number}")
            wait_for_events(watcher, 6)
        assert [e.json().get("job_id") for e in watcher.events] == [None, *(f"j{n}" for n in range(5))]


@pytest.fixture
def fresh(spare_url: str, tmp_path: Path) -> Iterator[Service]:
    """A new service, which does not reap yet, on its own database."""
    with Service(tmp_path, REDIS_URL=spare_url, SHUTDOWN_DRAIN_SECONDS="1") as service:
        yield service


def test_a_watcher_of_one_replica_receives_changes_made_through_another(
    api: httpx.Client, redis_url: str, tmp_path: Path
) -> None:
    create(api)
    with Service(tmp_path, REDIS_URL=redis_url, JOBSTATE_WORKERS="2") as replica:
        watchers = [SseClient(replica.url, "/v1/jobs/j/events") for _ in range(6)]
        everything = [SseClient(replica.url, "/v1/events") for _ in range(6)]
        with open_clients(*watchers, *everything):
            for watcher in (*watchers, *everything):
                wait_for_events(watcher, 1)
            update(api, "failed")
            for watcher in watchers:
                assert watcher.wait_until_closed().types_and_statuses[-1] == ("changed", "failed")
            for watcher in everything:
                wait_for_events(watcher, 2)


def test_a_stopping_process_ends_streams_with_bye(fresh: Service) -> None:
    with httpx.Client(base_url=fresh.url, timeout=40) as api, ThreadPoolExecutor(1) as pool:
        create(api)
        polled = pool.submit(httpx.get, f"{fresh.url}/v1/jobs/j?wait=30", timeout=40)
        with watch(api) as one, watch(api, "/v1/events") as every:
            wait_for_waiting(api, 3)
            started = time.monotonic()
            fresh.process.send_signal(signal.SIGTERM)
            for watcher in (one, every):
                watcher.wait_until_closed()
                assert (watcher.events[-1].event, watcher.events[-1].json()) == ("bye", {"reason": "shutdown"})
            assert (polled.result(10).status_code, polled.result().json()["status"]) == (200, "pending")
    assert fresh.process.wait(10) == 0
    assert time.monotonic() - started < 5


def test_a_stopping_process_rejects_long_polls(fresh: Service) -> None:
    with httpx.Client(base_url=fresh.url, timeout=40) as api:
        create(api)
        claim = {"queues": ["default"], "worker": "w", "lease_seconds": 5}
        api.post("/v1/claims", json=claim).raise_for_status()
        fresh.process.send_signal(signal.SIGTERM)
        wait_until(lambda: api.get("/ready").status_code == 503, "the shutdown")
        rejected = api.get("/v1/jobs/j?wait=30")
        assert (rejected.status_code, rejected.json()["type"]) == (503, "urn:jobstate:problem:draining")
        assert rejected.json()["detail"].startswith("This process is shutting down.")
        assert (rejected.headers["connection"], rejected.headers["retry-after"]) == ("close", "1")
        assert api.get("/v1/jobs/j").status_code == 200


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def test_a_waiting_request_ends_when_its_client_pipelines_another_one(fresh: Service) -> None:
    with httpx.Client(base_url=fresh.url) as api:
        create(api)
        waiting, other = (
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for path in ("/v1/events", "/health")
        )
        with connect(fresh) as at_once:
            at_once.sendall(waiting + other)
            assert b" 400 " in at_once.recv(4096)
        with connect(fresh) as later:
            later.sendall(waiting)
            wait_for_waiting(api, 1)
            later.sendall(other)
            wait_for_waiting(api, 0)
        assert "Exception in ASGI" not in fresh.log


def readers(redis: Any) -> list[int]:
    """Return how many connections of `fresh` to each Redis read events."""
    database = "0" if DEPLOYMENT == "cluster" else "2"
    return [sum(reads_events(one) for one in of_node if one["db"] == database) for of_node in sync_clients(redis)]


def reads_no_events(redis: Any) -> bool:
    """Return whether no connection of `fresh` waits for events, or polls a cluster for them."""
    if DEPLOYMENT == "cluster":
        before = sync_command_calls(redis)["xrange"]
        time.sleep(10 * POLL_INTERVAL)
        return sync_command_calls(redis)["xrange"] == before
    return readers(redis) == [0]


def test_one_connection_to_each_redis_serves_all_watchers_and_waiting_claims(fresh: Service, spare_url: str) -> None:
    with httpx.Client(base_url=fresh.url) as api, ThreadPoolExecutor(4) as pool:
        create(api)
        claim = {"queues": ["empty"], "worker": "w", "wait_seconds": 6}
        watchers = [watch(api, path) for path in ("/v1/jobs/j/events", "/v1/events") for _ in range(10)]
        with open_clients(*watchers), sync_client(spare_url, decode_responses=True) as redis:
            wait_for_waiting(api, 20)
            claims = [pool.submit(httpx.post, f"{fresh.url}/v1/claims", json=claim, timeout=40) for _ in range(4)]
            wait_for_waiting(api, 24)
            found = wait_until(lambda: all(now := readers(redis)) and now, "it")
            assert found == [1] * len(found)
        assert {claim.result(20).status_code for claim in claims} == {204}
        wait_for_waiting(api, 0)


def test_without_watchers_no_connection_reads_events(fresh: Service, spare_url: str) -> None:
    with httpx.Client(base_url=fresh.url) as api, sync_client(spare_url, decode_responses=True) as redis:
        with watch(api, "/v1/events") as watcher:
            wait_for_events(watcher, 1)
        wait_until(lambda: reads_no_events(redis), "the end")


def test_watchers_have_limits_of_their_own_per_client_and_in_total(spare_url: str, tmp_path: Path) -> None:
    limits = {"MAX_WAITING_REQUESTS": "3", "MAX_WATCHERS_PER_CLIENT": "2", "MAX_CONCURRENT_REQUESTS": "2"}
    with (
        Service(tmp_path, REDIS_URL=spare_url, **limits) as service,
        httpx.Client(base_url=service.url) as api,
    ):
        create(api)
        claim = {"queues": ["empty"], "worker": "w", "wait_seconds": 20}
        with ThreadPoolExecutor(1) as pool, watch(api, "/v1/events"):
            with watch(api):
                wait_for_waiting(api, 2)
                for path in ("/v1/events", "/v1/jobs/j/events", "/v1/jobs/j?wait=1"):
                    rejected = api.get(path)
                    assert (rejected.status_code, rejected.headers["retry-after"]) == (429, "1")
                    assert rejected.json()["type"] == "urn:jobstate:problem:too-many-watchers"
                    assert "MAX_WATCHERS_PER_CLIENT" in rejected.json()["detail"]
                waiting = pool.submit(httpx.post, f"{service.url}/v1/claims", json=claim, timeout=40)
                wait_for_waiting(api, 3)
                full = api.post("/v1/claims", json=claim)
                assert (full.status_code, full.json()["type"]) == (503, "urn:jobstate:problem:overloaded")
                assert "MAX_WAITING_REQUESTS" in full.json()["detail"]
                assert api.get("/v1/jobs/j").status_code == 200
            wait_for_waiting(api, 2)
            assert api.get("/v1/jobs/j?wait=1").status_code == 200
            create(api, "late", queue="empty")
            assert waiting.result(10).status_code == 200
            api.post("/v1/jobs/late/cancel", headers={"Lease-Token": waiting.result().json()["lease"]["token"]})


@contextmanager
def serving(new_redis: NewRedis, folder: Path, **settings: str) -> Iterator[tuple[RedisServer, httpx.Client]]:
    """A Redis of its own, and a client of a service on it, which does not reap yet."""
    redis = new_redis()
    with (
        Service(folder, REDIS_URL=f"redis://127.0.0.1:{redis.port}/0", **settings) as service,
        httpx.Client(base_url=service.url, timeout=40) as api,
    ):
        yield redis, api


def lease_expires_under_a_stream(new_redis: NewRedis, tmp_path: Path) -> None:
    with serving(new_redis, tmp_path, SHUTDOWN_DRAIN_SECONDS="1") as (_, api):
        create(api)
        claim = {"queues": ["default"], "worker": "w", "lease_seconds": 5}
        api.post("/v1/claims", json=claim).raise_for_status()
        with watch(api) as watcher:
            wait_for_events(watcher, 2)
    assert [(event.json()["revision"], event.json()["stale"]) for event in watcher.events] == [
        (2, False),
        (2, True),
    ]
    assert watcher.ids[1] == f"{watcher.ids[0]}-stale"


def job_expires_under_a_stream(new_redis: NewRedis, tmp_path: Path) -> None:
    with serving(new_redis, tmp_path, JOB_TTL_SECONDS="2") as (_, api):
        create(api)
        with watch(api) as watcher:
            watcher.wait_until_closed()
    assert watcher.types_and_statuses == [("changed", "pending"), ("expired", "pending")]
    assert watcher.ids[1] == watcher.ids[0], "the event has no revision of its own"
    assert "revision" not in watcher.events[1].json()


def lease_expires_under_a_long_poll(new_redis: NewRedis, tmp_path: Path) -> None:
    with serving(new_redis, tmp_path, SHUTDOWN_DRAIN_SECONDS="1") as (_, api):
        create(api)
        api.post("/v1/claims", json={"queues": ["default"], "worker": "w", "lease_seconds": 5}).raise_for_status()
        found = api.get("/v1/jobs/j?wait=30")
    assert (found.json()["stale"], found.json()["revision"]) == (True, 2)


def redis_restarts_under_streams(new_redis: NewRedis, tmp_path: Path) -> None:
    with serving(new_redis, tmp_path) as (redis, api):
        create(api)
        with watch(api) as one, watch(api, "/v1/events") as every:
            wait_for_events(one, 1)
            wait_for_events(every, 1)
            redis.kill()
            rejected = api.get("/v1/jobs/j?wait=20", timeout=4)
            assert rejected.status_code == 503
            with watch(api, "/v1/events") as rejected_stream:
                assert rejected_stream.response.status_code == 503
            for path, last_event_id in (("/v1/events", "1-1"), ("/v1/jobs/j/events", "1-1")):
                with watch(api, path, last_event_id) as later:  # an `EventSource` takes a 503 for the end
                    later.wait_until_closed()
                    assert later.events[-1].event == "bye"
                    assert later.events[-1].json()["reason"].startswith("store-")
            redis.start()
            wait_until(lambda: api.get("/ready").status_code == 200, "Redis")
            update(api, "failed")
            one.wait_until_closed()
            wait_for_events(every, 2)
        assert one.types_and_statuses == [("changed", "pending"), ("changed", "failed")]
        assert every.types_and_statuses == [("hello", ""), ("changed", "failed")]


@pytest.fixture(scope="module", autouse=True)
def waiting(request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    """The outcomes of the last four tests."""
    with in_background(
        request,
        test_an_expired_lease_is_streamed=lease_expires_under_a_stream,
        test_the_expiry_of_a_job_is_streamed=job_expires_under_a_stream,
        test_an_expired_lease_ends_a_long_poll=lease_expires_under_a_long_poll,
        test_streams_survive_a_restart_of_redis=redis_restarts_under_streams,
    ) as outcomes:
        yield outcomes


def test_an_expired_lease_is_streamed(waiting: Outcomes) -> None:
    waiting["test_an_expired_lease_is_streamed"].result()


def test_the_expiry_of_a_job_is_streamed(waiting: Outcomes) -> None:
    waiting["test_the_expiry_of_a_job_is_streamed"].result()


def test_an_expired_lease_ends_a_long_poll(waiting: Outcomes) -> None:
    waiting["test_an_expired_lease_ends_a_long_poll"].result()


def test_streams_survive_a_restart_of_redis(waiting: Outcomes) -> None:
    waiting["test_streams_survive_a_restart_of_redis"].result()
