import pytest

from service.domain.origins import is_same_origin, normalize_host, normalize_origin


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://b", "https://b"),
        ("https://b:443", "https://b"),
        ("https://b:0443", "https://b"),
        ("https://b:", "https://b"),
        ("http://b:80", "http://b"),
        ("https://b:80", "https://b:80"),
        ("http://b:443", "http://b:443"),
        ("HTTPS://APP.Example.org:8443", "https://app.example.org:8443"),
        ("http://[0:0:0:0:0:0:0:1]:8000", "http://[::1]:8000"),
        ("http://[::FFFF]", "http://[::ffff]"),
        ("http://my_app:3000", "http://my_app:3000"),
        ("http://name.", "http://name."),
    ],
)
def test_an_origin_is_normalized_as_browsers_send_it(text: str, origin: str) -> None:
    assert normalize_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "*", "b", "b:443", "//b", "ftp://b", "https://", "https://:443", "https://b/", "https://b/x"),
        *(
            "https://b?x",
            "https://b#x",
            "https://u@b",
            "https://u:p@b",
            "https://b c",
            "https://*.b",
            "https://b\u00fc",
        ),
        *(
            "https://b:x",
            "https://b:65536",
            "https://b:\u0663",
            "https://b:443:443",
            "https://[1.2]",
            "https://b\\c",
            "https://b\n",
        ),
    ],
)
def test_an_invalid_origin_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an origin|[Ee]xpected in"):
        normalize_origin(text)


@pytest.mark.parametrize(
    ("origin", "host", "is_same"),
    [
        ("https://name", "name", True),
        ("https://name", "name:443", True),
        ("https://name:443", "NAME", True),
        ("http://name:80", "name", True),
        ("http://name", "name:80", True),
        ("http://Name:8000", "name:8000", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://name", "name:443", False),
        ("https://name", "name:80", False),
        ("http://name:8000", "name", False),
        ("http://name", "name:8000", False),
        ("http://name.evil.example", "name", False),
        ("http://name", "", False),
        ("", "", False),
        ("null", "null", False),
        ("null", "", False),
        ("http://", "", False),
        ("http://name", "name/", False),
        ("http://name", "user@name", False),
    ],
)
def test_case_and_default_port_do_not_distinguish_origins(origin: str, host: str, is_same: bool) -> None:
    assert is_same_origin(origin, host) is is_same


@pytest.mark.parametrize(
    ("header", "host"),
    [("A.b:", "a.b"), ("[0:0:0:0:0:0:0:1]:80", "[::1]"), ("[::1", "[::1"), ("[x]", "[x]"), (":80", "")],
)
def test_a_host_is_split_from_its_port(header: str, host: str) -> None:
    assert normalize_host(header) == host
