"""The line-up example without its solver: slates, inputs, and the worker's decisions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import lineup_slate
import pytest
from lineup_service import JobService, RequestRefused
from lineup_slate import InvalidInput, read_request, read_slate
from lineup_worker import Stopped, Worker

SLATES = Path(lineup_slate.__file__).parent / "slates"
SLATE_ID = "pinewood-400"
HEADER = "name,salary,projection,spread\n"


# Slates and inputs


def test_the_slate_of_the_example_keeps_its_promises() -> None:
    drivers = read_slate(SLATES / f"{SLATE_ID}.csv")
    assert len(drivers) == 36
    assert all(4500 <= driver.salary <= 11_500 for driver in drivers)
    assert all(15 <= driver.projection <= 60 and driver.spread > 0 for driver in drivers)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name,salary\n", "slate.csv: the first line must be"),
        (HEADER, "slate.csv: has no drivers"),
        (HEADER + "Ann,5000,20,2\nAnn,5000,20,2\n", "slate.csv: has 'Ann' twice"),
        (HEADER + "Ann,5000,20,2\nBea,free,20,2\n", "slate.csv line 3: salary must be a number, not 'free'"),
        (HEADER + "Ann,5000.5,20,2\n", "slate.csv line 2: salary must be a whole number"),
        (HEADER + "Ann,5000,nan,2\n", "slate.csv line 2: projection must be a number"),
        (HEADER + "Ann,5000,20,-2\n", "slate.csv line 2: spread must not be negative"),
        (HEADER + "Ann,5000,20\n", "slate.csv line 2: spread must be a number, not None"),
        (HEADER + "Ann,5000,20,2,7\n", "slate.csv line 2: must have name,salary"),
        (HEADER + ",5000,20,2\n", "slate.csv line 2: must have name,salary"),
    ],
)
def test_a_wrong_slate_is_refused_with_the_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "slate.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput) as refusal:
        read_slate(path)
    assert str(refusal.value).startswith(problem)


def test_absent_inputs_have_defaults() -> None:
    request = read_request({"slate_id": SLATE_ID}, SLATES)
    assert (request.scenario_count, request.salary_cap, request.roster_size) == (2000, 50_000, 6)
    assert (request.seed, request.top) == (1, 5)


def test_inputs_that_are_given_are_taken() -> None:
    params = {"salary_cap": 40_000, "roster_size": 5, "seed": 7, "top": 1}
    job = {"slate_id": SLATE_ID, "scenario_count": 12, "input_params": params}
    request = read_request(job, SLATES)
    assert {name: getattr(request, name) for name in params} == params
    assert request.scenario_count == 12


@pytest.mark.parametrize("slate_id", [None, 7, "", "nowhere", "../secret", f"{SLATE_ID}.csv", f"./{SLATE_ID}"])
def test_a_slate_that_is_not_among_the_files_is_refused(tmp_path: Path, slate_id: object) -> None:
    (tmp_path / "slates").mkdir()
    (tmp_path / "slates" / f"{SLATE_ID}.csv").write_text(HEADER, encoding="utf-8")
    (tmp_path / "secret.csv").write_text(HEADER + "Ann,5000,20,2\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match=SLATE_ID) as refusal:
        read_request({"slate_id": slate_id}, tmp_path / "slates")
    assert refusal.value.field == "slate_id"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"scenario_count": 0}, "scenario_count"),
        ({"scenario_count": 100_001}, "scenario_count"),
        ({"input_params": None}, "input_params"),
        ({"input_params": []}, "input_params"),
        ({"input_params": {"sead": 1}}, "input_params.sead"),
        ({"input_params": {"seed": -1}}, "input_params.seed"),
        ({"input_params": {"seed": True}}, "input_params.seed"),
        ({"input_params": {"salary_cap": "50000"}}, "input_params.salary_cap"),
        ({"input_params": {"salary_cap": 28_000}}, "input_params.salary_cap"),
        ({"input_params": {"roster_size": 37}}, "input_params.roster_size"),
        ({"input_params": {"top": 1.5}}, "input_params.top"),
    ],
)
def test_a_wrong_input_is_refused_by_name(changed: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        read_request({"slate_id": SLATE_ID, **changed}, SLATES)
    assert refusal.value.field == field
    assert str(refusal.value).startswith(f"{field}: ")


# The worker


class Clock:
    """Time that passes only when somebody waits or works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []
        self.stops_at = 1000.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> bool:
        if seconds:
            self.waits.append(seconds)
        self.now += seconds
        return self.now >= self.stops_at


class FakeRun:
    """Twelve steps of 0.3 seconds each, so that the last one falls due for a report."""

    def __init__(self, clock: Clock) -> None:
        self.total = 12
        self.done = 0
        self._clock = clock

    def advance(self) -> None:
        self.done += 1
        self._clock.now += 0.3

    def result(self) -> dict[str, object]:
        return {"steps": self.done}


Reply = httpx.Response | httpx.TransportError


class FakeService:
    """Two pages of pending jobs, of which `j1` is the oldest; PATCH replies can be scripted."""

    def __init__(self) -> None:
        self.patches: list[httpx.Request] = []
        self.replies: list[Reply] = []
        self.listing: httpx.Response | None = None
        self.taken: set[str] = set()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "PATCH":
            self.patches.append(request)
            return self._scripted() if self.replies else httpx.Response(200, json={})
        job_id = request.url.path.removeprefix("/v1/jobs").removeprefix("/")
        if job_id:
            status = "running" if job_id in self.taken else "pending"
            job = record(job_id) | {"status": status}
            return httpx.Response(200, json=job, headers={"ETag": f'"{job_id}-1"'})
        return self.listing or httpx.Response(200, json=self._page(dict(request.url.params)))

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.patches]

    def keys(self) -> list[str]:
        return [request.headers["Idempotency-Key"] for request in self.patches]

    def _scripted(self) -> httpx.Response:
        reply = self.replies.pop(0)
        if isinstance(reply, httpx.TransportError):
            raise reply
        return reply

    def _page(self, query: dict[str, str]) -> dict[str, Any]:
        assert (query["queue"], query["status"]) == ("lineups", "pending")
        if query.get("cursor") == "more":
            return {"items": [record("j1")]}
        return {"items": [record("j3"), record("j2")], "next_cursor": "more"}


def record(job_id: str) -> dict[str, Any]:
    return {"job_id": job_id, "status": "pending", "slate_id": SLATE_ID}


def moved(status: int, current_status: str | None = None) -> httpx.Response:
    problem = {"type": "illegal-transition", "title": "moved", "current_status": current_status}
    return httpx.Response(status, json=problem)


def away(retry_after: str | None = None) -> httpx.Response:
    return httpx.Response(503, headers={"Retry-After": retry_after} if retry_after else {})


def ok() -> httpx.Response:
    return httpx.Response(200, json={})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def said() -> list[str]:
    return []


Begin = Callable[[Mapping[str, Any]], FakeRun]
Build = Callable[[Begin | None], Worker]


@pytest.fixture
def build(service: FakeService, clock: Clock, said: list[str]) -> Iterator[Build]:
    with httpx.Client(base_url="http://service", transport=httpx.MockTransport(service)) as http:
        yield lambda begin: Worker(
            JobService(http),
            begin or (lambda job: FakeRun(clock)),
            say=said.append,
            pause=clock.pause,
            clock=clock,
        )


@pytest.fixture
def worker(build: Build) -> Worker:
    return build(None)


def test_the_oldest_pending_job_is_taken_and_completed(worker: Worker, service: FakeService) -> None:
    assert worker.work_one()
    take, *_, finish = service.patches
    assert {request.url.path for request in service.patches} == {"/v1/jobs/j1"}
    assert take.headers["If-Match"] == '"j1-1"'
    assert service.bodies()[0] == {"status": "running"}
    assert json.loads(finish.content) == {"status": "completed", "result": {"steps": 12}}


def test_a_job_that_went_to_another_worker_is_left_alone(worker: Worker, service: FakeService) -> None:
    service.replies = [moved(412), moved(409, "running")]
    assert worker.work_one()
    paths = [request.url.path for request in service.patches]
    assert paths[:3] == ["/v1/jobs/j1", "/v1/jobs/j2", "/v1/jobs/j3"]
    assert set(paths[3:]) == {"/v1/jobs/j3"}


def test_a_job_that_was_taken_since_it_was_listed_is_not_even_asked_for(worker: Worker, service: FakeService) -> None:
    service.taken = {"j1"}
    worker.work_one()
    assert {request.url.path for request in service.patches} == {"/v1/jobs/j2"}


def test_without_a_job_to_take_the_worker_waits_a_moment(worker: Worker, service: FakeService, clock: Clock) -> None:
    service.replies = [moved(412), moved(412), moved(404)]
    assert not worker.work_one()
    assert clock.waits == [1.0]


def test_once_means_one_job(worker: Worker, service: FakeService) -> None:
    worker.work(once=True)
    assert [body["status"] for body in service.bodies()].count("completed") == 1


def test_every_change_has_a_key_of_its_own(worker: Worker, service: FakeService) -> None:
    worker.work_one()
    assert len(set(service.keys())) == len(service.patches) > 2


def test_a_change_is_repeated_under_its_key_until_it_is_answered(
    worker: Worker, service: FakeService, clock: Clock, said: list[str]
) -> None:
    service.replies = [httpx.ConnectError("refused"), away(), httpx.ReadTimeout(""), ok()]
    worker.work_one()
    assert len(set(service.keys()[:4])) == 1
    assert service.bodies()[:4] == [{"status": "running"}] * 4
    assert {request.headers["If-Match"] for request in service.patches[:4]} == {'"j1-1"'}
    assert clock.waits == [0.25, 0.5, 1.0]
    assert [line for line in said if line.startswith("service")] == [
        "service away (refused); trying again until it is back",
        "service back after 1.8 s",
    ]


@pytest.mark.parametrize(
    ("asked", "waited"), [("3", 3.0), ("86400", 30.0), ("0", 0.25), ("Fri, 02 Jan 2026 00:00:00 GMT", 0.25)]
)
def test_the_service_says_when_to_come_back_within_bounds(
    worker: Worker, service: FakeService, clock: Clock, asked: str, waited: float
) -> None:
    service.replies = [away(asked)]
    worker.work_one()
    assert clock.waits == [waited]


def test_a_long_outage_is_asked_about_every_few_seconds(worker: Worker, service: FakeService, clock: Clock) -> None:
    service.replies = [away() for _ in range(8)]
    worker.work_one()
    assert clock.waits == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


def test_too_many_requests_and_a_broken_answer_are_outages(worker: Worker, service: FakeService) -> None:
    service.replies = [httpx.Response(429), httpx.Response(500), httpx.Response(200, text="<html>"), ok()]
    worker.work_one()
    assert len(set(service.keys()[:4])) == 1


def test_progress_is_reported_once_a_second_and_never_twice_the_same(worker: Worker, service: FakeService) -> None:
    worker.work_one()
    reports = [body["progress"] for body in service.bodies() if "progress" in body]
    assert reports == [
        {"current": 4, "total": 12, "message": "4 of 12 scenarios"},
        {"current": 8, "total": 12, "message": "8 of 12 scenarios"},
    ]


def test_the_work_goes_on_while_the_service_is_away(worker: Worker, service: FakeService, clock: Clock) -> None:
    service.replies = [ok(), away(), away()]
    worker.work_one()
    assert [body.get("progress", {}).get("current") for body in service.bodies()] == [None, 4, 8, None]
    assert clock.waits == []
    assert service.bodies()[-1]["status"] == "completed"


@pytest.mark.parametrize(
    ("reply", "became"),
    [(moved(409, "cancelled"), "is cancelled meanwhile"), (moved(404), "is gone (404 Not Found: moved)")],
)
def test_a_job_that_was_cancelled_or_deleted_is_dropped_at_the_next_report(
    worker: Worker, service: FakeService, said: list[str], reply: httpx.Response, became: str
) -> None:
    service.replies = [ok(), reply]
    assert worker.work_one()
    assert len(service.patches) == 2
    assert said[-1] == f"dropped j1: it {became}"


def test_a_job_that_was_cancelled_just_before_its_end_stays_cancelled(
    worker: Worker, service: FakeService, said: list[str]
) -> None:
    service.replies = [ok(), ok(), ok(), moved(409, "cancelled")]
    assert worker.work_one()
    assert service.bodies()[-1]["status"] == "completed"
    assert said[-1] == "dropped j1: it is cancelled meanwhile"


def test_a_bad_input_fails_the_job_with_the_field(build: Build, service: FakeService) -> None:
    def begin(job: Mapping[str, Any]) -> FakeRun:
        raise InvalidInput("input_params.seed", "is odd")

    build(begin).work_one()
    assert service.bodies()[-1] == {
        "status": "failed",
        "error_message": {
            "type": "invalid-input",
            "message": "input_params.seed: is odd",
            "field": "input_params.seed",
        },
    }


def test_work_that_raises_fails_the_job(build: Build, service: FakeService, capsys: pytest.CaptureFixture[str]) -> None:
    def begin(job: Mapping[str, Any]) -> FakeRun:
        raise RuntimeError("no best line-up")

    build(begin).work_one()
    error = {"type": "worker-error", "message": "RuntimeError: no best line-up"}
    assert service.bodies()[-1] == {"status": "failed", "error_message": error}
    assert "Traceback" in capsys.readouterr().err


def test_a_result_that_the_service_refuses_fails_the_job(worker: Worker, service: FakeService) -> None:
    service.replies = [ok(), ok(), ok(), httpx.Response(413, json={"title": "too large"})]
    worker.work_one()
    assert service.bodies()[-1]["error_message"]["type"] == "outcome-refused"
    assert "too large" in service.bodies()[-1]["error_message"]["message"]
    assert service.keys()[-1] != service.keys()[-2]


def test_a_worker_told_to_end_marks_nothing(
    worker: Worker, service: FakeService, clock: Clock, said: list[str]
) -> None:
    clock.stops_at = 2.0
    with pytest.raises(Stopped):
        worker.work_one()
    assert {body["status"] for body in service.bodies()} == {"running"}
    assert said[-1].startswith("leaving j1 unfinished")


def test_a_worker_ends_in_the_middle_of_an_outage(worker: Worker, service: FakeService, clock: Clock) -> None:
    service.replies = [ok(), *(away() for _ in range(50))]
    clock.stops_at = 10.0
    with pytest.raises(Stopped):
        worker.work_one()


def test_a_service_that_refuses_the_listing_ends_the_worker(worker: Worker, service: FakeService) -> None:
    service.listing = httpx.Response(400, json={"title": "unknown field"})
    with pytest.raises(RequestRefused, match="400 Bad Request: unknown field"):
        worker.work()
