"""Authentication by API key, and the scope that each operation requires."""

from collections.abc import Mapping
from typing import Any, Final

from litestar import Request
from litestar.datastructures import State
from litestar.openapi.spec import SecurityScheme
from litestar.types import HTTPScope

from service.api.client_identity import KEY
from service.domain.api_keys import ApiKey, Scope, find_api_key
from service.domain.errors import InsufficientScope, Unauthenticated

#: The scope that each operation requires; `None` requires no key. Handlers without an id serve pages without job data.
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
#: The scope that also suffices with a `Lease-Token`: the store rejects every token but that of the job's last lease.
LEASE_HOLDER_SCOPES: Final[Mapping[str | None, Scope]] = {"updateJob": Scope.WORK}
#: Key in the application's state: the API keys.
API_KEYS: Final = "api_keys"

SCHEME: Final = "apiKey"
SCHEMES: Final[dict[str, Any]] = {
    SCHEME: SecurityScheme(
        type="http",
        scheme="bearer",
        description="An API key, if the service requires one. Each operation lists the scopes of which one suffices.",
    )
}


def openapi_security(operation: str | None) -> list[dict[str, list[str]]]:
    """Return `security` of an operation: the scopes of which one suffices, and `{}` for a service without keys."""
    scopes = [scope for scope in (REQUIRED_SCOPES[operation], LEASE_HOLDER_SCOPES.get(operation)) if scope]
    return [*({SCHEME: [scope.value]} for scope in scopes), {}] if scopes else []


def authorize(request: Request[Any, Any, Any]) -> None:
    """Check that the API key of a request has the scope of its operation. Without configured keys, allow every request.

    Raises `Unauthenticated` and `InsufficientScope`.
    """
    state: State = request.app.state
    keys: tuple[ApiKey, ...] = state[API_KEYS]
    if not keys:
        return
    scope = request.scope
    operation = request.route_handler.operation_id
    required = REQUIRED_SCOPES[operation if isinstance(operation, str) else None]
    if required is None:
        return
    key = _authenticate(scope, keys)
    scope["state"][KEY] = key
    alternative = LEASE_HOLDER_SCOPES.get(str(operation))
    if required not in key.scopes and not (alternative in key.scopes and _has_lease_token(scope)):
        raise InsufficientScope(key.name, required, alternative)


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
    """Return whether a request has exactly one token that is not empty; later code treats an empty one as absent."""
    sent = _values(scope, b"lease-token")
    return len(sent) == 1 and sent[0].strip() != b""


def _values(scope: HTTPScope, header: bytes) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == header]
