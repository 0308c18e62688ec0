"""API keys: found by their hashes, and limited to their scopes."""

import hmac
import re
from hashlib import sha256
from typing import Any

import pytest
from click.testing import CliRunner
from litestar.routes import HTTPRoute

from jobstate.cli import main
from service.api import auth
from service.api.auth import API_KEYS, LEASE_HOLDER_SCOPES, REQUIRED_SCOPES, authorize
from service.api.client_identity import client_id, get_api_key
from service.app import create_app
from service.domain import api_keys as domain
from service.domain.api_keys import ApiKey, Scope, find_api_key, generate_key, hash_key
from service.domain.errors import InsufficientScope, Unauthenticated
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


class FakeRequest:
    """A request as `authorize` reads it."""

    def __init__(self, operation: str | None, *headers: tuple[str, str], keys: tuple[ApiKey, ...] = ALL) -> None:
        raw = [(name.encode(), value.encode()) for name, value in headers]
        self.scope: Any = {"headers": raw, "state": {}, "client": ("192.0.2.1", 1)}
        self.app = type("App", (), {"state": {API_KEYS: keys}})
        self.route_handler = type("Handler", (), {"operation_id": operation})


def send(operation: str | None, *headers: tuple[str, str], keys: tuple[ApiKey, ...] = ALL) -> FakeRequest:
    request: Any = FakeRequest(operation, *headers, keys=keys)
    authorize(request)
    found: FakeRequest = request
    return found


def bearer(key: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {key}")


def test_every_operation_is_in_the_table_of_scopes() -> None:
    assert REQUIRED_SCOPES.keys() == {None, *OPERATIONS}
    assert {name for name, scope in REQUIRED_SCOPES.items() if scope is None} == {None, "getHealth", "getReadiness"}


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


@pytest.mark.parametrize("operation", REQUIRED_SCOPES)
def test_without_configured_keys_every_request_is_allowed(operation: str) -> None:
    assert get_api_key(send(operation, keys=()).scope) is None


@pytest.mark.parametrize("operation", [name for name, scope in REQUIRED_SCOPES.items() if scope])
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


@pytest.mark.parametrize("operation", [name for name, scope in REQUIRED_SCOPES.items() if scope])
@pytest.mark.parametrize("scope", Scope)
def test_a_key_authorizes_the_operations_of_its_scope_only(operation: str, scope: Scope) -> None:
    keys = (api_key("one", READER, scope),)
    if REQUIRED_SCOPES[operation] is scope:
        assert get_api_key(send(operation, bearer(READER), keys=keys).scope) is keys[0]
        return
    with pytest.raises(InsufficientScope) as rejected:
        send(operation, bearer(READER), keys=keys)
    assert rejected.value.scope == REQUIRED_SCOPES[operation]
    assert f"the scope `{REQUIRED_SCOPES[operation]}`" in str(rejected.value)


def test_a_worker_can_change_a_job_only_with_its_lease_token() -> None:
    assert LEASE_HOLDER_SCOPES == {"updateJob": Scope.WORK}
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
    assert OPERATIONS["updateJob"]["security"] == [{auth.SCHEME: ["write"]}, {auth.SCHEME: ["work"]}, {}]
    assert OPERATIONS["getHealth"]["security"] == []
