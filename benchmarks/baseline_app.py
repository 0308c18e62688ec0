"""The baseline: the FastAPI service that jobstate replaced, with a synchronous Redis client inside `async def`.

A change is `HSET`, then `EXPIRE`; a count is `SCAN` with `HGET`. uvicorn runs with its defaults, or without its access
log for `--tuned`. `python -m benchmarks.baseline_app REDIS_URL --port PORT [--tuned]` serves it.
"""

import json
import sys
import uuid
from datetime import UTC, datetime
from typing import Any, Final

import redis
import uvicorn
from fastapi import FastAPI, HTTPException

WEEK: Final = 7 * 86400


class JobStateManager:
    """The repository of the baseline."""

    def __init__(self, client: "redis.Redis[str]") -> None:
        self._client = client

    async def create_job(self, job_id: str, input_params: Any, correlation_id: str = "") -> None:
        """Write a record, then its TTL."""
        now = datetime.now(UTC).isoformat()
        record = {
            "status": "pending",
            "input_params": json.dumps(input_params),
            "result": "",
            "error_message": "",
            "created_at": now,
            "updated_at": now,
            "correlation_id": correlation_id,
        }
        self._client.hset(f"job:{job_id}", mapping=record)
        self._client.expire(f"job:{job_id}", WEEK)

    async def get_job(self, job_id: str) -> dict[str, str] | None:
        """Read a record."""
        return self._client.hgetall(f"job:{job_id}") or None

    async def update_job_status(self, job_id: str, status: str, result: Any = None, error: Any = None) -> None:
        """Write a status without checking the transition."""
        fields = {"status": status, "updated_at": datetime.now(UTC).isoformat()}
        if result:
            fields["result"] = json.dumps(result)
        if error:
            fields["error_message"] = json.dumps(error)
        self._client.hset(f"job:{job_id}", mapping=fields)
        self._client.expire(f"job:{job_id}", WEEK)

    async def get_running_job_count(self) -> int:
        """Count by reading every job."""
        keys = self._client.scan_iter("job:*", count=1000)
        return sum(self._client.hget(key, "status") == "running" for key in keys)


def create_app(url: str) -> FastAPI:
    """Return the baseline application on the Redis at `url`."""
    app = FastAPI()
    manager = JobStateManager(redis.Redis.from_url(url, decode_responses=True))

    async def read(job_id: str) -> dict[str, Any]:
        record = await manager.get_job(job_id)
        if record is None:
            raise HTTPException(404)
        parsed = {
            name: json.loads(record[name]) for name in ("input_params", "result", "error_message") if record[name]
        }
        return {"job_id": job_id, **record, **parsed}

    @app.post("/v1/jobs", status_code=201)
    async def create(body: dict[str, Any]) -> dict[str, Any]:
        job_id = body.get("job_id") or str(uuid.uuid4())
        await manager.create_job(job_id, body["input_params"])
        return await read(job_id)

    @app.get("/v1/jobs/{job_id}")
    async def get(job_id: str) -> dict[str, Any]:
        return await read(job_id)

    @app.patch("/v1/jobs/{job_id}")
    async def patch(job_id: str, body: dict[str, Any]) -> dict[str, Any]:
        await manager.update_job_status(job_id, body["status"], body.get("result"), body.get("error_message"))
        return await read(job_id)

    @app.get("/v1/running")
    async def running() -> dict[str, int]:
        return {"running": await manager.get_running_job_count()}

    return app


if __name__ == "__main__":
    _, url, _, port, *tuned = sys.argv
    uvicorn.run(create_app(url), host="127.0.0.1", port=int(port), access_log=not tuned)
