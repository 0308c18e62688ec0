"""The updates that a worker sends for outcomes that JSON or the service does not accept as they are."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import pytest

from jobstate import JobContext, JobFailed, PermanentFailure
from jobstate.worker.attempt import Attempt
from jobstate.worker.client import WorkerClient
from jobstate.worker.executors import runner_for
from jobstate.worker.outcomes import failure_update, success_update
from tests.helpers.records import claim, record, record_fields

PROBLEM = {"Content-Type": "application/problem+json"}


@pytest.fixture(autouse=True)
def unreported_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tracebacks with lone surrogates out of the reports, which pytest-xdist sends as UTF-8."""
    monkeypatch.setattr(logging.getLogger("jobstate"), "disabled", True)


class LimitedService:
    """Rejects a body for its content or its size; accepts any other update."""

    def __init__(self, max_body: int = 1024, rejected: bytes | None = None, status: int = 400, name: str = "") -> None:
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.keys: set[str] = set()
        self._max_body, self._rejected, self._status = max_body, rejected, status
        self._name = name or ("invalid-request" if status == 400 else "refused")

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = request.read()
        self.bodies.append(body)
        self.paths.append(request.url.path)
        self.keys.add(request.headers["Idempotency-Key"])
        if len(body) > self._max_body:
            return self._problem(413, "content-too-large", f"The body is larger than {self._max_body} bytes")
        if self._rejected is not None and self._rejected in body:
            return self._problem(self._status, self._name, "result: no such thing")
        return httpx.Response(200, json=record_fields("completed"))

    def _problem(self, status: int, name: str, detail: str) -> httpx.Response:
        problem = {"type": f"urn:jobstate:problem:{name}", "detail": detail}
        return httpx.Response(status, json=problem, headers=PROBLEM)

    @property
    def accepted(self) -> dict[str, Any]:
        return dict(json.loads(self.bodies[-1]))


async def run(function: Callable[[JobContext], Any], service: LimitedService) -> LimitedService:
    """Run an attempt and return the service."""
    transport = httpx.MockTransport(service)
    async with httpx.AsyncClient(base_url="http://service", transport=transport) as http:
        await Attempt(claim(), WorkerClient(http, ["default"], "ann", 30), runner_for(function, "thread")).run()
    return service


def raising(error: BaseException) -> Callable[[JobContext], Any]:
    def function(context: JobContext) -> None:
        raise error

    return function


def sent(error: BaseException) -> dict[str, str]:
    """The error as the update contains it, checked to be valid Unicode."""
    body = failure_update(JobContext(record()), error).body
    return dict(json.loads(body.decode())["error_message"])


class TextRaises(Exception):
    """An exception whose text raises."""

    def __str__(self) -> str:
        raise KeyError("no text")

    __repr__ = __str__


class NameRaises(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise KeyError("no name")


class NameRaisesError(Exception, metaclass=NameRaises):
    pass


class NameIsInvalid(type):
    __name__ = "Odd\udcff"


class Odd(Exception, metaclass=NameIsInvalid):
    pass


def with_notes(error: Exception) -> Exception:
    error.add_note("a note \udcff")
    error.__notes__.append(TextRaises())  # type: ignore[arg-type]
    return error


def deep_group() -> BaseException:
    group: Exception = ValueError("inner")
    for _ in range(2_000):
        group = ExceptionGroup("outer", [group])
    return group


@pytest.mark.parametrize(
    ("error", "type_", "message"),
    [
        (ValueError("plain"), "ValueError", "plain"),
        (ValueError("\udcff.txt"), "ValueError", r"\udcff.txt"),
        (ValueError("\ud83d\ude00 \ud83d"), "ValueError", r"😀 \ud83d"),
        (ValueError("\x00\x1b[2J\u2028"), "ValueError", "\x00\x1b[2J\u2028"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "\udcff"), "UnicodeDecodeError", None),
        (with_notes(ValueError("noted")), "ValueError", "noted"),
        (TextRaises(), "TextRaises", "(no text: KeyError was raised instead)"),
        (NameRaisesError("x"), "(no text: KeyError was raised instead)", "x"),
        (Odd("x"), r"Odd\udcff", "x"),
        (deep_group(), "ExceptionGroup", "outer (1 sub-exception)"),
        (SystemExit("end"), "SystemExit", "end"),
    ],
    ids=[
        "plain",
        "lone surrogate",
        "surrogate pair",
        "control characters",
        "text from bytes",
        "notes",
        "no text",
        "no name",
        "invalid name",
        "nested group",
        "exit",
    ],
)
def test_every_error_is_sent_with_type_and_text(error: BaseException, type_: str, message: str | None) -> None:
    description = sent(error)
    assert description["type"] == type_
    assert message is None or description["message"] == message


@pytest.mark.parametrize("character", ["x", "é", "😀", "\x00", '"', "\udcff"])
def test_a_long_text_is_cut_and_ends_with_its_length(character: str) -> None:
    description = sent(ValueError(character * 200_000))
    assert description["message"].endswith("… (cut from 200000 characters)")
    assert len(json.dumps(description, ensure_ascii=False).encode()) <= 32_768 + 30
    assert len(description["message"].encode()) > 3_000


def test_a_long_name_leaves_room_for_the_text() -> None:
    description = sent(type("E" * 100_000, (Exception,), {})("the text"))
    assert description["type"].startswith("EEEE")
    assert description["message"] == "the text"


@pytest.mark.parametrize("max_body", [1024, 5_000, 33_000, 65_536])
async def test_an_error_that_is_too_large_is_cut_until_the_service_accepts_it(max_body: int) -> None:
    service = await run(raising(ValueError("é\x00" * 100_000)), LimitedService(max_body))
    assert set(service.paths) == {"/v1/jobs/j1/release"}
    error = service.accepted["error_message"]
    assert error["type"] == "ValueError"
    assert error["message"].startswith("é\x00é")
    assert len(service.keys) == len(service.bodies)


async def test_an_error_that_the_service_always_rejects_counts_as_one_failed_attempt() -> None:
    service = await run(raising(ValueError("nasty")), LimitedService(rejected=b"nasty"))
    assert service.paths == ["/v1/jobs/j1/release"] * 2
    assert service.accepted["error_message"]["type"] == "RequestRejected"


async def test_a_job_whose_lease_is_lost_gets_no_other_update() -> None:
    service = await run(lambda context: 1, LimitedService(rejected=b"completed", status=409, name="lease-lost"))
    assert service.paths == ["/v1/jobs/j1"]


async def test_a_rejected_release_does_not_fail_the_job_for_good() -> None:
    service = await run(raising(ValueError("x")), LimitedService(rejected=b"", status=403))
    assert service.paths == ["/v1/jobs/j1/release"]


class Raises(dict[str, int]):
    def items(self) -> Any:
        raise OSError("gone")


def circle() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


CANNOT_BE_SENT = [
    ({"a": ["\udcff"]}, "ValueError", "lone surrogate U+DCFF, which is not valid Unicode"),
    ({"\ud800": 1}, "ValueError", "lone surrogate U+D800"),
    (float("nan"), "ValueError", "not JSON compliant"),
    ([float("-inf")], "ValueError", "not JSON compliant"),
    ({1, 2}, "TypeError", "set is not JSON serializable"),
    (b"bytes", "TypeError", "bytes is not JSON serializable"),
    ({(1, 2): 3}, "TypeError", "keys must be str"),
    (nested(100_000), "ValueError", "nested too deep"),
    (circle(), "ValueError", "Circular reference"),
    (10**5000, "ValueError", "4300 digits"),
    (Raises(a=1), "OSError", "gone"),
]
cannot_be_sent = pytest.mark.parametrize(
    ("value", "type_", "why"), CANNOT_BE_SENT, ids=[why[:16] for _, _, why in CANNOT_BE_SENT]
)


@cannot_be_sent
async def test_a_result_that_cannot_be_sent_fails_the_job_with_the_reason(value: object, type_: str, why: str) -> None:
    service = await run(lambda context: value, LimitedService())
    assert service.paths == ["/v1/jobs/j1"]
    assert service.accepted["status"] == "failed"
    error = service.accepted["error_message"]
    assert error["type"] == type_
    assert error["message"].startswith("the result cannot be sent: ")
    assert why in error["message"]


@cannot_be_sent
async def test_a_permanent_failure_that_cannot_be_sent_fails_the_job_with_the_reason(
    value: Any, type_: str, why: str
) -> None:
    def function(context: JobContext) -> None:
        raise PermanentFailure(value)

    service = await run(function, LimitedService(5_000))
    assert service.accepted["status"] == "failed"
    error = service.accepted["error_message"]
    assert error["type"] == type_
    assert error["message"].startswith("the `error_message` of `PermanentFailure` cannot be sent: ")
    assert why in error["message"]


async def test_an_excerpt_of_a_rejected_error_message_is_kept() -> None:
    service = await run(raising(PermanentFailure("no slate " + "x" * 5_000)), LimitedService(5_000))
    error = service.accepted["error_message"]
    assert error["type"] == "ContentTooLarge"
    assert error["message"].startswith("the `error_message` of `PermanentFailure` cannot be sent: The body is larger")
    assert "; value: 'no slate xxx" in error["message"]


def test_an_excerpt_is_valid_unicode() -> None:
    error = PermanentFailure("fine")
    error.error_message = "no slate \udcff"
    message = json.loads(failure_update(JobContext(record()), error).body)["error_message"]["message"]
    assert message.endswith(r"; value: 'no slate \udcff'")


async def test_a_permanent_failure_subclass_without_an_error_message_fails_the_job() -> None:
    class WithoutErrorMessage(PermanentFailure):
        def __init__(self) -> None:
            pass

    service = await run(raising(WithoutErrorMessage()), LimitedService())
    assert service.accepted["status"] == "failed"
    assert "no attribute 'error_message'" in service.accepted["error_message"]["message"]


async def test_a_result_that_is_too_large_fails_the_job_with_the_reason() -> None:
    service = await run(lambda context: "x" * 2_000, LimitedService())
    assert service.accepted["status"] == "failed"
    error = service.accepted["error_message"]
    assert error["type"] == "ContentTooLarge"
    assert error["message"].startswith("the result cannot be sent: The body is larger")


async def test_progress_is_omitted_if_the_result_does_not_fit_beside_it() -> None:
    def function(context: JobContext) -> str:
        context.progress(1, message="m" * 500)
        return "x" * 900

    service = await run(function, LimitedService())
    assert service.accepted == {"status": "completed", "result": "x" * 900}


class Lineup(msgspec.Struct):
    drivers: list[str]


@dataclass
class Lineups:
    best: Lineup


def test_structs_and_dataclasses_are_sent_as_objects() -> None:
    body = success_update(JobContext(record()), [Lineups(Lineup(["Ann"]))]).body
    assert json.loads(body)["result"] == [{"best": {"drivers": ["Ann"]}}]


async def test_a_failed_child_job_counts_as_a_failed_attempt() -> None:
    service = await run(raising(JobFailed("job child failed: no", error_message="no")), LimitedService())
    assert service.paths == ["/v1/jobs/j1/release"]
    assert service.accepted == {"error_message": {"type": "JobFailed", "message": "job child failed: no"}}


def test_integers_and_surrogate_pairs_are_sent_exactly() -> None:
    result = [2**53 + 1, -(2**200), "\ud83d\ude00", "\x00"]
    body = success_update(JobContext(record()), result).body
    assert json.loads(body)["result"] == [2**53 + 1, -(2**200), "😀", "\x00"]


def test_an_error_that_cannot_be_formatted_is_logged_with_its_type(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("jobstate"), "disabled", False)

    class Recursing(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if record.exc_info:
                raise RecursionError
            return True

    filter_ = Recursing()
    caplog.handler.addFilter(filter_)
    try:
        assert sent(ValueError("x")) == {"type": "ValueError", "message": "x"}
    finally:
        caplog.handler.removeFilter(filter_)
    assert caplog.messages == ["job j1: attempt failed with ValueError"]
