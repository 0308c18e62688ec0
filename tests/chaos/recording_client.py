"""An HTTP client that records every call with its response."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import httpx
import msgspec

from service.domain.timestamps import parse_timestamp
from tests.chaos.history import Call, Kind, Observation, Version

#: Seconds after which a client gives up on a response.
REQUEST_TIMEOUT: Final = 20.0
#: The times in a record that are not after its last change.
_PAST_TIMES: Final = ("created_at", "started_at", "finished_at", "cancel_requested_at")


class RecordingClient:
    """Sends requests to the service and appends each call to a history."""

    def __init__(self, http: httpx.AsyncClient, calls: list[Call]) -> None:
        """Send one request at a time through `http` and append to `calls`."""
        self._http = http
        self._calls = calls

    async def call(
        self,
        kind: Kind,
        method: str,
        path: str,
        body: Any = None,
        *,
        job_id: str = "",
        key: str = "",
        token: str = "",
        if_match: str = "",
        target_status: str = "",
        content: str = "",
        has_progress: bool = True,
        claims: int = 1,
    ) -> tuple[Call, Any]:
        """Send one request; return the recorded call and the JSON of the response (`None` for none).

        A request that may claim several jobs is recorded as so many calls; the last one is returned.
        """
        version = f'"{if_match}"' if if_match else ""
        optional = {"Idempotency-Key": key, "Lease-Token": token, "If-Match": version}
        headers = {"Content-Type": "application/json", **{name: value for name, value in optional.items() if value}}
        started = time.time()
        response, is_unsent = None, False
        try:
            encoded = None if body is None else msgspec.json.encode(body)
            response = await self._http.request(method, path, content=encoded, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            is_unsent = True
        except httpx.HTTPError:
            pass
        parsed, is_well_formed = _parse(response)
        call = Call(
            kind,
            started,
            time.time(),
            job_id=job_id,
            group=f"{kind} {key}" if key else "",
            status=None if response is None else response.status_code,
            problem=_problem(response, parsed),
            is_well_formed=is_well_formed,
            is_unsent=is_unsent,
            observations=tuple(_observations(response, parsed)),
            target_status=target_status,
            content=content,
            granted_token=parsed["lease"]["token"] if isinstance(parsed, dict) and "lease" in parsed else "",
            sent_token=token,
            if_match=if_match,
            has_progress=has_progress,
            has_key=bool(key),
        )
        if claims == 1:
            self._calls.append(call)
        else:
            self._calls += _claims_of_one(call, claims, parsed)
        return self._calls[-1], parsed


def _claims_of_one(call: Call, count: int, parsed: Any) -> Iterable[Call]:
    """Yield a call for each job that a claim may give, as if it were claimed by itself: without one, it found none."""
    items = parsed["items"] if call.status == 200 else []
    for number in range(count):
        one = replace(call, group=call.group and f"{call.group} {number}")
        if number < len(items):
            item = items[number]
            yield replace(one, observations=(observe(item["job"]),), granted_token=item["lease"]["token"])
        else:
            yield replace(one, status=204 if call.status == 200 else call.status, is_partial=bool(items))


def _parse(response: httpx.Response | None) -> tuple[Any, bool]:
    """Return the JSON of a response, and whether the response is well-formed."""
    if response is None or not response.content:
        return None, response is None or response.status_code in (204, 304)
    try:
        parsed = json.loads(response.content)
    except ValueError:
        return None, False
    content_type, status = response.headers["content-type"], response.status_code
    if status < 400:
        return parsed, content_type == "application/json"
    is_problem = content_type == "application/problem+json" and parsed["status"] == status
    return parsed, is_problem and (status not in (429, 503) or "retry-after" in response.headers)


def _problem(response: httpx.Response | None, parsed: Any) -> str:
    if response is None or response.status_code < 400 or not isinstance(parsed, dict):
        return ""
    return str(parsed.get("type", "")).removeprefix("urn:jobstate:problem:")


def _observations(response: httpx.Response | None, parsed: Any) -> Iterable[Observation]:
    """Yield the job records in a response."""
    if response is None or response.status_code >= 400 or not isinstance(parsed, dict):
        return
    for record in (parsed, parsed.get("job"), *parsed.get("items", ())):
        if isinstance(record, dict) and "job_id" in record and "revision" in record:
            yield observe(record)


def observe(record: Mapping[str, Any]) -> Observation:
    """Return the observation that a job record gives."""
    version = Version(record["job_id"], parse_timestamp(record["created_at"]), record["revision"])
    value = record.get("result", record.get("error_message"))
    content = "" if value is None else msgspec.json.encode(value).decode()
    latest = max(record.get(name) or "" for name in _PAST_TIMES)
    return Observation(version, record["status"], record.get("attempt", 0), content, record["updated_at"], latest)
