"""A client that changes jobs of its own by bulk actions alone, so that every change of them is one of an action."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import httpx
import msgspec

from tests.chaos.history import BulkAction, History
from tests.chaos.http import open_client

#: The queue of the jobs, from which nobody claims.
QUEUE: Final = "bulk"
#: How many jobs are created and changed together: several steps of an action.
JOBS: Final = 150
#: What is done with them, one after the other, and the code of each change in the history of a job.
ACTIONS: Final = {"cancel": "x", "retry": "t", "delete": "d"}
#: Seconds for which an action may go on, all faults included.
LONGEST: Final = 120.0
#: Seconds until a request is sent again, and until an action is read again.
PAUSE: Final = 0.2


class BulkClient:
    """Creates jobs, cancels, retries, cancels and deletes them, again and again until it is stopped."""

    def __init__(self, name: str, history: History) -> None:
        self._name = name
        self._history = history

    async def run(self, url: str, stop: asyncio.Event) -> None:
        """Act until `stop` is set. An action that has begun is awaited."""
        async with open_client(url) as http:
            for number in itertools.count():
                label = f"{self._name}-{number}"
                ids = [f"{label}-{one}" for one in range(JOBS)]
                await self._create(http, label, ids)
                for place, action in enumerate(("cancel", "retry", "cancel", "delete")):
                    if stop.is_set():
                        return
                    await self._act(http, f"{label}-{place}", action, label, ids)

    async def _create(self, http: httpx.AsyncClient, label: str, ids: list[str]) -> None:
        more = {"input_params": 1, "queue": QUEUE, "labels": {"of": label}}
        jobs = [{"job_id": job_id, **more} for job_id in ids]
        while True:
            created = await self._send(http, "POST", "/v1/batch-create", {"jobs": jobs}, {})
            if created and all("job" in item for item in created["items"]):
                break
            await asyncio.sleep(PAUSE)
        self._history.bulk_jobs.update(dict.fromkeys(ids, ""))

    async def _act(self, http: httpx.AsyncClient, key: str, action: str, label: str, ids: list[str]) -> None:
        """Start an action, which may be repeated under its key, and record what it says at its end."""
        body, headers = {"action": action, "filter": {"label": [f"of:{label}"]}}, {"Idempotency-Key": key}
        found, deadline = None, time.monotonic() + LONGEST
        while found is None or (found["state"] not in {"done", "aborted"} and time.monotonic() < deadline):
            if found is None:
                found = await self._send(http, "POST", "/v1/bulk-actions", body, headers)
            else:
                found = await self._send(http, "GET", f"/v1/bulk-actions/{found['bulk_action_id']}", None, {})
            await asyncio.sleep(PAUSE)
        for job_id in ids:
            self._history.bulk_jobs[job_id] += ACTIONS[action]
        refused = Counter({kind.rpartition(":")[2]: number for kind, number in found["refused"].items()})
        self._history.bulk_actions.append(
            BulkAction(key, found["state"], len(ids), found["matched"], found["done"], dict(refused))
        )

    async def _send(
        self, http: httpx.AsyncClient, method: str, path: str, body: Any, headers: Mapping[str, str]
    ) -> Any:
        """Return the JSON of a response; `None` for a problem that may pass, or for none."""
        encoded = None if body is None else msgspec.json.encode(body)
        try:
            response = await http.request(
                method, path, content=encoded, headers={"Content-Type": "application/json", **headers}
            )
        except httpx.HTTPError:
            return None
        if response.is_success:
            return response.json()
        is_lost = response.status_code == 404 and self._history.losses
        if response.status_code not in {500, 503} and not is_lost:
            self._history.errors.append(f"{method} {path} of a bulk client got {response.text}")
        return None
