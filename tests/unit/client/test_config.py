import pytest

from jobstate import ConfigurationError
from jobstate.config import configure

URLS = [
    ({}, "http://127.0.0.1:8000"),
    ({"JOBSTATE_URL": "https://jobs.internal"}, "https://jobs.internal"),
    ({"JOBSTATE_HOST": "0.0.0.0", "JOBSTATE_PORT": "9000"}, "http://127.0.0.1:9000"),
    ({"JOBSTATE_HOST": "::"}, "http://[::1]:8000"),
    ({"JOBSTATE_URL": " ", "JOBSTATE_PORT": "9000"}, "http://127.0.0.1:9000"),
]


@pytest.mark.parametrize(("environ", "url"), URLS)
def test_the_url_is_that_of_the_environment(environ: dict[str, str], url: str) -> None:
    assert configure(environ=environ).url == url


def test_arguments_replace_the_environment() -> None:
    config = configure("http://a", "k", {"JOBSTATE_URL": "http://b", "JOBSTATE_API_KEY": "l"})
    assert (config.url, config.headers) == ("http://a", {"Authorization": "Bearer k"})
    assert configure("http://a", "", {"JOBSTATE_API_KEY": "l"}).headers == {}


def test_the_key_and_the_password_are_in_no_text() -> None:
    assert "secret" not in repr(configure("http://a", "secret", {}))
    assert "secret" not in repr(configure("http://ann:secret@a", "", {}))


@pytest.mark.parametrize("url", ["", "jobs.internal", "ftp://a", "http://", "http://a:0", "http://a?x=1", "http://a\n"])
def test_an_unusable_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"`url` .* is not allowed; allowed: http://HOST:PORT"):
        configure(url, environ={})


@pytest.mark.parametrize("url", ["ftp://ann:secret@a", "http://ann:secret@a?x=1", "http://ann:se@secret@a#x"])
def test_a_password_in_an_unusable_url_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"`url` '.*//…@a.*' is not allowed") as raised:
        configure(url, "", {})
    assert "secret" not in str(raised.value)


def test_a_port_that_kubernetes_injects_is_explained() -> None:
    with pytest.raises(ConfigurationError, match=r"Set `JOBSTATE_URL` .* Kubernetes injects `JOBSTATE_PORT`"):
        configure(environ={"JOBSTATE_PORT": "tcp://10.0.0.1:8000"})


def test_an_invalid_key_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError, match="`JOBSTATE_API_KEY`") as raised:
        configure("http://a", "sec ret", {})
    assert "sec" not in str(raised.value)
    assert isinstance(raised.value, ValueError)
