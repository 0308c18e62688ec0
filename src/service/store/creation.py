"""Creations of jobs: what is sent to the scripts, and what their replies mean."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec
from msgspec import Raw

from service.domain import constraints, errors, validation
from service.domain.jobs import CreateResult, NewJob
from service.domain.states import Status
from service.domain.tags import tags_of
from service.domain.validation import FieldValue
from service.store.fingerprints import digest, new_request_id
from service.store.records import ceil_seconds, decode_packed, field_args, make_job, parse_status

#: Fields that are arguments of their own.
_ARGUMENTS: Final = frozenset({"queue", "slate_id"})


class Creation:
    """A request to create a job whose fields are valid."""

    def __init__(
        self, job_id: str, new_job: NewJob, traceparent: str | None = None, request_correlation_id: str | None = None
    ) -> None:
        """Check the fields. Requests are equal if id and fields are, except `traceparent` and `request_correlation_id`.

        The latter is the correlation id of a job without `correlation_id`. Raises `InvalidValue`.
        """
        self.job_id: Final = constraints.JOB_ID.validate("job_id", job_id)
        fields = validation.creation_fields(new_job)
        #: Equal for equal requests.
        self.digest: Final = digest("create", fields, validation.CREATION_DEFAULTS)
        #: Of this request alone.
        self.request_id: Final = new_request_id()
        self._new_job: Final = new_job
        del fields["delay_seconds"]
        if fields["correlation_id"] is None:
            fields["correlation_id"] = validation.validate_text("correlation_id", request_correlation_id)
        if traceparent is not None:
            fields["traceparent"] = constraints.TRACEPARENT.validate("traceparent", traceparent)
        self._fields: Final[Mapping[str, FieldValue]] = fields
        #: As they are stored.
        self._labels: Final = dict(sorted(new_job.labels.items())) if new_job.labels else None

    def arguments(self) -> list[FieldValue]:
        """Return the arguments of create.lua for the job."""
        *values, fields = self._values().values()
        return [*("" if value is None else value for value in values), *fields]

    def packed(self) -> bytes:
        """Return the argument of create_many.lua for the job: MessagePack, in which all fields are texts."""
        values = self._values()
        return msgspec.msgpack.encode(values | {"fields": [_text(value) for value in values["fields"]]})

    def _values(self) -> dict[str, Any]:
        """Return what lib/creation.lua needs of the job, by its names there, in the order of create.lua."""
        new_job, fields = self._new_job, self._fields
        slate_id, its_id = (cast("str | None", fields[name]) for name in ("slate_id", "correlation_id"))
        return {
            "id": self.job_id,
            "queue": fields["queue"],
            "slate_id": slate_id,
            "tags": ",".join(tags_of(slate_id, its_id, self._labels)),
            "priority": new_job.priority,
            "digest": self.digest,
            "request": self.request_id,
            "delay": new_job.delay_seconds * 1_000_000,
            "start_timeout": (new_job.start_timeout_seconds or 0) * 1000,
            "fields": field_args({name: value for name, value in fields.items() if name not in _ARGUMENTS}),
        }

    def result(self, word: str, reply: Sequence[Any]) -> CreateResult:
        """Return the result that a reply of the script means. Raises `JobExists` or `Draining`."""
        match word:
            case "DRAINING":
                raise errors.Draining(ceil_seconds(reply[0]))
            case "EXISTS":
                raise errors.JobExists(self.job_id, *parse_status(reply))
            case "REPLAYED":
                job, _ = decode_packed(self.job_id, reply[1], int(reply[0]))
                return CreateResult(job, not reply[2])
        sent = Raw(cast("bytes", self._fields["input_params"]))
        given = {**self._fields, "input_params": sent, "labels": self._labels}
        return CreateResult(make_job(self.job_id, given | _first_values(*reply)), False)


def _text(value: FieldValue) -> str:
    """Return a value as text: MessagePack in Lua has no bytes, and numbers would become floats."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _first_values(
    created_at: bytes, expires_at: bytes, available_at: bytes, start_deadline_at: bytes
) -> dict[str, Any]:
    """Return the values that the script adds to the record of a new job."""
    created = created_at.decode()
    return {
        "status": Status.PENDING,
        "revision": 1,
        "created_at": created,
        "updated_at": created,
        "expires_at": expires_at.decode(),
        "available_at": available_at.decode() or None,
        "start_deadline_at": start_deadline_at.decode() or None,
    }
