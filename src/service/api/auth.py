"""Who is let do what: the scope that each operation takes, and the look at a request's API key."""

from collections.abc import Mapping
from typing import Any, Final

from litestar import Request
from litestar.datastructures import State
from litestar.openapi.spec import SecurityScheme
from litestar.types import HTTPScope

from service.api.client_identity import KEY
from service.domain.api_keys import ApiKey, Scope, find_api_key
from service.domain.errors import InsufficientScope, Unauthenticated

#: The scope of every operation; `None` is for everybody. What has no id is a page, and shows nothing of jobs by itself.
REQUIRED_SCOPES: Final[Mapping[str | None, Scope | None]] = {
    None: None,
    "getHealth": None,
    "getReadiness": None,
    "getMetrics": Scope.READ,
    "createJob": Scope.WRITE,
    "listJobs": Scope.READ,
    "batchGetJobs": Scope.READ,
    "getStats": Scope.READ,
    "getJob": Scope.READ,
    "getJobResult": Scope.READ,
    "getJobHistory": Scope.READ,
    "streamJobEvents": Scope.READ,
    "streamEvents": Scope.READ,
    "updateJob": Scope.WRITE,
    "cancelJob": Scope.WRITE,
    "deleteJob": Scope.WRITE,
    "claimJob": Scope.WORK,
    "heartbeatJob": Scope.WORK,
    "releaseJob": Scope.WORK,
    "listQueues": Scope.READ,
    "configureQueue": Scope.ADMIN,
    "startDrain": Scope.ADMIN,
    "getDrain": Scope.READ,
    "stopDrain": Scope.ADMIN,
}
#: The scope that is enough besides for whoever sends a Lease-Token: the store refuses all but the job's last one.
LEASE_HOLDER_SCOPES: Final[Mapping[str | None, Scope]] = {"updateJob": Scope.WORK}
#: Where the application's state has the keys.
API_KEYS: Final = "api_keys"

SCHEME: Final = "apiKey"
SCHEMES: Final[dict[str, Any]] = {
    SCHEME: SecurityScheme(
        type="http",
        scheme="bearer",
        description="An API key, where the service has some; each operation names the scope that it takes.",
    )
}


def openapi_security(operation: str | None) -> list[dict[str, list[str]]]:
    """Return what the API document says: the scopes of which one is enough, and that a service may have no keys."""
    scopes = [scope for scope in (REQUIRED_SCOPES[operation], LEASE_HOLDER_SCOPES.get(operation)) if scope]
    return [*({SCHEME: [scope.value]} for scope in scopes), {}] if scopes else []


def authorize(request: Request[Any, Any, Any]) -> None:
    """Let a request pass whose key has the scope of its operation; any where the service has no keys.

    Raises `Unauthenticated` and `InsufficientScope`.
    """
    state: State = request.app.state
    keys: tuple[ApiKey, ...] = state[API_KEYS]
    if not keys:
        return
    scope = request.scope
    operation = request.route_handler.operation_id
    needed = REQUIRED_SCOPES[operation if isinstance(operation, str) else None]
    if needed is None:
        return
    key = _authenticate(scope, keys)
    scope["state"][KEY] = key
    enough = LEASE_HOLDER_SCOPES.get(str(operation))
    if needed not in key.scopes and not (enough in key.scopes and _has_lease_token(scope)):
        raise InsufficientScope(key.name, needed, enough)


def _authenticate(scope: HTTPScope, keys: tuple[ApiKey, ...]) -> ApiKey:
    sent = _values(scope, b"authorization")
    if not sent:
        raise Unauthenticated(is_unknown=False)
    scheme, _, key = sent[0].partition(b" ")
    found = find_api_key(keys, key.strip()) if len(sent) == 1 and scheme.lower() == b"bearer" else None
    if found is None:
        raise Unauthenticated(is_unknown=True)
    return found


def _has_lease_token(scope: HTTPScope) -> bool:
    """Say whether there is one token and no doubt about it: an empty one would count as none later on."""
    sent = _values(scope, b"lease-token")
    return len(sent) == 1 and sent[0].strip() != b""


def _values(scope: HTTPScope, wanted: bytes) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == wanted]
