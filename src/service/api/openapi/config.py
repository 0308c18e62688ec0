"""The API document as a whole: what the service is, and the parts that its operations share."""

from typing import Any, Final

from litestar import Request, Router
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import (
    Components,
    Example,
    License,
    OpenAPIFormat,
    OpenAPIHeader,
    OpenAPIType,
    Parameter,
    Reference,
    Schema,
    Server,
    Tag,
)

from service import __version__
from service.api import auth, correlation
from service.api.addresses import path_prefix
from service.api.middleware.decompression import GZIP
from service.api.openapi.examples import DETAILS, ERRORS, PENDING, example
from service.api.openapi.operations import (
    ACCEPT,
    ACCEPT_ENCODING,
    ETAG,
    IDEMPOTENCY_REPLAYED,
    LOCATION,
    PREFERENCE_APPLIED,
    RETRY_AFTER,
    WWW_AUTHENTICATE,
    problems,
)
from service.api.problems import ALL_PROBLEM_TYPES, PROBLEM_TYPES, ProblemType, build_problem, extension_members
from service.domain.constraints import LABEL
from service.domain.errors import JobStateError

DESCRIPTION: Final = """\
The durable memory of background jobs. Create a job, let a worker in any language move it on, read its result.

* **Absent is not null.** An optional field that is not there is left out. `null` stands only where any JSON may
  stand (`input_params`, `result`, `error_message`), and is kept; and in the settings of a queue, where it clears.
* **Answers grow.** Fields, statuses and problem types may be added: let those pass that you do not know. Requests are
  strict: an unknown field is refused, and under `/v1` an unknown query parameter.
* **Every refusal is a problem** (RFC 9457, `application/problem+json`). Tell them apart by `type`: each operation lists
  its own.
* **Repeat what got no answer**, before you send anything else: with your own `job_id`, or an `Idempotency-Key`, it
  happens once. A job remembers its creation and its last change.
* **API keys.** A service may ask for one, as `Authorization: Bearer KEY`; each operation names the scope that it takes.
* **HEAD** is answered wherever GET is: with GET's status and headers, and no body. `OPTIONS` lists the methods of an
  address in `Allow`.
* **Request bodies** are JSON in UTF-8, as they are or with `Content-Encoding: gzip`; the limit on their size counts
  what they unpack to.
* **Conditions.** An `ETag` names a state of a job: `If-None-Match` saves the reading, `If-Match` guards the change.
"""
TAGS: Final = (
    Tag("jobs", "Creating jobs, moving them on, reading them."),
    Tag("operations", "What operators and their tools ask: does it live, does it work, how much is there."),
    Tag("events", "Waiting for what happens, without asking again and again."),
    Tag("workers", "What workers do: claiming jobs under a lease, being heard of, giving them back."),
)


class Document(JsonRenderPlugin):
    """The document as JSON, whose `servers` name the address that its client uses."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the document."""
        [server] = openapi_schema["servers"]
        here = {**server, "url": path_prefix(request.scope) or server["url"]}
        return self.render_json(request, {**openapi_schema, "servers": [here]})


def openapi_config(router: Router, *pages: OpenAPIRenderPlugin) -> OpenAPIConfig:
    """Return what Litestar makes the document from, to be served on `router` with `pages` that show it."""
    return OpenAPIConfig(
        title="jobstate",
        version=__version__,
        description=DESCRIPTION,
        license=License("MIT", identifier="MIT"),
        servers=[Server("/", "The service that this document comes from")],
        tags=list(TAGS),
        components=Components(
            headers=_headers(), examples=_examples(), parameters=_parameters(), security_schemes=auth.SCHEMES
        ),
        use_handler_docstrings=True,
        security=[],  # each operation says its own
        openapi_router=router,
        render_plugins=[Document(), *pages],
    )


def _headers() -> dict[str, OpenAPIHeader | Reference]:
    text = OpenAPIType.STRING
    return {
        correlation.HEADER: OpenAPIHeader(
            Schema(type=text), description="The id of the request: as it was sent, else made here", required=True
        ),
        ETAG: OpenAPIHeader(
            Schema(type=text, pattern='^"[0-9]+-[0-9]+(-stale)?"$'),
            description="Names this state of this job, for `If-Match` and `If-None-Match`",
            required=True,
        ),
        LOCATION: OpenAPIHeader(
            Schema(type=text, format=OpenAPIFormat.URI_REFERENCE), description="The address of the job", required=True
        ),
        IDEMPOTENCY_REPLAYED: OpenAPIHeader(
            Schema(type=text, const="true"), description="There if an equal request had created the job before"
        ),
        PREFERENCE_APPLIED: OpenAPIHeader(Schema(type=text), description="The preference that was followed"),
        WWW_AUTHENTICATE: OpenAPIHeader(
            Schema(type=text), description="Where an API key is asked for: what it lacks (RFC 6750, section 3)"
        ),
        ACCEPT: OpenAPIHeader(
            Schema(type=text), description="The media type that is read here, where another one was sent"
        ),
        ACCEPT_ENCODING: OpenAPIHeader(
            Schema(type=text, const=GZIP), description="The coding that is read here, where another one was sent"
        ),
        "RateLimit": OpenAPIHeader(
            Schema(type=text), description="Where requests are limited: what is left (`r`), and for how long (`t`, s)"
        ),
        "RateLimit-Policy": OpenAPIHeader(
            Schema(type=text), description="Where requests are limited: how many (`q`) in how long (`w`, s)"
        ),
        RETRY_AFTER: OpenAPIHeader(
            Schema(type=OpenAPIType.INTEGER, minimum=0), description="After how many seconds to ask again, if at all"
        ),
    }


def _examples() -> dict[str, Example | Reference]:
    """Return one occurrence of every problem that an operation may answer."""
    raised = {PROBLEM_TYPES[type(error)]: error for error in ERRORS}
    nowhere = problems(404, 405)
    return {kind.name: _occurrence(kind, raised.get(kind)) for kind in ALL_PROBLEM_TYPES if kind not in nowhere}


def _occurrence(kind: ProblemType, error: JobStateError | None) -> Example:
    detail = DETAILS.get(kind.status, kind.title) if error is None else str(error)
    further = {} if error is None else extension_members(error)
    return example(build_problem(kind, detail, PENDING.correlation_id or "", further))


def _parameters() -> dict[str, Parameter | Reference]:
    return {
        correlation.HEADER: Parameter(
            name=correlation.HEADER,
            param_in="header",
            schema=Schema(type=OpenAPIType.STRING),
            description=f"What ties the request to its log lines: {LABEL.allowed}; anything else is replaced",
        )
    }
