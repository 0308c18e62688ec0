"""The proxy and the certificates that the worker and the command line use."""

import os
import ssl

import httpx
import pytest

from jobstate import Worker
from jobstate.cli.connection import open_async_client, open_client
from jobstate.cli.exit_codes import Exit, exit_code
from jobstate.config import configure
from jobstate.connections import UnusableProxy, connection_options, is_loopback, proxy_for
from jobstate.errors import ConfigurationError


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Remove proxies from the environment."""
    for variable in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(variable)
    return monkeypatch


def proxy_url(url: str) -> str | None:
    proxy = proxy_for(url)
    return None if proxy is None else str(proxy.url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.9.9.9",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "jobs.localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "[::]",
    ],
)
@pytest.mark.parametrize("proxy", ["http://proxy:3128", "socks5://proxy:1080", "not a proxy"])
def test_loopback_hosts_are_reached_without_a_proxy(environment: pytest.MonkeyPatch, host: str, proxy: str) -> None:
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        environment.setenv(variable, proxy)
    for scheme in ("http", "https"):
        assert proxy_for(f"{scheme}://{host}:8000") is None


@pytest.mark.parametrize("host", ["128.0.0.1", "localhost.example", "notlocalhost", "10.0.0.1", "::2", "127.example"])
def test_other_hosts_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({"HTTP_PROXY": "http://a:1"}, "http://jobs", "http://a:1"),
        ({"http_proxy": "http://a:1", "HTTP_PROXY": "http://b:1"}, "http://jobs", "http://a:1"),
        ({"HTTP_PROXY": "a:1"}, "http://jobs", "http://a:1"),
        ({"HTTPS_PROXY": "https://a:1"}, "https://jobs", "https://a:1"),
        ({"HTTP_PROXY": "http://a:1"}, "https://jobs", None),
        ({"ALL_PROXY": "http://c:1"}, "https://jobs", "http://c:1"),
        ({"HTTP_PROXY": "http://a:1", "ALL_PROXY": "socks5://c:1"}, "http://jobs", "http://a:1"),
        ({"HTTP_PROXY": "http://a:1", "NO_PROXY": "jobs"}, "http://jobs", None),
        ({"HTTP_PROXY": "http://a:1", "NO_PROXY": "example"}, "http://jobs.example", None),
        ({"HTTP_PROXY": "http://a:1", "NO_PROXY": ".example, other"}, "http://jobs.example", None),
        ({"HTTP_PROXY": "http://a:1", "NO_PROXY": "ample"}, "http://jobs.example", "http://a:1"),
        ({"HTTP_PROXY": "http://a:1", "no_proxy": "*"}, "http://jobs", None),
        ({"HTTP_PROXY": "http://a:1", "NO_PROXY": "jobs:8000"}, "http://jobs:8000", None),
        ({"HTTP_PROXY": "http://a:1", "NO_PROXY": "jobs:8000"}, "http://jobs:9000", "http://a:1"),
        ({"HTTP_PROXY": "http://a:1", "NO_PROXY": "jobs:80"}, "http://jobs", None),
        ({"HTTP_PROXY": "http://a:1", "NO_PROXY": "fd00::1"}, "http://[fd00::1]:8000", None),
        ({"ALL_PROXY": "socks5://c:1", "NO_PROXY": "jobs"}, "http://jobs", None),
        ({}, "http://jobs", None),
    ],
)
def test_proxy_variables_apply_to_other_hosts(
    environment: pytest.MonkeyPatch, variables: dict[str, str], url: str, proxy: str | None
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    assert proxy_url(url) == proxy


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ALL_PROXY", "socks5://ann:s3cret@c:1", "names a socks5:// proxy, which needs the package `socksio`"),
        ("all_proxy", "socks5h://ann:s3cret@c:1", "names a socks5h:// proxy"),
        ("HTTP_PROXY", "socks4://ann:s3cret@c:1", "names a proxy with the unsupported scheme 'socks4'"),
        ("http_proxy", "ftp://ann:s3cret@c:1", "names a proxy with the unsupported scheme 'ftp'"),
        ("HTTP_PROXY", "http://ann:s3cret@c:no", "is not a valid URL"),
        ("HTTP_PROXY", "http://", "is not a valid URL"),
    ],
)
async def test_the_error_for_an_unusable_proxy_names_its_variable(
    environment: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    environment.setattr("jobstate.connections.find_spec", lambda name: None)
    environment.setenv(variable, value)
    with pytest.raises(UnusableProxy) as error:
        proxy_for("http://jobs")
    assert str(error.value).startswith(f"`{variable}` {words}")
    assert "`NO_PROXY`" in str(error.value)
    assert "s3cret" not in str(error.value)
    with pytest.raises(ValueError, match=f"`{variable}`"):
        Worker("http://jobs", ["default"], print)
    with pytest.raises(ConfigurationError, match=f"`{variable}`") as misconfigured:
        async with open_async_client(configure("http://jobs", "")):
            pass
    assert exit_code(misconfigured.value) is Exit.USAGE
    with pytest.raises(ConfigurationError, match=f"`{variable}`"), open_client(configure("http://jobs", "")):
        pass


def test_httpx_does_not_read_proxies_from_the_environment(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ALL_PROXY", "socks5://c:1")
    with httpx.Client(**connection_options("http://127.0.0.1:8000")) as client:
        assert client._mounts == {}


def test_certificates_from_the_environment_are_used_for_loopback_hosts_too(
    environment: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    environment.setenv("SSL_CERT_FILE", str(tmp_path) + "/missing.pem")
    with pytest.raises(OSError, match=r"No such file|missing\.pem"):
        connection_options("https://localhost:8000")
    context = connection_options("http://localhost:8000")["verify"]
    assert (context.verify_mode, context.get_ca_certs()) == (ssl.CERT_REQUIRED, [])
    with httpx.Client(**connection_options("http://127.0.0.1:8000")) as client:
        assert client._transport._pool._ssl_context.get_ca_certs() == []  # type: ignore[attr-defined]
