"""The OpenAPI document: its description, tags and shared components."""

from collections.abc import Callable
from typing import Any, Final

from litestar import Request, Router
from litestar.openapi import OpenAPIConfig, spec
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin

from service import __version__
from service.api import auth
from service.api.middleware.decompression import GZIP
from service.api.openapi import operations as docs
from service.api.openapi.document import complete, to_openapi_30
from service.api.openapi.examples import DETAILS, ERRORS, PENDING, example
from service.api.problems import ALL_PROBLEM_TYPES, PROBLEM_TYPES, ProblemType, build_problem, extension_members
from service.api.request_context import CORRELATION_HEADER, context_of
from service.domain.errors import JobStateError

DESCRIPTION: Final = """\
jobstate stores the state of background jobs. Clients create, watch and cancel jobs. Workers claim jobs under a lease
and report progress and results.

* **Absent fields.** An optional field without a value is left out, never `null`. `null` is a value in any JSON
  (`input_params`, `result`, `error_message`), and clears a setting of a queue.
* **Compatibility.** Responses may get new fields, statuses and problem types: ignore those that you do not know.
  Requests are strict: unknown fields are rejected, and under `/v1` unknown query parameters too.
* **Errors** are problems (RFC 9457, `application/problem+json`). Distinguish them by `type`. Each operation lists its
  own.
* **Retries.** After a request without a response, send the same request again before any other. With your own `job_id`
  or an `Idempotency-Key` it takes effect once. A job remembers its creation and its last change.
* **X-Correlation-ID** may be sent with every request. It is returned in the response and logged with the request. A
  missing or invalid id is replaced.
* **API keys.** A service may require one, as `Authorization: Bearer KEY`. Each operation lists its scopes.
* **HEAD** is allowed wherever GET is, and returns the same status and headers without a body. `OPTIONS` lists the
  methods of a path in `Allow`.
* **Request bodies** are JSON in UTF-8, uncompressed or with `Content-Encoding: gzip`. The size limit applies to the
  uncompressed bytes.
* **Conditional requests.** An `ETag` identifies a state of a job. `If-None-Match` saves a transfer, `If-Match` prevents
  lost updates.
"""
TAGS: Final = (
    spec.Tag("events", "Event streams, which replace polling."),
    spec.Tag("jobs", "Create, read, update, cancel and delete jobs."),
    spec.Tag("operations", "Health, metrics, queues and drains."),
    spec.Tag("workers", "Claim jobs under a lease, extend the lease, release jobs."),
)


class Document(JsonRenderPlugin):
    """Renders the document as JSON; `servers` has the path prefix that the client uses."""

    def __init__(self, path: str, convert: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Serve what `convert` makes of Litestar's document at `path`."""
        super().__init__(path=path)
        self._convert = convert
        self._document: dict[str, Any] | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the document as JSON."""
        if self._document is None:
            self._document = self._convert(openapi_schema)
        [server] = self._document["servers"]
        public = {**server, "url": context_of(request.scope).path_prefix or server["url"]}
        return self.render_json(request, {**self._document, "servers": [public]})


def openapi_config(router: Router, *pages: OpenAPIRenderPlugin) -> OpenAPIConfig:
    """Return the configuration of the document; `router` serves it and the `pages` that display it."""
    return OpenAPIConfig(
        title="jobstate",
        version=__version__,
        description=DESCRIPTION,
        license=spec.License("MIT", identifier="MIT"),
        servers=[spec.Server("/", "The service that serves this document")],
        tags=list(TAGS),
        components=spec.Components(headers=_headers(), examples=_examples(), security_schemes=auth.SCHEMES),
        use_handler_docstrings=True,
        security=[],  # each operation has its own
        openapi_router=router,
        render_plugins=[
            Document("/openapi.json", complete),
            Document("/openapi-3.0.json", lambda document: to_openapi_30(complete(document))),
            *pages,
        ],
    )


def _headers() -> dict[str, spec.OpenAPIHeader | spec.Reference]:
    def header(description: str, required: bool = False, **schema: Any) -> spec.OpenAPIHeader:
        of = spec.Schema(**{"type": spec.OpenAPIType.STRING, **schema})
        return spec.OpenAPIHeader(of, description=description, required=required)

    etag, uri = '^"[0-9]+-[0-9]+(-stale)?"$', spec.OpenAPIFormat.URI_REFERENCE
    return {
        CORRELATION_HEADER: header("The correlation id of the request, sent by the client or generated", True),
        "ETag": header("Identifies this state of the job, for `If-Match` and `If-None-Match`", True, pattern=etag),
        "Location": header("The path of the job or bulk action", True, format=uri),
        "Idempotency-Replayed": header("Present if an equal request was answered before", const="true"),
        "Preference-Applied": header("The preference that was applied"),
        "WWW-Authenticate": header("Why the API key was rejected (RFC 6750, section 3)"),
        "Accept": header("The supported media type, if the request had another one"),
        "Accept-Encoding": header("The supported coding, if the request had another one", const=GZIP),
        "RateLimit": header("With a rate limit: the remaining requests (`r`) and the seconds until it is reset (`t`)"),
        "RateLimit-Policy": header("With a rate limit: the allowed requests (`q`) per window (`w`, in seconds)"),
        "Retry-After": header(
            "Seconds after which to send the request again", type=spec.OpenAPIType.INTEGER, minimum=0
        ),
    }


def _examples() -> dict[str, spec.Example | spec.Reference]:
    """Return an example of every problem that an operation may return."""
    raised = {PROBLEM_TYPES[type(error)]: error for error in ERRORS}
    without_operation = docs.problems(404, 405)
    listed = (one for one in ALL_PROBLEM_TYPES if one not in without_operation)
    return {one.name: _problem_example(one, raised.get(one)) for one in listed}


def _problem_example(problem_type: ProblemType, error: JobStateError | None) -> spec.Example:
    detail = DETAILS.get(problem_type.status, problem_type.title) if error is None else str(error)
    extensions = {} if error is None else extension_members(error)
    return example(build_problem(problem_type, detail, PENDING.correlation_id or "", extensions))
