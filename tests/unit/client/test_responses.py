from email.utils import formatdate

import pytest

from jobstate import _requests as requests
from jobstate import errors
from jobstate._responses import Response, parse_retry_after, read_bytes, read_has_stream
from jobstate.models import Progress
from tests.helpers.flow_driver import json_response, problem_response
from tests.helpers.records import record_fields

HTML = {"content-type": "text/html"}
#: Responses that no jobstate service sends: they say nothing about the job.
FOREIGN: list[tuple[str, Response, type[errors.JobstateError]]] = [
    ("404 of a proxy", Response(404, HTML, b"<h1>default backend</h1>"), errors.UnexpectedResponse),
    ("404 in JSON", json_response({"type": "urn:jobstate:problem:job-not-found"}, 404), errors.UnexpectedResponse),
    (
        "problem of another service",
        Response(404, {"content-type": "application/problem+json"}, b'{"type":"about:blank"}'),
        errors.UnexpectedResponse,
    ),
    (
        "problem that is cut",
        Response(409, {"content-type": "application/problem+json"}, b'{"type":"urn:jobst'),
        errors.UnexpectedResponse,
    ),
    ("401 of a gateway", Response(401, HTML), errors.UnexpectedResponse),
    ("502", Response(502, HTML), errors.UnexpectedResponse),
    ("sign-in page", Response(200, HTML, b"<html>"), errors.UnexpectedResponse),
    ("JSON of something else", json_response({"hello": "world"}), errors.UnexpectedResponse),
    ("redirect", Response(302, HTML, b"", "redirect to `http://x`, not followed"), errors.Redirected),
    ("413", Response(413, HTML), errors.ContentTooLarge),
]


@pytest.mark.parametrize(("response", "kind"), [row[1:] for row in FOREIGN], ids=[row[0] for row in FOREIGN])
def test_what_another_server_says_of_a_job_is_not_believed(
    response: Response, kind: type[errors.JobstateError]
) -> None:
    with pytest.raises(kind) as raised:
        requests.get_job("j1").read(response)
    assert type(raised.value) is kind
    assert isinstance(raised.value, errors.ServiceUnavailable) == (kind is not errors.ContentTooLarge)


def test_a_problem_of_the_service_is_raised_with_its_details() -> None:
    response = problem_response(409, "illegal-transition", current_status="failed", revision=3, correlation_id="c-1")
    with pytest.raises(errors.IllegalTransition, match=r"Why\. \(illegal-transition\)") as raised:
        requests.cancel_job("j1").read(response)
    problem = raised.value.problem
    assert problem is not None
    assert (problem.name, problem.current_status, problem.revision) == ("illegal-transition", "failed", 3)
    assert problem.correlation_id == "c-1"


def test_an_invalid_request_names_the_fields() -> None:
    response = problem_response(400, "invalid-request", errors=[{"field": "queue", "detail": "no", "allowed": "a-z"}])
    with pytest.raises(errors.InvalidRequest) as raised:
        requests.create_job(1, None, "!", None, {}).read(response)
    assert raised.value.problem is not None
    assert [(error.field, error.allowed) for error in raised.value.problem.errors] == [("queue", "a-z")]


def test_an_outage_says_how_long_to_wait() -> None:
    with pytest.raises(errors.StoreLoading) as raised:
        requests.get_job("j1").read(problem_response(503, "store-loading", retry_after=4))
    assert raised.value.retry_after == 4


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("0", 0), ("", 0), ("-1", 0), ("soon", 0), ("1.5", 0), ("٣", 0)]
    + [(formatdate(1_000 + offset, usegmt=True), max(0, offset)) for offset in (30, -30)],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float) -> None:
    assert parse_retry_after(text, lambda: 1_000.0) == seconds


def test_a_record_is_read_with_its_etag_and_its_text() -> None:
    fields = record_fields("running", 2, progress={"current": 1, "new": 2}, a_new_field=[1], result={"n": 2**70})
    tagged = requests.get_job("j1").read(json_response(fields, etag='"1-2"'))
    assert (tagged.job.job_id, tagged.job.status, tagged.etag) == ("j1", "running", '"1-2"')
    assert tagged.job.progress == Progress(1)
    assert tagged.job.result == {"n": 2**70}
    assert tagged.json == json_response(fields).body


def test_absent_json_and_null_differ_in_the_raw_field() -> None:
    read = requests.get_job("j1").read
    absent, null = (
        read(json_response(record_fields())).job,
        read(Response(200, {}, json_response(record_fields()).body[:-1] + b',"result":null}')).job,
    )
    assert (absent.result, null.result) == (None, None)
    assert (bytes(absent.raw_result), bytes(null.raw_result)) == (b"", b"null")


def test_an_unchanged_record_is_none() -> None:
    assert requests.poll_job("j1", '"1-1"', 30).read(Response(304, {})) is None


def test_a_result_is_returned_byte_for_byte() -> None:
    read = requests.get_result("j1").read
    assert read(Response(200, {}, b'{"x": 1.00}')) == b'{"x": 1.00}'
    assert read(Response(204, {})) is None


def test_the_problem_of_a_failed_job_is_the_error_of_its_wait() -> None:
    with pytest.raises(errors.JobFailed) as raised:
        requests.get_result("j1").read(problem_response(409, "job-failed", error_message={"code": 2**70}))
    assert (raised.value.job_id, raised.value.error_message) == ("j1", {"code": 2**70})


def test_a_claim_without_a_due_job_is_none() -> None:
    assert requests.claim_jobs(["q"], "ann", 60, 8).read(Response(204, {})) is None


def test_a_claim_has_jobs_and_their_tokens() -> None:
    claimed = {"job": record_fields("running"), "lease": {"token": "1-x", "expires_at": "2026-11-20T12:00:00Z"}}
    found = requests.claim_jobs(["q"], "ann", 60, 8).read(json_response({"items": [claimed]}))
    assert found is not None
    assert [(claim.job.job_id, claim.lease.token) for claim in found.items] == [("j1", "1-x")]


def test_a_stream_that_has_ended_is_none() -> None:
    assert read_has_stream(Response(204, {})) is False
    assert read_has_stream(Response(200, {"content-type": "text/event-stream; charset=utf-8"})) is True
    with pytest.raises(errors.UnexpectedResponse, match="no event stream, but text/html"):
        read_has_stream(Response(200, HTML))


def test_a_request_can_be_read_as_bytes() -> None:
    request = requests.get_stats().reading(read_bytes)
    assert request.read(Response(200, {}, b'{"at": 1}')) == b'{"at": 1}'
    with pytest.raises(errors.Draining):
        request.read(problem_response(503, "draining"))
