import pytest
from msgspec import Struct

from service.api.request_bodies import decode
from service.api.schemas import (
    BatchCreate,
    BatchGet,
    CancelJob,
    ConfigureQueue,
    CreateJob,
    HeartbeatJob,
    ReleaseJob,
    StartDrain,
    UpdateJob,
    unset_to_none,
)
from service.domain import constraints
from service.domain.errors import InvalidValue
from service.domain.json_text import ALLOWED
from service.domain.states import Status

STATUSES = ", ".join(Status)
CREATION = ", ".join(CreateJob.__struct_fields__)


def error_of(struct: type[Struct], body: bytes) -> InvalidValue:
    with pytest.raises(InvalidValue) as error:
        decode(struct, body)
    return error.value


@pytest.mark.parametrize(
    ("struct", "body", "field", "allowed"),
    [
        (CreateJob, b'{"input_params": 1, "quue": "a"}', "quue", f"the fields {CREATION}"),
        (CreateJob, b'{"input_params": 1, "": 1}', "", f"the fields {CREATION}"),
        (CreateJob, b'{"input_params": 1, "Queue": "a"}', "Queue", f"the fields {CREATION}"),
        (UpdateJob, b'{"status": "running", "progress": {"current": 1, "all": 2}}', "progress.all", "current, total"),
        (CancelJob, b'{"reason": 1}', "reason", "no fields"),
        (BatchGet, b'{"job_ids": [], "ids": []}', "ids", "the fields job_ids"),
    ],
)
def test_an_unknown_field_is_rejected_with_the_known_fields(
    struct: type[Struct], body: bytes, field: str, allowed: str
) -> None:
    error = error_of(struct, body)
    assert (error.field, error.detail) == (field, "there is no such field")
    assert allowed in error.allowed


@pytest.mark.parametrize(
    ("struct", "body", "field", "allowed"),
    [
        (CreateJob, b"{}", "input_params", ALLOWED),
        (UpdateJob, b"{}", "status", STATUSES),
        (UpdateJob, b'{"status": "running", "progress": {}}', "progress.current", constraints.COUNT.allowed),
        (UpdateJob, b'{"status": "running", "progress": {"total": 7}}', "progress.current", constraints.COUNT.allowed),
        (BatchGet, b"{}", "job_ids", "1 to 1,000 ids"),
    ],
)
def test_a_missing_field_is_rejected_by_name(struct: type[Struct], body: bytes, field: str, allowed: str) -> None:
    error = error_of(struct, body)
    assert (error.field, error.detail, error.allowed) == (field, "missing", allowed)


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"[1]", "an array"), (b'"a"', "a string"), (b"1", "a number"), (b"1.5", "a number"), (b"true", "a boolean")],
)
def test_a_body_that_is_no_object_is_rejected_by_its_type(body: bytes, kind: str) -> None:
    assert str(error_of(CreateJob, body)) == f"`body`: {kind} is not allowed; allowed: a JSON object"


@pytest.mark.parametrize(
    ("struct", "body", "field", "allowed"),
    [
        (CreateJob, b'{"input_params": 1, "job_id": 7}', "job_id", constraints.JOB_ID.allowed),
        (CreateJob, b'{"input_params": 1, "queue": null}', "queue", constraints.QUEUE.allowed),
        (CreateJob, b'{"input_params": 1, "slate_id": []}', "slate_id", constraints.TEXT.allowed),
        (CreateJob, b'{"input_params": 1, "correlation_id": {}}', "correlation_id", constraints.TEXT.allowed),
        (CreateJob, b'{"input_params": 1, "scenario_count": 1.5}', "scenario_count", constraints.COUNT.allowed),
        (CreateJob, b'{"input_params": 1, "scenario_count": "1"}', "scenario_count", constraints.COUNT.allowed),
        (CreateJob, b'{"input_params": 1, "scenario_count": 1e400}', "scenario_count", constraints.COUNT.allowed),
        (CreateJob, b'{"input_params": 1, "max_attempts": true}', "max_attempts", constraints.MAX_ATTEMPTS.allowed),
        (CreateJob, b'{"input_params": 1, "retry_delay_seconds": ""}', "retry_delay_seconds", "an integer from 0 to"),
        (CreateJob, b'{"input_params": 1, "delay_seconds": null}', "delay_seconds", constraints.DELAY_SECONDS.allowed),
        (CreateJob, b'{"input_params": 1, "job_id": null}', "job_id", constraints.JOB_ID.allowed),
        (CreateJob, b'{"input_params": 1, "slate_id": null}', "slate_id", constraints.TEXT.allowed),
        (UpdateJob, b'{"status": "running", "scenario_count": null}', "scenario_count", constraints.COUNT.allowed),
        (UpdateJob, b'{"status": "running", "progress": null}', "progress", "object"),
        (UpdateJob, b'{"status": "running", "progress": {"current": 1, "total": null}}', "progress.total", "integer"),
        (UpdateJob, b'{"status": "done"}', "status", STATUSES),
        (UpdateJob, b'{"status": 1}', "status", STATUSES),
        (UpdateJob, b'{"status": null}', "status", STATUSES),
        (ConfigureQueue, b'{"paused": 1}', "paused", "true, false, or null for false"),
        (
            ConfigureQueue,
            b'{"max_running": "4"}',
            "max_running",
            "an integer from 1 to 1000000, or null for no limit",
        ),
        (UpdateJob, b'{"status": "running", "progress": 3}', "progress", "object"),
        (
            UpdateJob,
            b'{"status": "running", "progress": {"current": "3"}}',
            "progress.current",
            constraints.COUNT.allowed,
        ),
        (UpdateJob, b'{"status": "running", "progress": {"current": 1, "total": []}}', "progress.total", "integer"),
        (
            UpdateJob,
            b'{"status": "running", "progress": {"current": 1, "message": 1}}',
            "progress.message",
            constraints.PROGRESS_MESSAGE.allowed,
        ),
        (BatchGet, b'{"job_ids": "j"}', "job_ids", "1 to 1,000 ids"),
        (BatchGet, b'{"job_ids": null}', "job_ids", "1 to 1,000 ids"),
        (BatchGet, b'{"job_ids": [1]}', "job_ids[0]", constraints.JOB_ID.allowed),
        (BatchGet, b'{"job_ids": ["a", "b", null]}', "job_ids[2]", constraints.JOB_ID.allowed),
        (
            BatchCreate,
            b'{"jobs": [{"input_params": 1}, 2]}',
            "jobs[1]",
            "an object with the fields input_params",
        ),
        (BatchCreate, b'{"jobs": 2}', "jobs", "1 to 1,000 jobs"),
    ],
)
def test_a_value_of_the_wrong_type_is_rejected_by_name(
    struct: type[Struct], body: bytes, field: str, allowed: str
) -> None:
    error = error_of(struct, body)
    assert error.field == field
    assert allowed in error.allowed
    assert error.detail
    assert "$" not in error.detail


@pytest.mark.parametrize("struct", [CreateJob, UpdateJob, BatchGet])
@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"{}"', b"true", b"[{}]"])
def test_a_body_that_is_not_an_object_is_rejected(struct: type[Struct], body: bytes) -> None:
    error = error_of(struct, body)
    assert (error.field, error.allowed) == ("body", "a JSON object")


@pytest.mark.parametrize("body", [b"[]", b"1", b'"{}"', b"true", b"[{}]"])
def test_a_body_without_required_fields_is_an_object_too(body: bytes) -> None:
    error = error_of(CancelJob, body)
    assert (error.field, error.allowed) == ("body", "a JSON object")


@pytest.mark.parametrize("struct", [CancelJob, HeartbeatJob, ReleaseJob, ConfigureQueue, StartDrain])
@pytest.mark.parametrize("body", [b"null", b" null\n"])
def test_null_is_no_body_if_no_field_is_required(struct: type[Struct], body: bytes) -> None:
    assert decode(struct, body) == struct()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"input_params": 1}x',
        b'{"input_params": }',
        b'{"input_params": NaN}',
        b"{'input_params': 1}",
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
        b'{"input_params": 1}\xef\xbb\xbf',
    ],
)
def test_a_body_that_is_not_json_is_rejected(body: bytes) -> None:
    error = error_of(CreateJob, body)
    assert (error.field, error.allowed) == ("body", "a JSON object")
    assert "not valid JSON" in error.detail


@pytest.mark.parametrize(
    ("body", "byte"),
    [(b"\xff", 0), (b'{"input_params": "\xc3"}', 18), (b'{"input_params": "\xed\xa0\x80"}', 18)],
)
def test_invalid_utf8_in_a_body_is_rejected_with_its_position(body: bytes, byte: int) -> None:
    error = error_of(CreateJob, body)
    assert (error.field, error.allowed) == ("body", "JSON in UTF-8")
    assert error.detail == f"it is not valid UTF-8 (byte {byte})"


def test_a_byte_order_mark_before_a_body_is_skipped() -> None:
    text = '"\ufeff"'.encode()
    creation = decode(CreateJob, b'\xef\xbb\xbf{"input_params": ' + text + b"}")
    assert bytes(creation.input_params) == text


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_a_body_in_utf16_is_rejected_for_its_encoding(mark: bytes) -> None:
    error = error_of(CreateJob, mark + "{}".encode("utf-16-le"))
    assert (error.field, error.allowed) == ("body", "JSON in UTF-8")


#: Exceeds the C stack of every Python. From 3.14 on, fewer levels pass this decoder; then the field is rejected.
DEEP = 1_000_000


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_a_body_nested_too_deeply_is_rejected(opening: bytes, closing: bytes) -> None:
    error = error_of(CreateJob, b'{"input_params": ' + opening * DEEP + b"1" + closing * DEEP + b"}")
    assert (error.field, error.allowed) == ("body", "at most 200 levels")


def test_raw_fields_of_a_body_pass_through_unchanged() -> None:
    text = b'{"b": 1e999, "a": 1.0, "a": 12345678901234567890}'
    assert bytes(decode(CreateJob, b'{"input_params": ' + text + b"}").input_params) == text
    change = decode(UpdateJob, b'{"status": "completed", "result": ' + text + b"}")
    assert (bytes(change.result), bytes(change.error_message)) == (text, b"")


@pytest.mark.parametrize("text", [b"null", b"{}", b"[]", b"0", b"false", b'""'])
def test_an_empty_value_is_not_an_absent_one(text: bytes) -> None:
    assert bytes(decode(UpdateJob, b'{"status": "completed", "result": ' + text + b"}").result) == text
    assert bytes(decode(UpdateJob, b'{"status": "completed"}').result) == b""


def test_an_absent_field_of_a_creation_has_its_default() -> None:
    creation = decode(CreateJob, b'{"input_params": {}}')
    assert creation == CreateJob(input_params=creation.input_params)
    assert (creation.queue, creation.max_attempts, creation.retry_delay_seconds) == ("default", 1, 0)
    assert (creation.delay_seconds, unset_to_none(creation.job_id)) == (0, None)


@pytest.mark.parametrize(
    "surrogate", ["\\ud800", "\\udfff", "\\ud800 and more text", "\\ud800\\ud800", "\\udc00\\ud800"]
)
@pytest.mark.parametrize(
    ("struct", "body", "field"),
    [
        (CreateJob, '{"input_params": "%s"}', "input_params"),
        (CreateJob, '{"input_params": {"names": ["a", "%s"]}}', "input_params.names[1]"),
        (CreateJob, '{"input_params": [[[["%s"]]]]}', "input_params[0][0]"),
        (CreateJob, '{"input_params": {"%s": 1}}', "input_params"),
        (CreateJob, '{"input_params": 1, "slate_id": "%s"}', "slate_id"),
        (CreateJob, '{"input_params": 1, "%s": 1}', "body"),
        (UpdateJob, '{"status": "running", "progress": {"current": 1, "message": "%s"}}', "progress.message"),
        (UpdateJob, '{"status": "completed", "result": "%s"}', "result"),
        (UpdateJob, '{"status": "failed", "error_message": {"type": "%s"}}', "error_message.type"),
        (BatchGet, '{"job_ids": ["a", "%s"]}', "job_ids[1]"),
        (BatchGet, '"%s"', "body"),
    ],
)
def test_a_lone_surrogate_is_rejected_by_name(struct: type[Struct], body: str, field: str, surrogate: str) -> None:
    error = error_of(struct, (body % surrogate).encode())
    assert error.field == field
    assert error.detail == f"it has the lone surrogate {surrogate[:6]}, which is not valid Unicode"
    assert error.allowed == ALLOWED


@pytest.mark.parametrize("text", [r'"\ud83d\ude00"', r'"\\ud800"', '"\U0001f600"'])
def test_surrogate_pairs_and_escaped_backslashes_are_accepted(text: str) -> None:
    assert decode(CreateJob, b'{"input_params": %b}' % text.encode())


def test_a_body_with_many_lone_surrogates_is_rejected_in_linear_time() -> None:
    levels, texts = 150, ",".join([r'"\ud800"'] * 50_000)
    body = f'{{"input_params": {"[" * levels}{texts}{"]" * levels}}}'
    assert error_of(CreateJob, body.encode()).field == "input_params[0][0]"
