"""Injection: text of a client becomes no Redis key, no log line, no header and no frame of a stream."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import redis as sync_redis

from service.domain.states import Status
from tests.helpers.deployments import sync_client
from tests.helpers.partitions import PARTITIONS
from tests.helpers.polling import wait_until
from tests.helpers.service_process import Service
from tests.integration.server.test_limits import connect, received

pytestmark = pytest.mark.usefixtures("consistent_store")

#: Texts with a meaning to a protocol or program: line ends, string ends, patterns, separators, commands.
CONTROLS = (
    "a\r\nSet-Cookie: stolen=1",
    "a\nevent: forged\ndata: {}",
    "a\x00b",
    "\x1b[2J\x1b]0;owned\x07",
    "a\x85b",
    "\x9b2J",
)
SIGNS = (
    *("*", "a*", "?", "[a-z]", "{a}", "a:b", "a|b", "jobs:clock", "job:j", ":list:default:pending", "a b", "../../etc"),
    *(
        "\u2028data: forged",
        "\u202egnp",
        "</script><script>alert(1)</script>",
        "'; DROP TABLE jobs; --",
        "%0d%0a",
        "$(id)",
    ),
    *("${jndi:ldap://evil}", "{{1+1}}", "%s%n", "\\", '"', "-1", "return 1"),
)
#: Key names consist of ids, queues, digests and names of the service.
NAME = re.compile(r"({p\d+}:)?job:[\w.~-]+|(jobs:|{p\d+}:)[a-z_]+(:[\w.~-]+){0,2}")


@pytest.fixture
def store(redis_url: str) -> Iterator[sync_redis.Redis]:
    with sync_client(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def unchecked(api: httpx.Client) -> Iterator[httpx.Client]:
    """A client whose responses are not checked against the document, because a slash in an id changes the route."""
    with httpx.Client(base_url=api.base_url, timeout=10) as http:
        yield http


@pytest.fixture(scope="module")
def console_service(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a console log."""
    folder = tmp_path_factory.mktemp("console_service")
    settings = {"REDIS_URL": redis_url, "SHUTDOWN_DRAIN_SECONDS": "1", "RATE_LIMIT": "100000/minute"}
    with Service(folder, LOG_FORMAT="console", LOG_LEVEL="debug", **settings) as service:
        yield service


def send_everywhere(api: httpx.Client, text: str) -> list[httpx.Response]:
    """Send a text as each name in bodies, queries and paths."""
    ids = [{"job_id": text}, {"queue": text}]
    responses = [api.post("/v1/jobs", json={"input_params": 1, **one}) for one in ids]
    responses.append(api.post("/v1/claims", json={"queues": [text], "worker": "w"}))
    responses.append(api.post("/v1/batch-get", json={"job_ids": [text]}))
    responses.append(api.get("/v1/jobs", params={"queue": text}))
    responses.append(api.get("/v1/jobs", params={"cursor": text}))
    place = quote(text, safe="")
    for method, path in (("GET", "/v1/jobs/{}"), ("DELETE", "/v1/jobs/{}"), ("POST", "/v1/jobs/{}/cancel")):
        responses.append(api.request(method, path.format(place)))
    responses.append(api.put(f"/v1/queues/{place}", json={"paused": True}))
    return responses


def names(store: sync_redis.Redis) -> set[str]:
    """Return the names of all keys except those that the service writes by itself."""
    kept = {name for one in PARTITIONS for name in (one.meta, one.version, one.partitions)} | {"jobs:version"}
    return {str(name) for name in store.scan_iter(count=1000)} - kept


def test_only_valid_names_are_accepted(unchecked: httpx.Client, store: sync_redis.Redis) -> None:
    before = names(store)
    for text in (*CONTROLS, *SIGNS):
        for response in send_everywhere(unchecked, text):
            assert response.status_code in {400, 404, 405}, (text, response.request.url, response.text)
            assert response.headers["content-type"] == "application/problem+json"
            assert "set-cookie" not in response.headers
    assert names(store) == before


def test_free_text_becomes_no_redis_key_and_no_pattern(api: httpx.Client, store: sync_redis.Redis) -> None:
    for number, text in enumerate(SIGNS):
        key = {"Idempotency-Key": f"{number}-{quote(text, safe='*?[]{}:|')}"}
        fields = {"slate_id": text, "correlation_id": text, "queue": "free"}
        api.post("/v1/jobs", json={"input_params": {text: text}, **fields}, headers=key).raise_for_status()
        claim = {"queues": ["free"], "worker": text}
        leased = api.post("/v1/claims", json=claim, headers=key).raise_for_status().json()
        token = {"Lease-Token": leased["lease"]["token"], **key}
        job = f"/v1/jobs/{leased['job']['job_id']}"
        progress = {"progress": {"current": 1, "message": text}}
        api.post(f"{job}/heartbeat", json=progress, headers=token).raise_for_status()
        end = {"status": "failed", "error_message": {text: text}}
        api.patch(job, json=end, headers=token).raise_for_status()
    for text in SIGNS:
        for field in ("slate_id", "correlation_id"):
            [found] = (
                api.get("/v1/jobs", params={field: text, "include": "input_params"}).raise_for_status().json()["items"]
            )
            assert (found[field], found["input_params"], found["status"]) == (text, {text: text}, Status.FAILED)
    assert not {name for name in names(store) if not NAME.fullmatch(name)}


def test_a_client_cannot_forge_a_response_header(console_service: Service) -> None:
    sent = (
        b"X-Correlation-ID: caf\xc3\xa9", b"X-Correlation-ID: a\x7fb", b"X-Correlation-ID: a\tb",
        b"X-Correlation-ID: a\r\n Set-Cookie: stolen=1", b"X-Correlation-ID: a\rSet-Cookie: stolen=1",
        b"X-Correlation-ID: a\x00b", b"X-Correlation-ID: a\x1b[2J", b"Lease-Token: a\x1bb", b"If-Match: \"a\x85\"",
        b"Last-Event-ID: \xe2\x80\xa8data: forged", b"Accept: text/\x1b[31m", b"Host: a\x1b[31mb", b"Origin: http://a\x1bb",
    )  # fmt: skip
    for header in sent:
        with connect(console_service) as connection:
            host = b"" if header.startswith(b"Host") else b"Host: localhost\r\n"
            first = b"POST /v1/jobs/j/cancel HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n"
            connection.sendall(first + host + header + b"\r\n\r\n")
            head, _, body = received(connection).partition(b"\r\n\r\n")
        assert re.fullmatch(rb"HTTP/1.1 4\d\d [\x20-\x7e]+(\r\n[a-z-]+: [\x20-\x7e]+)+", head), (header, head)
        assert b"set-cookie" not in head.lower()
        assert json.loads(body)["status"] == int(head.split()[1])


def test_a_client_cannot_forge_a_frame_of_a_stream(api: httpx.Client) -> None:
    with api.stream("GET", "/v1/events") as stream:
        lines = stream.iter_raw()
        text = next(lines)
        for number, sign in enumerate(SIGNS):
            fields = {"slate_id": sign, "correlation_id": sign, "input_params": {sign: sign}}
            api.post("/v1/jobs", json={"job_id": f"j{number}", **fields}).raise_for_status()
            api.patch(f"/v1/jobs/j{number}", json={"status": "failed", "error_message": sign}).raise_for_status()
        while text.count(b'"failed"') < len(SIGNS):
            text += next(lines)
    for number in range(len(SIGNS)):
        text += api.get(f"/v1/jobs/j{number}/events").content
    of_others = [line for line in re.split(rb"\r\n|\r|\n", text) if not re.match(rb"(event|id|data|retry): |:|$", line)]
    assert of_others == []
    events = re.findall(rb"^event: (.*)$", text, re.MULTILINE)
    assert set(events) <= {b"hello", b"changed"}
    data = [json.loads(line) for line in re.findall(rb"^data: (.*)$", text, re.MULTILINE)]
    assert {one["slate_id"] for one in data if "slate_id" in one} == set(SIGNS)


def complete_log(service: Service, api: httpx.Client) -> str:
    """Return the log, complete up to now."""
    api.get("/health", headers={"X-Correlation-ID": "the-last"}).raise_for_status()
    wait_until(lambda: "the-last" in service.log, "the last line")
    return service.log


def send_all(api: httpx.Client) -> None:
    for text in (*CONTROLS, *SIGNS):
        send_everywhere(api, text)
        api.post("/v1/jobs", json={"input_params": 1, "slate_id": text, "nothing": text})
        api.get(f"/{quote(text, safe='')}")
        one_line = re.sub("[\r\n\0]", "", text).strip()
        api.get("/v1/jobs", headers={"X-Correlation-ID": one_line.encode()})


def test_a_client_cannot_forge_a_line_of_the_json_log(unchecked: httpx.Client, shared_service: Service) -> None:
    before = len(shared_service.log)
    send_all(unchecked)
    for line in complete_log(shared_service, unchecked)[before:].splitlines():
        found: dict[str, Any] = json.loads(line)
        assert {"time", "level", "event", "logger"} <= found.keys()
        assert re.fullmatch(r"[\x20-\x7e]+", line)


def test_a_client_cannot_inject_control_sequences_into_the_log(
    unchecked: httpx.Client, console_service: Service
) -> None:
    unchecked.base_url = console_service.url
    send_all(unchecked)
    for line in complete_log(console_service, unchecked).split("\n"):
        plain = re.sub(r"\x1b\[\d*m", "", line)
        assert plain.isprintable(), plain
        assert not plain or re.match(r"\d{4}-\d\d-\d\dT|  \| ", plain), plain
