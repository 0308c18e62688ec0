"""One client's calls over HTTP, each noted with its answer."""

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

import httpx
import msgspec

from service.domain.timestamps import parse_timestamp
from tests.chaos.history import Call, Kind, Seen, Version

#: Seconds after which a client gives an answer up.
PATIENCE: Final = 20.0


class Caller:
    """Sends calls to the service and appends them to a history."""

    def __init__(self, http: httpx.AsyncClient, calls: list[Call]) -> None:
        """Call over `http`, one call at a time; append to `calls`."""
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
        target: str = "",
        content: str = "",
        has_progress: bool = True,
    ) -> tuple[Call, Any]:
        """Send one call; return it as it is noted, and the JSON of the answer (`None` for none)."""
        version = f'"{if_match}"' if if_match else ""
        named = {"Idempotency-Key": key, "Lease-Token": token, "If-Match": version}
        headers = {"Content-Type": "application/json", **{name: value for name, value in named.items() if value}}
        started = time.time()
        answer, is_unsent = None, False
        try:
            sent = None if body is None else msgspec.json.encode(body)
            answer = await self._http.request(method, path, content=sent, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            is_unsent = True
        except httpx.HTTPError:
            pass
        found, is_sound = _read(answer)
        call = Call(
            kind,
            started,
            time.time(),
            job_id=job_id,
            group=f"{kind} {key}" if key else "",
            status=None if answer is None else answer.status_code,
            problem=_problem(answer, found),
            is_sound=is_sound,
            is_unsent=is_unsent,
            seen=tuple(_seen(answer, found)),
            target=target,
            content=content,
            token=found["lease"]["token"] if isinstance(found, dict) and "lease" in found else "",
            lease=token,
            if_match=if_match,
            has_progress=has_progress,
            is_keyed=bool(key),
        )
        self._calls.append(call)
        return call, found


def _read(answer: httpx.Response | None) -> tuple[Any, bool]:
    """Return the JSON of an answer, and whether it has the form that it must have."""
    if answer is None or not answer.content:
        return None, answer is None or answer.status_code in (204, 304)
    try:
        found = json.loads(answer.content)
    except ValueError:
        return None, False
    if answer.status_code < 400:
        return found, answer.headers["content-type"] == "application/json"
    is_problem = answer.headers["content-type"] == "application/problem+json" and found["status"] == answer.status_code
    return found, is_problem and (answer.status_code not in (429, 503) or "retry-after" in answer.headers)


def _problem(answer: httpx.Response | None, found: Any) -> str:
    if answer is None or answer.status_code < 400 or not isinstance(found, dict):
        return ""
    return str(found.get("type", "")).removeprefix("urn:jobstate:problem:")


def _seen(answer: httpx.Response | None, found: Any) -> Iterable[Seen]:
    """Yield the records that an answer shows."""
    if answer is None or answer.status_code >= 400 or not isinstance(found, dict):
        return
    for record in (found, found.get("job"), *found.get("items", ())):
        if isinstance(record, dict) and "job_id" in record and "revision" in record:
            yield seen_in(record)


def seen_in(record: Mapping[str, Any]) -> Seen:
    """Return what a record shows."""
    version = Version(record["job_id"], parse_timestamp(record["created_at"]), record["revision"])
    held = record.get("result", record.get("error_message"))
    content = "" if held is None else msgspec.json.encode(held).decode()
    return Seen(version, record["status"], record.get("attempt", 0), content)
