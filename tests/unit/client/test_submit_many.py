"""`submit_many` over scripted transports: what is sent, and what is sent again."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from jobstate import Jobs, NewJob, RetryPolicy, _batches, errors
from tests.helpers.records import record_fields
from tests.unit.client.test_clients import FAST, sync_client

DRAINING = {"type": "urn:jobstate:problem:draining", "title": "", "status": 503, "detail": "no"}
EXISTS = {"type": "urn:jobstate:problem:job-exists", "title": "", "status": 409, "detail": "no"}
CORRUPT = {"type": "urn:jobstate:problem:store-corrupt", "title": "", "status": 500, "detail": "no"}
FAST_THREE = RetryPolicy(first_delay=0.001, max_delay=0.001, max_attempts=3)
Item = dict[str, Any]


def created(job_id: str) -> Item:
    return {"job": record_fields("pending", job_id=job_id), "replayed": False}


def responding(*outcomes: list[Item]) -> tuple[Callable[[httpx.Request], httpx.Response], list[httpx.Request]]:
    """Return a function that responds with the items of each batch in turn, and the requests."""
    left, requests = list(outcomes), list[httpx.Request]()

    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"items": left.pop(0)})

    return respond, requests


def keys(requests: list[httpx.Request]) -> list[str]:
    return [request.headers["idempotency-key"] for request in requests]


def test_a_job_is_sent_as_it_is_given_without_absent_fields() -> None:
    respond, requests = responding([created("a")])
    job: NewJob = {"input_params": msgspec.Raw(b'{"n": 1.10}'), "id": "a", "queue": None, "labels": {"x": "y"}}
    with sync_client(respond) as jobs:
        assert [one.id for one in jobs.submit_many([job])] == ["a"]
    assert requests[0].content == b'{"jobs":[{"input_params":{"n": 1.10},"labels":{"x":"y"},"job_id":"a"}]}'


def test_what_was_not_created_for_now_is_sent_again_under_the_same_key() -> None:
    respond, requests = responding([created("a"), {"problem": DRAINING}], [created("a"), created("b")])
    with sync_client(respond) as jobs:
        assert [one.id for one in jobs.submit_many([{"input_params": 1}, {"input_params": 2}])] == ["a", "b"]
    assert len(set(keys(requests))) == 1
    assert requests[0].content == requests[1].content


def test_the_last_problem_is_raised_when_the_time_is_over() -> None:
    respond, _ = responding(*[[{"problem": DRAINING}]] * 3)
    with (
        Jobs("http://service", transport=httpx.MockTransport(respond), retry=FAST_THREE) as jobs,
        pytest.raises(errors.ServiceUnavailable, match="draining"),
    ):
        jobs.submit_many([{"input_params": 1}])


def test_many_jobs_are_several_requests_with_keys_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_batches, "MAX_JOBS", 2)
    respond, requests = responding([created("a"), {"problem": EXISTS}], [created("c")])
    made: list[NewJob] = [{"input_params": number} for number in range(3)]
    with sync_client(respond) as jobs:
        results = jobs.submit_many(made, idempotency_key="k", return_exceptions=True)
    assert [type(one).__name__ for one in results] == ["JobHandle", "JobExists", "JobHandle"]
    assert keys(requests)[0] == "k"
    assert len(set(keys(requests))) == 2
    assert all(len(key) <= 255 for key in keys(requests))
    assert [len(json.loads(request.content)["jobs"]) for request in requests] == [2, 1]


def test_large_jobs_are_several_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_batches, "MAX_BYTES", 60)
    respond, requests = responding([created("a")], [created("b"), created("c")])
    with sync_client(respond) as jobs:
        jobs.submit_many([{"input_params": "x" * 100}, {"input_params": 1}, {"input_params": 2}])
    assert [len(json.loads(request.content)["jobs"]) for request in requests] == [1, 2]


def test_an_unknown_field_and_what_is_not_json_are_refused_before_anything_is_sent() -> None:
    respond, requests = responding()
    with sync_client(respond) as jobs:
        with pytest.raises(TypeError, match="unknown argument `colour`"):
            jobs.submit_many([{"input_params": 1}, {"input_params": 1, "colour": 2}])  # type: ignore[typeddict-unknown-key]
        with pytest.raises(TypeError):
            jobs.submit_many([{"input_params": 1}, {"input_params": object()}])
        with pytest.raises(TypeError, match="no `input_params`"):
            jobs.submit_many([{"queue": "q"}])  # type: ignore[typeddict-item]
    assert requests == []


def test_a_job_whose_key_is_corrupt_keeps_no_other() -> None:
    respond, requests = responding([created("a"), {"problem": CORRUPT}])
    with sync_client(respond) as jobs:
        first, second = jobs.submit_many([{"input_params": 1}, {"input_params": 2}], return_exceptions=True)
    assert (type(first).__name__, type(second).__name__, len(requests)) == ("JobHandle", "StoreCorrupt", 1)


def test_what_was_created_is_returned_also_if_the_rest_is_refused_until_the_end() -> None:
    respond, requests = responding(*[[created("a"), {"problem": DRAINING}]] * 3)
    with Jobs("http://service", transport=httpx.MockTransport(respond), retry=FAST_THREE) as jobs:
        first, second = jobs.submit_many([{"input_params": 1}, {"input_params": 2}], return_exceptions=True)
    assert (type(first).__name__, type(second).__name__, len(requests)) == ("JobHandle", "Draining", 3)


def test_a_request_that_is_refused_loses_no_handle_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_batches, "MAX_JOBS", 1)
    left = [
        httpx.Response(200, json={"items": [created("a")]}),
        httpx.Response(
            400,
            json={"type": "urn:jobstate:problem:invalid-request", "title": "", "status": 400, "detail": "no"},
            headers={"Content-Type": "application/problem+json"},
        ),
        httpx.Response(200, json={"items": [created("c")]}),
    ]
    with sync_client(lambda _: left.pop(0)) as jobs:
        results = jobs.submit_many([{"input_params": 1}] * 3, return_exceptions=True)
    assert [type(one).__name__ for one in results] == ["JobHandle", "InvalidRequest", "JobHandle"]


def test_an_item_of_another_kind_is_no_answer_of_the_service() -> None:
    nothing: list[Item] = [{}]
    respond, _ = responding(*[nothing] * 500)
    with (
        Jobs("http://service", transport=httpx.MockTransport(respond), retry=FAST, timeout=0.01) as jobs,
        pytest.raises(errors.ServiceUnavailable, match="0 items for 1 jobs"),
    ):
        jobs.submit_many([{"input_params": 1}])
