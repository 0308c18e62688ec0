"""Authentication by API key, and the scope that each operation requires, which its route declares."""

from typing import Any, Final, NamedTuple, TypedDict

from litestar import Request
from litestar.openapi.spec import SecurityScheme
from litestar.types import HTTPScope

from service.api.request_context import context_of
from service.domain.actor import actor
from service.domain.api_keys import ApiKey, Scope, find_api_key
from service.domain.errors import InsufficientScope, Unauthenticated
from service.services import services_of

#: Option of a handler: its `Access`.
ACCESS: Final = "access"

SCHEME: Final = "apiKey"
SCHEMES: Final[dict[str, Any]] = {
    SCHEME: SecurityScheme(
        type="http",
        scheme="bearer",
        description="An API key, if the service requires one. Each operation lists the scopes of which one suffices.",
    )
}


class Access(NamedTuple):
    """The scope that an operation requires of an API key; `None` requires no key."""

    scope: Scope | None
    #: The scope that also suffices with a `Lease-Token`: the store rejects all but the token of the job's last lease.
    lease_holder: Scope | None = None


class AccessKwargs(TypedDict):
    """Arguments of a route handler or a router."""

    opt: dict[str, Any]
    security: list[dict[str, list[str]]]


def requires(scope: Scope, *, lease_holder: Scope | None = None) -> AccessKwargs:
    """Return the arguments of a route handler whose clients need a key with `scope`, if the service has keys.

    With `lease_holder`, a key with that scope and a `Lease-Token` also suffices.
    """
    sufficient = [one for one in (scope, lease_holder) if one]
    return AccessKwargs(
        opt={ACCESS: Access(scope, lease_holder)}, security=[*({SCHEME: [one.value]} for one in sufficient), {}]
    )


#: The arguments of a route handler, or of a router, that shows no job data: it requires no key.
PUBLIC: Final = AccessKwargs(opt={ACCESS: Access(None)}, security=[])


def authorize(request: Request[Any, Any, Any]) -> None:
    """Check that the API key of a request has the scope of its operation. Without configured keys, allow every request.

    A handler that declares no access allows no key. Raises `Unauthenticated` and `InsufficientScope`.
    """
    access: Access | None = request.route_handler.opt.get(ACCESS)
    if access is not None and access.scope is None:
        return
    keys = services_of(request).api_keys
    if not keys:
        return
    scope = request.scope
    context_of(scope).api_key = key = _authenticate(scope, keys)
    actor.set(key.name)
    if access is None:
        raise InsufficientScope(key.name, None, None)
    if access.scope not in key.scopes and not (access.lease_holder in key.scopes and _has_lease_token(scope)):
        raise InsufficientScope(key.name, access.scope, access.lease_holder)


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
