"""API keys: found by their hashes, and limited to their scopes."""

import hmac
import re
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from litestar import asgi, get
from litestar.routes import HTTPRoute
from litestar.testing import TestClient

from jobstate.cli import main
from service.api import auth
from service.api.auth import ACCESS, PUBLIC, Access, authorize, requires
from service.api.client_identity import client_id
from service.api.request_context import context_of
from service.app import create_app
from service.domain import api_keys as domain
from service.domain.api_keys import ApiKey, Scope, find_api_key, generate_key, hash_key
from service.domain.errors import InsufficientScope, Unauthenticated
from service.services import SERVICES
from service.settings import Settings
from tests.unit.api.openapi.test_document import OPERATIONS

READER, WORKER, WRITER = generate_key(), generate_key(), generate_key()


def api_key(name: str, key: str, *scopes: Scope) -> ApiKey:
    return ApiKey(name, frozenset(scopes), hash_key(key.encode()))


ALL = (
    api_key("reader", READER, Scope.READ),
    api_key("worker", WORKER, Scope.WORK),
    api_key("writer", WRITER, Scope.WRITE),
)


#: What each operation declares.
ACCESSES: dict[str, Access] = {
    handler.operation_id: handler.opt[ACCESS]
    for route in create_app(Settings.from_environment({}), "redis://nowhere").routes
    if isinstance(route, HTTPRoute)
    for handler in route.route_handlers
    if isinstance(handler.operation_id, str)
}
#: The operations of each scope.
OPERATIONS_BY_SCOPE: dict[Scope | None, set[str]] = {
    None: {"getHealth", "getReadiness"},
    Scope.READ: {
        *("getMetrics", "listJobs", "batchGetJobs", "getStats", "getJob", "getJobResult", "getJobHistory"),
        *("streamJobEvents", "streamEvents", "listQueues", "getQueue", "getDrain"),
        *("listBulkActions", "getBulkAction"),
    },
    Scope.WRITE: {
        *("createJob", "batchCreateJobs", "updateJob", "cancelJob", "retryJob", "deleteJob"),
        *("startBulkAction", "abortBulkAction"),
    },
    Scope.WORK: {"claimJob", "batchClaimJobs", "heartbeatJob", "releaseJob"},
    Scope.ADMIN: {"configureQueue", "startDrain", "stopDrain"},
}
GUARDED = sorted(name for name, access in ACCESSES.items() if access.scope)


class FakeRequest:
    """A request as `authorize` reads it."""

    def __init__(self, operation: str, *headers: tuple[str, str], keys: tuple[ApiKey, ...] = ALL) -> None:
        raw = [(name.encode(), value.encode()) for name, value in headers]
        self.scope: Any = {"headers": raw, "state": {}, "client": ("192.0.2.1", 1)}
        self.app = SimpleNamespace(state={SERVICES: SimpleNamespace(api_keys=keys)})
        self.route_handler = SimpleNamespace(opt={ACCESS: ACCESSES[operation]})

    @property
    def api_key(self) -> ApiKey | None:
        return context_of(self.scope).api_key


def send(operation: str, *headers: tuple[str, str], keys: tuple[ApiKey, ...] = ALL) -> FakeRequest:
    request: Any = FakeRequest(operation, *headers, keys=keys)
    authorize(request)
    found: FakeRequest = request
    return found


def bearer(key: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {key}")


def test_every_operation_declares_its_scope() -> None:
    assert ACCESSES.keys() == OPERATIONS.keys()
    found = {scope: {name for name, access in ACCESSES.items() if access.scope is scope} for scope in (None, *Scope)}
    assert found == OPERATIONS_BY_SCOPE


def test_every_handler_declares_its_access() -> None:
    routes = create_app(Settings.from_environment({}), "redis://nowhere").routes
    handlers = [
        handler
        for route in routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if "OPTIONS" not in handler.http_methods
    ]
    assert len(handlers) > len(OPERATIONS)
    assert [str(handler) for handler in handlers if not isinstance(handler.opt.get(ACCESS), Access)] == []


async def other_hook(_: Any) -> None: ...


@get("/undeclared", sync_to_thread=False)
def undeclared() -> None: ...


@get("/v1/hooked", before_request=other_hook, sync_to_thread=False, **requires(Scope.READ))
def hooked() -> None: ...


@asgi("/mounted", is_mount=True, copy_scope=True, opt=PUBLIC["opt"])
async def mounted(scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (undeclared, r"undeclared` declares no access: add `\*\*requires"),
        (hooked, "hooked` does not run `validate_request`"),
        (mounted, "/mounted does not run `validate_request`"),
    ],
)
def test_an_application_with_an_unchecked_handler_is_not_created(
    handler: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.app.DrainController", handler)
    with pytest.raises(TypeError, match=message):
        create_app(Settings.from_environment({}), "redis://nowhere")


@pytest.mark.parametrize("path", ["/undeclared", "/v1/undeclared", "/health/undeclared"])
def test_a_handler_that_declares_nothing_rejects_every_key(path: str) -> None:
    entry = f"all:{'+'.join(Scope)}:{hash_key(READER.encode()).hex()}"
    app = create_app(Settings.from_environment({"API_KEYS": entry}), "redis://127.0.0.1:1/0")
    called: list[bool] = []

    @get(path, operation_id="getHealth", sync_to_thread=False)
    def undeclared() -> None:
        called.append(True)

    app.register(undeclared)
    with TestClient(app) as client:
        assert client.get(path).status_code == 401
        response = client.get(path, headers=dict([bearer(READER)]))
        assert client.options(path).status_code == 204
    assert (response.status_code, response.json()["type"]) == (403, "urn:jobstate:problem:insufficient-scope")
    assert response.json()["detail"] == "The API key 'all' may not do this."
    assert "scope" not in response.json()
    assert response.headers["www-authenticate"] == 'Bearer realm="jobstate", error="insufficient_scope"'
    assert called == []


def test_handlers_without_an_id_serve_pages() -> None:
    app = create_app(Settings.from_environment({}), "redis://nowhere")
    without = {
        route.path
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler, _ in route.route_handler_map.values()
        if not isinstance(handler.operation_id, str) and "OPTIONS" not in handler.http_methods
    }
    assert {re.sub("[0-9a-f]{12}", "DIGEST", path) for path in without if not path.startswith("/schema")} == {
        "/",
        "/assets/DIGEST/{name:str}",
    }


@pytest.mark.parametrize("operation", sorted(ACCESSES))
def test_without_configured_keys_every_request_is_allowed(operation: str) -> None:
    assert send(operation, keys=()).api_key is None


@pytest.mark.parametrize("operation", GUARDED)
@pytest.mark.parametrize(
    "headers",
    [
        (),
        (bearer("jobstate_wrong"),),
        (bearer(""),),
        (bearer(hash_key(READER.encode()).hex()),),
        (("authorization", f"Basic {READER}"),),
        (("authorization", READER),),
        (("authorization", f"Bearer{READER}"),),
        (("x-api-key", READER),),
        (("cookie", f"key={READER}"),),
        (bearer(READER), bearer(READER)),
        (bearer(f"{READER}, Bearer {READER}"),),
    ],
)
def test_only_a_single_known_key_is_accepted(operation: str, headers: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(Unauthenticated) as rejected:
        send(operation, *headers)
    assert rejected.value.is_unknown == any(name == "authorization" for name, _ in headers)
    assert READER not in str(rejected.value)


@pytest.mark.parametrize("operation", GUARDED)
@pytest.mark.parametrize("scope", Scope)
def test_a_key_authorizes_the_operations_of_its_scope_only(operation: str, scope: Scope) -> None:
    keys = (api_key("one", READER, scope),)
    required = ACCESSES[operation].scope
    if required is scope:
        assert send(operation, bearer(READER), keys=keys).api_key is keys[0]
        return
    with pytest.raises(InsufficientScope) as rejected:
        send(operation, bearer(READER), keys=keys)
    assert rejected.value.scope == required
    assert f"the scope `{required}`" in str(rejected.value)


def test_a_worker_can_change_a_job_only_with_its_lease_token() -> None:
    with_lease = {name: access.lease_holder for name, access in ACCESSES.items() if access.lease_holder}
    assert with_lease == {"updateJob": Scope.WORK}
    send("updateJob", bearer(WORKER), ("lease-token", "1-abc"))
    send("updateJob", bearer(WRITER), ("lease-token", "1-abc"))
    for tokens in ([], [""], [" "], ["1-abc", ""], ["", "1-abc"], ["1-abc", "1-abc"]):
        with pytest.raises(InsufficientScope, match="`write`, or a key with the scope `work` and a `Lease-Token`"):
            send("updateJob", bearer(WORKER), *(("lease-token", token) for token in tokens))
    for operation, key in (("updateJob", READER), ("cancelJob", WORKER), ("deleteJob", WORKER), ("getJob", WORKER)):
        with pytest.raises(InsufficientScope):
            send(operation, bearer(key), ("lease-token", "1-abc"))


def test_a_client_is_identified_by_its_key() -> None:
    assert client_id(send("getJob", ("authorization", f"bEARER  {READER} ")).scope) == "key:reader"
    assert client_id(send("getHealth", bearer(READER)).scope) == "192.0.2.1"


def test_a_key_is_compared_with_every_key_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    spy = type("hmac", (), {"compare_digest": staticmethod(compare)})
    monkeypatch.setattr(domain, "hmac", spy)
    for key in (READER, WRITER, "none"):
        compared.clear()
        find_api_key(ALL, key.encode())
        assert compared == [(one.digest, sha256(key.encode()).digest()) for one in ALL]


def test_a_generated_key_is_random_and_43_characters_long() -> None:
    made = {generate_key() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"jobstate_[A-Za-z0-9_-]{43}", key) for key in made)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["key", *arguments])


def test_the_command_prints_a_key_and_its_entry() -> None:
    result = run("ci", "--scopes", "write,read")
    assert result.exit_code == 0
    key, entry = (line.partition("=")[2] for line in result.stdout.splitlines())
    [found] = Settings.from_environment({"API_KEYS": entry}).api_keys
    assert (found.name, *sorted(found.scopes)) == ("ci", "read", "write")
    assert find_api_key([found], key.encode()) is found
    assert run("ci", "--scopes", "write,read").stdout != result.stdout


@pytest.mark.parametrize(
    "arguments", [["ci"], ["ci", "--scopes", ""], ["ci", "--scopes", "root"], ["a:b", "--scopes", "read"]]
)
def test_the_command_names_what_is_allowed(arguments: list[str]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "scopes" in result.stderr.lower() or "allowed" in result.stderr


def test_the_document_has_the_required_scopes() -> None:
    for name, (scope, lease_holder) in ACCESSES.items():
        sufficient = [{auth.SCHEME: [one.value]} for one in (scope, lease_holder) if one]
        assert OPERATIONS[name]["security"] == ([*sufficient, {}] if sufficient else [])
    assert OPERATIONS["updateJob"]["security"] == [{auth.SCHEME: ["write"]}, {auth.SCHEME: ["work"]}, {}]
    assert OPERATIONS["getHealth"]["security"] == []
