"""Redis URLs of Sentinel and of a cluster: what is read, what is refused by name, and that no secret is shown."""

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.settings import Settings, SettingsError, redact_url
from service.settings.redis_url import RedisUrlError, deployment_of, parse_redis_url
from service.store.pool import create_pool

GOOD = [
    ("redis://h", "standalone", (("h", 6379),), ""),
    ("rediss://[::1]:6380/2", "standalone", (("::1", 6380),), ""),
    ("unix:///run/redis.sock", "standalone", (), ""),
    ("redis+sentinel://a,b:26380/main", "sentinel", (("a", 26379), ("b", 26380)), "main"),
    (
        "redis+sentinel://u:p%40%2Cx@[fe80::1]:1,[::1]/my.main-1?db=3",
        "sentinel",
        (("fe80::1", 1), ("::1", 26379)),
        "my.main-1",
    ),
    ("REDISS+Sentinel://a/m?ssl_cert_reqs=none&sentinel_password=s", "sentinel", (("a", 26379),), "m"),
    ("redis+cluster://a,b:7001", "cluster", (("a", 6379), ("b", 7001)), ""),
    ("redis+cluster://:p@[::1]:65535/0?db=0", "cluster", (("::1", 65535),), ""),
    ("rediss+cluster://a/", "cluster", (("a", 6379),), ""),
]
SERVERS = "host[:port],…; IPv6 as [address]"
BAD = [
    *(
        (f"redis+{kind}://{hosts}/m", "server 1 has no valid", SERVERS)
        for kind in ("sentinel", "cluster")
        for hosts in ["", "u:p@", ",a", "a:0", "a:65536", "a:x", "[::1", "::1", "a%20b", "a" * 64]
    ),
    *((f"redis+cluster://{hosts}", "server 2 has no valid", SERVERS) for hosts in ["a,", "a,,b", "a,:1", "u:p@a,b:0"]),
    ("redis+cluster://a,b,a:6379", "server 3 is a duplicate", "each server once"),
    ("redis+sentinel://a:26379,a/m", "server 2 is a duplicate", "each server once"),
    *((f"redis+sentinel://a{path}", "the name of the master is missing", "/name") for path in ["", "/", "//", "?db=1"]),
    *(
        (f"redis+sentinel://a{path}", "not the name of a master", "the option `db`")
        for path in ["/m/1", "/m%20", "/m/"]
    ),
    ("redis+cluster://a/m", "the path is invalid", "database 0 only"),
    ("redis+cluster://a/1", "a cluster has database 0 only", "no number of a database, or 0"),
    ("redis+cluster://a?db=1", "a cluster has database 0 only", "no number of a database, or 0"),
    ("redis+sentinel://a/m?db=x", "the value of `db`", "the number of a database"),
    ("redis+sentinel://a/m?db=1&db=1", "`db` is duplicated", "`db` once"),
    ("redis+sentinel://a/m?ssl_cert_reqs=none", "`ssl_cert_reqs` needs TLS", "rediss://"),
    ("rediss+cluster://a?ssl_cert_reqs=x", "the value of `ssl_cert_reqs`", "none, optional, required"),
    ("rediss+cluster://a?ssl_ciphers=none-such", "`ssl_…`", "OpenSSL"),
    ("redis+cluster://a?sentinel_password=s", "`sentinel_password` needs Sentinel", "redis+sentinel://"),
    ("redis://a?sentinel_password=s", "`sentinel_password` needs Sentinel", "redis+sentinel://"),
    ("redis+sentinel://a/m?sentinel_username=u", "`sentinel_username` needs `sentinel_password`", "both"),
    ("redis+sentinel://a/m?sentinel_password=", "the value of `sentinel_password`", "the password of the sentinels"),
    ("redis+sentinel://a/m?socket_timeout=1", "`socket_timeout` is unknown", "the options db, "),
    ("redis+sentinel://a/m?sentinel_password=p&rest=x", "an option after a password is unknown", "the options db, "),
    ("redis+cluster://a b", "a blank", "percent-encoded"),
    ("redis+cluster://a#b", "a `#`", "percent-encoded"),
    ("redis+cluster://u:[@a", "the user or the password", "percent-encoded"),
]
SECRET = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).map(lambda text: f"Zq{text}qZ")


@pytest.mark.parametrize(("url", "deployment", "servers", "master"), GOOD)
def test_a_url_says_how_redis_runs_and_where(
    url: str, deployment: str, servers: tuple[tuple[str, int], ...], master: str
) -> None:
    address = parse_redis_url(url)
    assert (address.deployment, address.servers, address.master_name, address.url) == (deployment, servers, master, url)
    assert deployment_of(url) == deployment
    assert Settings.from_environment({"REDIS_URL": url}).redis_url == url


@pytest.mark.parametrize(("url", "detail", "allowed"), BAD)
def test_an_invalid_part_is_refused_by_name_with_what_is_allowed(url: str, detail: str, allowed: str) -> None:
    with pytest.raises(RedisUrlError) as raised:
        parse_redis_url(url)
    assert detail in raised.value.detail
    assert allowed in raised.value.allowed
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment({"REDIS_URL": url})
    assert str(refused.value).endswith(f"{raised.value.detail}; allowed: {raised.value.allowed}")


@pytest.mark.parametrize("url", ["redis+x://a", "http+cluster://a", "unix+sentinel://a/m", "redis+cluster:a"])
def test_an_unknown_scheme_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="redis\\+sentinel://"):
        Settings.from_environment({"REDIS_URL": url})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://u:p%40@a:1/2", {"username": "u", "password": "p@", "db": 2}),
        ("redis+sentinel://u:p%2F%40@a/m?db=3&sentinel_password=s", {"username": "u", "password": "p/@", "db": 3}),
        ("redis+cluster://:p@a", {"password": "p"}),
        ("rediss+cluster://a?ssl_cert_reqs=none", {"ssl_cert_reqs": "none"}),
    ],
)
def test_the_url_of_one_server_has_the_credentials_database_and_options(url: str, expected: dict[str, object]) -> None:
    arguments = create_pool(parse_redis_url(url).url_of("fe80::2", 7)).connection_kwargs
    assert {name: arguments[name] for name in expected} == expected
    assert (arguments["host"], arguments["port"]) == ("fe80::2", 7)
    assert not [name for name in arguments if name.startswith("sentinel_")]


def test_connections_to_sentinels_have_their_own_credentials_and_the_same_tls() -> None:
    url = "rediss+sentinel://u:p@a/m?ssl_cert_reqs=none&sentinel_username=su&sentinel_password=s%40"
    expected = {"username": "su", "password": "s@", "ssl": True, "ssl_cert_reqs": "none"}
    assert parse_redis_url(url).sentinel_options == expected
    assert parse_redis_url("redis+sentinel://u:p@a/m").sentinel_options == {}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis+sentinel://u:s3cret@a,b:1/m?db=1", "redis+sentinel://***@a,b:1/m?db=1"),
        (
            "redis+sentinel://a/m?sentinel_username=u&sentinel_password=p",
            "redis+sentinel://a/m?sentinel_username=***&sentinel_password=***",
        ),
        ("redis+sentinel://a/m?sentinel_password=p&rest=x&db=1", "redis+sentinel://a/m?sentinel_password=***&***&db=1"),
        ("rediss+cluster://u:p@[::1]:1?ssl_password=p", "rediss+cluster://***@[::1]:1?ssl_password=***"),
        ("https://a.org?b", "https://a.org?b"),
    ],
)
def test_a_url_is_shown_with_its_servers_and_without_its_secrets(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@settings(deadline=None)
@given(
    st.sampled_from(["redis://", "rediss://", "redis+sentinel://", "rediss+sentinel://", "redis+cluster://"]),
    st.sampled_from(["h", "h:0", "h,h", "", "[::1]:1,h"]),
    st.sampled_from(["/m", "/1", "", "/x/y"]),
    st.sampled_from(["", "&db=x", "&none=1"]),
    SECRET, SECRET, SECRET,
)  # fmt: skip
def test_no_secret_is_shown_in_a_redacted_url_an_address_or_an_error(
    scheme: str, hosts: str, path: str, option: str, password: str, sentinel: str, key: str
) -> None:
    password, sentinel, key = (quote(text, safe="") for text in (password, sentinel, key))
    url = f"{scheme}u:{password}@{hosts}{path}?sentinel_password={sentinel}&ssl_password={key}{option}"
    texts = [redact_url(url)]
    try:
        texts.append(repr(parse_redis_url(url)))
    except ValueError as error:
        if isinstance(error, RedisUrlError):
            texts.append(str(error))
    try:
        Settings.from_environment({"REDIS_URL": url})
    except SettingsError as error:
        texts.append(str(error))
    assert "Zq" not in "".join(texts)
    assert "qZ" not in "".join(texts)


@settings(deadline=None)
@given(SECRET)
def test_a_password_that_is_not_percent_encoded_is_not_shown(password: str) -> None:
    for url in (f"redis+cluster://u:{password}@h", f"redis+sentinel://u:{password}@a,b/m"):
        texts = [redact_url(url)]
        try:
            Settings.from_environment({"REDIS_URL": url})
        except SettingsError as error:
            texts.append(str(error))
        assert "Zq" not in "".join(texts)
        assert "qZ" not in "".join(texts)


@pytest.mark.parametrize(
    ("environ", "name", "text"),
    [
        ({"REDIS_URL": "redis+cluster://a", "REDIS_PARTITIONS": "1"}, "REDIS_PARTITIONS", "from 2 to 1024"),
        ({"REDIS_URL": "redis+cluster://a", "REDIS_WAITAOF": "1"}, "REDIS_WAITAOF", "`REDIS_WAIT_REPLICAS`"),
        ({"REDIS_URL": "redis+sentinel://a/m", "REDIS_WAITAOF": "1"}, "REDIS_WAITAOF", "`appendfsync always`"),
        ({"REDIS_WAIT_REPLICAS": "1"}, "REDIS_WAIT_REPLICAS", "the embedded server has no replicas"),
    ],
)
def test_a_setting_that_the_deployment_cannot_serve_is_refused(environ: dict[str, str], name: str, text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment(environ)
    assert raised.value.name == name
    assert text in str(raised.value)


@pytest.mark.parametrize(
    ("environ", "partitions"),
    [
        ({"REDIS_URL": "redis+cluster://a"}, 16),
        ({"REDIS_URL": "redis+cluster://a", "REDIS_PARTITIONS": "2"}, 2),
        ({"REDIS_URL": "redis+sentinel://a/m"}, 1),
        ({"REDIS_URL": "redis://a", "REDIS_WAITAOF": "1", "REDIS_WAIT_REPLICAS": "5"}, 1),
    ],
)
def test_the_default_of_partitions_follows_from_the_deployment(environ: dict[str, str], partitions: int) -> None:
    assert Settings.from_environment(environ).redis_partitions == partitions
