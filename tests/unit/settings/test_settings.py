import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service.domain.api_keys import KEY_PREFIX, ApiKey, Scope, hash_key
from service.domain.rate_limits import RateLimit
from service.settings import VARIABLES, Settings, SettingsError, redact_url, retention_from_environment
from service.store.pool import create_pool

DEFAULTS: dict[str, Any] = {
    "redis_url": None,
    "redis_host": None,
    "redis_port": 6379,
    "redis_max_connections": 9,
    "redis_waitaof": False,
    "redis_wait_replicas": 0,
    "redis_partitions": 1,
    "data": Path("./.jobstate"),
    "host": "127.0.0.1",
    "port": 8000,
    "workers": 1,
    "job_ttl_days": 7,
    "job_ttl_seconds": None,
    "ttl": timedelta(days=7),
    "max_batch_bytes": 8 * 1024 * 1024,
    "max_body_bytes": 1024 * 1024,
    "max_connections": 2000,
    "max_concurrent_requests": 1000,
    "max_waiting_requests": 1000,
    "max_watchers_per_client": 100,
    "client_timeout_seconds": 30,
    "keep_alive_seconds": 75,
    "shutdown_drain_seconds": 90,
    "api_keys": (),
    "api_keys_file": (),
    "allow_anonymous": False,
    "allowed_hosts": ("localhost", "127.0.0.1", "[::1]"),
    "trusted_proxies": (),
    "cors_origins": (),
    "rate_limit": None,
    "log_level": "info",
    "log_format": None,
}
HASH = "0a" * 32
GOOD = [
    (
        "API_KEYS",
        f"ci:read+write:{HASH}",
        "api_keys",
        (ApiKey("ci", frozenset({Scope.READ, Scope.WRITE}), b"\n" * 32),),
    ),
    ("ALLOW_ANONYMOUS", "1", "allow_anonymous", True),
    ("REDIS_URL", "redis://redis", "redis_url", "redis://redis"),
    ("REDIS_URL", "redis://user:p%40ss@redis:6380/3", "redis_url", "redis://user:p%40ss@redis:6380/3"),
    ("REDIS_URL", "rediss://redis:6379", "redis_url", "rediss://redis:6379"),
    ("REDIS_URL", "redis://[::1]:6379/0", "redis_url", "redis://[::1]:6379/0"),
    ("REDIS_URL", "unix:///run/redis.sock", "redis_url", "unix:///run/redis.sock"),
    ("REDIS_HOST", "redis", "redis_url", "redis://redis:6379/0"),
    ("REDIS_HOST", "10.0.0.1", "redis_url", "redis://10.0.0.1:6379/0"),
    ("REDIS_HOST", "::1", "redis_url", "redis://[::1]:6379/0"),
    ("JOBSTATE_DATA", "/var/lib/jobs", "data", Path("/var/lib/jobs")),
    ("REDIS_MAX_CONNECTIONS", "65", "redis_max_connections", 65),
    ("REDIS_WAITAOF", "1", "redis_waitaof", True),
    ("REDIS_WAIT_REPLICAS", "0", "redis_wait_replicas", 0),
    ("REDIS_PARTITIONS", "1", "redis_partitions", 1),
    ("REDIS_PARTITIONS", "1024", "redis_partitions", 1024),
    ("JOBSTATE_HOST", "localhost", "host", "localhost"),
    ("JOBSTATE_HOST", "::1", "host", "::1"),
    ("JOBSTATE_WORKERS", "64", "workers", 64),
    ("JOBSTATE_PORT", "0", "port", 0),
    ("JOBSTATE_PORT", "65535", "port", 65535),
    ("JOB_TTL_DAYS", "1", "ttl", timedelta(days=1)),
    ("JOB_TTL_DAYS", "365", "ttl", timedelta(days=365)),
    ("JOB_TTL_DAYS", " 30 ", "ttl", timedelta(days=30)),
    ("JOB_TTL_DAYS", "0" * 11 + "7", "ttl", timedelta(days=7)),
    ("JOB_TTL_SECONDS", "1", "ttl", timedelta(seconds=1)),
    ("JOB_TTL_SECONDS", "31536000", "ttl", timedelta(days=365)),
    ("MAX_BATCH_BYTES", "1024", "max_batch_bytes", 1024),
    ("MAX_BODY_BYTES", "1024", "max_body_bytes", 1024),
    ("MAX_BODY_BYTES", "536870912", "max_body_bytes", 536870912),
    ("MAX_CONNECTIONS", "1", "max_connections", 1),
    ("MAX_CONCURRENT_REQUESTS", "1000000", "max_concurrent_requests", 1000000),
    ("MAX_WAITING_REQUESTS", "1", "max_waiting_requests", 1),
    ("MAX_WATCHERS_PER_CLIENT", "1000000", "max_watchers_per_client", 1_000_000),
    ("CLIENT_TIMEOUT_SECONDS", "1", "client_timeout_seconds", 1),
    ("KEEP_ALIVE_SECONDS", "3600", "keep_alive_seconds", 3600),
    ("SHUTDOWN_DRAIN_SECONDS", "0", "shutdown_drain_seconds", 0),
    ("SHUTDOWN_DRAIN_SECONDS", "600", "shutdown_drain_seconds", 600),
    ("ALLOWED_HOSTS", "*", "allowed_hosts", None),
    ("ALLOWED_HOSTS", "Jobs.Example, *.b.org,", "allowed_hosts", ("jobs.example", "*.b.org")),
    ("ALLOWED_HOSTS", "10.0.0.1,::1,[fe80::1]", "allowed_hosts", ("10.0.0.1", "[::1]", "[fe80::1]")),
    ("TRUSTED_PROXIES", "10.0.0.0/8, ::1", "trusted_proxies", ("10.0.0.0/8", "::1")),
    ("TRUSTED_PROXIES", "*", "trusted_proxies", ("*",)),
    ("CORS_ORIGINS", "*", "cors_origins", ("*",)),
    (
        "CORS_ORIGINS",
        "https://a.org, http://localhost:3000,",
        "cors_origins",
        ("https://a.org", "http://localhost:3000"),
    ),
    (
        "CORS_ORIGINS",
        "https://b:443, HTTPS://APP.Example, http://c:80,http://[0::1]:8000",
        "cors_origins",
        ("https://b", "https://app.example", "http://c", "http://[::1]:8000"),
    ),
    ("RATE_LIMIT", "off", "rate_limit", None),
    ("RATE_LIMIT", "600/minute", "rate_limit", RateLimit(600, 60)),
    ("RATE_LIMIT", "1/SECOND", "rate_limit", RateLimit(1, 1)),
    ("RATE_LIMIT", "9999999/day", "rate_limit", RateLimit(9999999, 86400)),
    ("LOG_LEVEL", "DEBUG", "log_level", "debug"),
    ("LOG_LEVEL", "error", "log_level", "error"),
    ("LOG_FORMAT", "json", "log_format", "json"),
    ("LOG_FORMAT", "Console", "log_format", "console"),
]
NO_NUMBERS = ["1.5", "1.0", "-1", "+7", "seven", "1e1", "0x7", "1_0", "٣", "7 days", "9" * 5000, "0" * 12 + "7"]
BAD = [
    *(("ALLOW_ANONYMOUS", word) for word in ["yes", "2", "true", "True", "00", "01", "1.0", "null"]),
    *(("API_KEYS_FILE", path) for path in ["/nowhere/keys", "/", "/dev/null"]),
    *(
        ("REDIS_URL", url)
        for url in ["redis", "http://redis:6379", "redis://", "redis://redis:port", "redis://redis/x"]
    ),
    *(("REDIS_URL", url) for url in ["redis://redis:65536", "unix://", "redis://[::1", "//redis", "/run/redis.sock"]),
    *(("REDIS_HOST", host) for host in ["redis://redis", "a b", "a/b", "user@redis", "[::1]", "tcp://10.0.0.1:6379"]),
    *(("JOBSTATE_HOST", host) for host in ["http://localhost", "a b", "a/b"]),
    *(("JOBSTATE_PORT", port) for port in [*NO_NUMBERS, "65536"]),
    *(("JOB_TTL_DAYS", days) for days in [*NO_NUMBERS, "0", "366"]),
    *(("JOB_TTL_SECONDS", seconds) for seconds in [*NO_NUMBERS, "0", "31536001"]),
    *((f"MAX_{what}_BYTES", size) for what in ("BODY", "BATCH") for size in [*NO_NUMBERS, "1023", "536870913", "1MiB"]),
    *(("SHUTDOWN_DRAIN_SECONDS", seconds) for seconds in [*NO_NUMBERS, "601", "90s"]),
    *(
        ("CORS_ORIGINS", origins)
        for origins in ["example.org", "https://a.org/", "https://", "https://a.org https://b", "https://*.a.org"]
    ),
    *(
        ("CORS_ORIGINS", origins)
        for origins in ["null", "https://a.org?b", "https://b\u00fc.org", "https://a.org:65536"]
    ),
    *(("RATE_LIMIT", limit) for limit in ["on", "600", "0/minute", "600/fortnight", "600 / minute", "10000000/day"]),
    *(("REDIS_WAIT_REPLICAS", count) for count in [*NO_NUMBERS, "6"]),
    *(("REDIS_WAITAOF", word) for word in ["2", "yes", "-1"]),
    *(("REDIS_PARTITIONS", number) for number in [*NO_NUMBERS, "0", "3", "2048"]),
    *(("REDIS_MAX_CONNECTIONS", number) for number in [*NO_NUMBERS, "2", "66"]),
    *(("JOBSTATE_WORKERS", number) for number in [*NO_NUMBERS, "0", "65"]),
    *(("MAX_CONNECTIONS", number) for number in [*NO_NUMBERS, "0", "1000001"]),
    *(("MAX_WAITING_REQUESTS", number) for number in [*NO_NUMBERS, "0", "1000001"]),
    *(("MAX_WATCHERS_PER_CLIENT", number) for number in [*NO_NUMBERS, "0", "1000001"]),
    *(("MAX_CONCURRENT_REQUESTS", number) for number in [*NO_NUMBERS, "0", "1000001"]),
    *(("CLIENT_TIMEOUT_SECONDS", seconds) for seconds in [*NO_NUMBERS, "0", "3601"]),
    *(("KEEP_ALIVE_SECONDS", seconds) for seconds in [*NO_NUMBERS, "0", "3601"]),
    *(("ALLOWED_HOSTS", hosts) for hosts in ["http://a.org", "a.org:80", "a b", "*a.org", "a.*", "[::1"]),
    *(("TRUSTED_PROXIES", proxies) for proxies in ["proxy", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.1:80"]),
    *(("LOG_LEVEL", level) for level in ["trace", "20", "critical", "null"]),
    *(("LOG_FORMAT", form) for form in ["text", "logfmt", "null", "none"]),
]
#: The fields that these variables set in addition to the one that follows from them.
RAW = {"REDIS_HOST": str, "JOB_TTL_DAYS": int, "JOB_TTL_SECONDS": int}
ALLOWED = {variable.name: variable.allowed for variable in VARIABLES}


def short(value: Any) -> str:
    return str(value)[:40]


def values_of(settings: Settings) -> dict[str, Any]:
    return {field: getattr(settings, field) for field in (*settings.__struct_fields__, "ttl")}


def test_without_any_variable_every_setting_has_its_default() -> None:
    settings = Settings.from_environment({})
    assert values_of(settings) == DEFAULTS


@pytest.mark.parametrize(("name", "text", "field", "expected"), GOOD)
def test_a_variable_sets_its_field_and_nothing_else(name: str, text: str, field: str, expected: Any) -> None:
    settings = Settings.from_environment({name: text})
    raw = {name.lower(): RAW[name](text)} if name in RAW else {}
    assert values_of(settings) == {**DEFAULTS, **raw, field: expected}


@pytest.mark.parametrize(("name", "text"), BAD, ids=short)
def test_an_invalid_variable_is_rejected_with_name_value_and_what_is_allowed(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({name: text})
    assert raised.value.name == name
    assert str(raised.value) == f"{name}={text!r} is not allowed; allowed: {ALLOWED[name]}"


@pytest.mark.parametrize("name", [variable.name for variable in VARIABLES])
@pytest.mark.parametrize("nothing", ["", "  "])
def test_an_empty_variable_counts_as_unset(name: str, nothing: str) -> None:
    assert Settings.from_environment({name: nothing}) == Settings.from_environment({})


def test_every_variable_is_described_and_says_what_is_allowed() -> None:
    assert all(type(text) is str and text for one in VARIABLES for text in (one.description, one.allowed))


def test_every_default_is_allowed_and_its_text_gives_the_same_settings() -> None:
    texts = {variable.name: variable.default for variable in VARIABLES if variable.default}
    assert len(texts) > 15
    assert Settings.from_environment({**texts, "REDIS_HOST": "h"}) == Settings.from_environment({"REDIS_HOST": "h"})


def test_every_variable_is_tested_here() -> None:
    names = {variable.name for variable in VARIABLES}
    assert names - {"REDIS_PORT", "API_KEYS_FILE"} == {name for name, *_ in GOOD}
    assert names - {"REDIS_PORT", "JOBSTATE_DATA", "API_KEYS"} == {name for name, _ in BAD}


def test_a_redis_port_is_used_with_a_host() -> None:
    settings = Settings.from_environment({"REDIS_HOST": "redis", "REDIS_PORT": "6380"})
    assert settings.redis_url == "redis://redis:6380/0"
    settings = Settings.from_environment({"REDIS_HOST": "fe80::1", "REDIS_PORT": "6380"})
    assert settings.redis_url == "redis://[fe80::1]:6380/0"


@pytest.mark.parametrize("host", [{}, {"REDIS_HOST": ""}])
def test_a_redis_port_without_a_host_is_rejected(host: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({"REDIS_PORT": "6379", **host})
    assert raised.value.name == "REDIS_PORT"
    assert "'6379'" in str(raised.value)
    assert "together with `REDIS_HOST`" in str(raised.value)


@pytest.mark.parametrize("host", [{}, {"REDIS_HOST": "redis"}])
@pytest.mark.parametrize("port", ["tcp://10.0.0.1:6379", "0", "65536", "abc"])
def test_an_invalid_redis_port_is_rejected_with_and_without_a_host(host: dict[str, str], port: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({"REDIS_PORT": port, **host})
    assert raised.value.name == "REDIS_PORT"
    assert repr(port) in str(raised.value)


@pytest.mark.parametrize("name", ["JOBSTATE_PORT", "REDIS_PORT"])
@pytest.mark.parametrize("address", ["tcp://10.0.0.1:8000", "udp://[fd00::1]:8000", "sctp://10.0.0.1:1"])
def test_a_port_that_kubernetes_injects_is_rejected_with_a_hint(name: str, address: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({name: address})
    service = name.removesuffix("_PORT").lower()
    assert raised.value.name == name
    assert f"{name}={address!r} is not allowed" in str(raised.value)
    assert f"Kubernetes injects this for a Service named `{service}`" in str(raised.value)
    assert "`enableServiceLinks: false`" in str(raised.value)


def test_other_variables_that_kubernetes_injects_have_no_effect() -> None:
    injected = {
        "JOBSTATE_SERVICE_HOST": "10.0.0.1",
        "JOBSTATE_SERVICE_PORT": "8000",
        "JOBSTATE_SERVICE_PORT_HTTP": "8000",
        "JOBSTATE_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "JOBSTATE_PORT_8000_TCP_PROTO": "tcp",
        "JOBSTATE_PORT_8000_TCP_PORT": "8000",
        "JOBSTATE_PORT_8000_TCP_ADDR": "10.0.0.1",
    }
    assert Settings.from_environment(injected) == Settings.from_environment({})
    assert not set(injected) & {one.name for one in VARIABLES}


@pytest.mark.parametrize("port", ["6380", "tcp://10.0.0.1:6379"])
def test_a_redis_port_has_no_effect_with_a_redis_url(port: str) -> None:
    environ = {"REDIS_URL": "redis://far"}
    assert Settings.from_environment({**environ, "REDIS_PORT": port}) == Settings.from_environment(environ)


def test_a_redis_url_overrides_a_host() -> None:
    environ = {"REDIS_URL": "rediss://far:7000/1", "REDIS_HOST": "near", "REDIS_PORT": "6380"}
    assert Settings.from_environment(environ).redis_url == "rediss://far:7000/1"


def test_seconds_override_days() -> None:
    environ = {"JOB_TTL_DAYS": "30", "JOB_TTL_SECONDS": "60"}
    assert retention_from_environment(environ) == timedelta(seconds=60)
    assert Settings.from_environment(environ).ttl == timedelta(seconds=60)


def test_invalid_days_are_rejected_although_seconds_override_them() -> None:
    with pytest.raises(SettingsError, match="JOB_TTL_DAYS"):
        retention_from_environment({"JOB_TTL_DAYS": "0", "JOB_TTL_SECONDS": "60"})


def test_the_retention_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOB_TTL_SECONDS", raising=False)
    monkeypatch.setenv("JOB_TTL_DAYS", "3")
    assert retention_from_environment() == timedelta(days=3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "redis:6379"),
        ("REDIS_URL", "redis:///0"),
        ("REDIS_URL", "unix://foo"),
        ("REDIS_URL", "redis://h:1/0?foo=bar"),
        ("REDIS_URL", "redis://h:1/0?decode_responses=true"),
        ("REDIS_URL", "redis://h:1/0?db=x"),
        ("REDIS_HOST", "localhost:6380"),
        ("REDIS_HOST", ":"),
    ],
)
def test_a_value_that_would_fail_later_is_rejected_at_start(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({name: value})
    assert raised.value.name == name


def test_the_error_of_an_invalid_url_hides_the_password() -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({"REDIS_URL": "redis://me:s3cret@host/x"})
    assert "s3cret" not in str(raised.value)
    assert "host" in str(raised.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2", "::1"])
def test_on_loopback_only_the_names_of_this_machine_are_allowed(host: str) -> None:
    own = f"[{host}]" if ":" in host else host
    assert Settings.from_environment({"JOBSTATE_HOST": host}).allowed_hosts == tuple(
        dict.fromkeys(("localhost", "127.0.0.1", "[::1]", own))
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "jobs.example"])
def test_beyond_loopback_any_host_is_allowed_by_default(host: str) -> None:
    beyond = {"JOBSTATE_HOST": host, "ALLOW_ANONYMOUS": "1"}
    assert Settings.from_environment(beyond).allowed_hosts is None
    named = Settings.from_environment({**beyond, "ALLOWED_HOSTS": "jobs.example"})
    assert named.allowed_hosts == ("jobs.example",)


KEY = f"{KEY_PREFIX}{'k' * 43}"
ENTRY = f"ci:read:{hash_key(KEY.encode()).hex()}"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "jobs.example", "127.1", "::ffff:10.0.0.1"])
def test_beyond_loopback_api_keys_or_allow_anonymous_are_required(host: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({"JOBSTATE_HOST": host, "ALLOW_ANONYMOUS": "0"})
    assert raised.value.name == "JOBSTATE_HOST"
    assert {"API_KEYS", "ALLOW_ANONYMOUS=1"} <= set(re.split("[ ,;`]", str(raised.value)))
    assert len(Settings.from_environment({"JOBSTATE_HOST": host, "API_KEYS": ENTRY}).api_keys) == 1
    assert Settings.from_environment({"JOBSTATE_HOST": host, "ALLOW_ANONYMOUS": "1"}).api_keys == ()


def test_api_keys_are_read_from_the_variable_and_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"one:work:{HASH}\n\ntwo:admin+work:{HASH[::-1]}\n")
    found = Settings.from_environment({"API_KEYS": f" {ENTRY} ,", "API_KEYS_FILE": str(file)}).api_keys
    assert [(key.name, *sorted(key.scopes)) for key in found] == [
        ("ci", "read"),
        ("one", "work"),
        ("two", "admin", "work"),
    ]
    file.write_text(ENTRY)
    with pytest.raises(SettingsError, match=r"API_KEYS_FILE=.* that are not in `API_KEYS`"):
        Settings.from_environment({"API_KEYS": ENTRY, "API_KEYS_FILE": str(file)})


@pytest.mark.parametrize(
    "text",
    [
        *(KEY, f"ci:read:{KEY}", f"ci:{HASH}", f"ci:read:{HASH}:", f"ci:read:{HASH[1:]}", f":read:{HASH}", ","),
        *(f"ci:root:{HASH}", f"ci::{HASH}", f"ci:+:{HASH}", f"a\x1bb:read:{HASH}", f"{'n' * 65}:read:{HASH}"),
        *(f"{ENTRY},ci:read:{HASH}", f"{ENTRY},other{ENTRY.removeprefix('ci')}"),
        ",".join(f"n{number}:read:{number:064x}" for number in range(101)),
    ],
    ids=short,
)
def test_invalid_api_keys_are_rejected_and_not_shown(text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({"API_KEYS": text})
    assert str(raised.value) == f"API_KEYS='…' is not allowed; allowed: {ALLOWED['API_KEYS']}"
    assert raised.value.__cause__ is None


def test_the_repr_of_settings_hides_key_hashes() -> None:
    assert ENTRY.rpartition(":")[2] not in repr(Settings.from_environment({"API_KEYS": ENTRY}))


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://h/0?ssl_cert_reqs=none", "ssl_cert_reqs"),
        ("unix:///run/redis.sock?ssl_ca_certs=/etc/passwd", "ssl_ca_certs"),
        ("rediss://h/0?ssl_verify=false", "ssl_verify"),
        ("rediss://h/0?ssl_cert_reqs=CERT_NONE", "ssl_cert_reqs"),
        ("rediss://h/0?ssl_check_hostname=off", "ssl_check_hostname"),
        ("rediss://h/0?ssl_min_version=TLSv1.2", "ssl_min_version"),
        ("rediss://h/0?ssl_ca_certs=/nowhere", "ssl_ca_certs"),
        ("rediss://h/0?ssl_ca_path=/etc/passwd", "ssl_ca_path"),
        ("rediss://h/0?ssl_include_verify_flags=ANY", "ssl_include_verify_flags"),
        ("rediss://h/0?ssl_keyfile=/etc/passwd", "ssl_certfile"),
        ("rediss://h/0?ssl_certfile=/etc/passwd", "ssl_"),
        ("rediss://h/0?ssl_ca_data=none", "ssl_"),
        ("rediss://h/0?ssl_ciphers=none-such", "ssl_"),
        ("redis://h?db=one", "db"),
        ("redis://h?db=", "db"),
        ("redis://h?db=\u0663", "db"),
        ("redis://h?db=1&db=2", "db"),
        *((f"redis://h?{name}=1", name) for name in ["socket_timeout", "max_connections", "protocol", "client_name"]),
        *((f"redis://h?{name}=1", name) for name in ["decode_responses", "password", "host", "timeout", "x"]),
    ],
)
def test_an_invalid_option_of_a_redis_url_is_rejected_by_name(url: str, named: str) -> None:
    with pytest.raises(SettingsError, match=f"REDIS_URL=.* is not allowed: .*{named}.*; allowed: ") as raised:
        Settings.from_environment({"REDIS_URL": url})
    assert raised.value.name == "REDIS_URL"


@pytest.mark.parametrize(
    "url",
    [
        "rediss://h/0?ssl_cert_reqs=none",
        "rediss://h?db=3&ssl_check_hostname=no&ssl_min_version=772&ssl_ca_path=/etc",
        "rediss://h?ssl_include_verify_flags=VERIFY_X509_STRICT,VERIFY_X509_PARTIAL_CHAIN&ssl_ciphers=DEFAULT",
        "unix://user:password@/run/redis.sock?db=2",
    ],
)
def test_valid_options_of_a_redis_url_work_with_redis_py(url: str) -> None:
    assert Settings.from_environment({"REDIS_URL": url}).redis_url == url
    pool = create_pool(url)
    pool.make_connection()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("url", ["redis://h:0", "unix://host/run/redis.sock", f"redis://{'a' * 64}.example/0"])
def test_a_redis_url_without_a_valid_address_is_rejected(url: str) -> None:
    with pytest.raises(SettingsError):
        Settings.from_environment({"REDIS_URL": url})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:s3cret@h/0", "redis://***@h/0"),
        ("rediss://h/0?ssl_password=s3cret&db=1", "rediss://h/0?ssl_password=***&db=1"),
        ("redis://h/0?password=s3cret", "redis://h/0?password=***"),
        ("redis://h/0?pwd=s3cret", "redis://h/0?pwd=***"),
        ("redis://:s3?cret@h/0", "redis://***"),
        ("rediss://h/0?ssl_password=a@s3cret", "rediss://***"),
    ],
)
def test_a_redis_url_is_shown_without_secrets(url: str, shown: str) -> None:
    assert redact_url(url) == shown
