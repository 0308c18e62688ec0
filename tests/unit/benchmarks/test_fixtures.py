from benchmarks.fixtures import API_KEYS, AUTHORIZATION
from service.domain.api_keys import Scope, find_api_key
from service.settings import Settings


def test_the_measured_service_requires_the_key_that_the_benchmarks_send() -> None:
    keys = Settings.from_environment({"API_KEYS": API_KEYS}).api_keys
    key = find_api_key(keys, AUTHORIZATION["Authorization"].removeprefix("Bearer ").encode())
    assert key is not None
    assert key.scopes == {Scope.READ, Scope.WRITE, Scope.WORK}
