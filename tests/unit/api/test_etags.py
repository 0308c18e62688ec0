import pytest

from service.api.etags import etag, etag_matches, parse_if_match
from service.domain.errors import InvalidValue
from service.domain.jobs import Job
from service.store.records import decode_job

INVALID = [
    "",
    " ",
    "a",
    '"a',
    'a"',
    '"a" "b"',
    '"a""b"',
    '"a b"',
    '"a\n"',
    '"a", b',
    '"a", *',
    "**",
    'w/"a"',
    'W/ "a"',
    "W/a",
    '"é"',
    "'a'",
]


def job(*, stale: bool = False) -> Job:
    fields = {
        "status": b"running",
        "queue": b"default",
        "revision": b"3",
        "created_at": b"1970-01-01T00:00:00.000007Z",
        "updated_at": b"1970-01-01T00:00:00.000007Z",
        "expires_at": b"1970-01-08T00:00:00.000000Z",
        "lease_expires_at": b"1970-01-01T00:00:30.000000Z",
    }
    return decode_job("j", fields, 31_000_000 if stale else 0)


def test_an_entity_tag_names_creation_revision_and_staleness() -> None:
    assert etag(job()) == '"7-3"'
    assert etag(job(stale=True)) == '"7-3-stale"'


@pytest.mark.parametrize(
    "header", ['"7-3"', 'W/"7-3"', "*", " * ", '"7-2", "7-3"', '"7-2","7-3"', '"7-3" , "8-1"', 'W/"a", W/"7-3", ""']
)
def test_if_none_match_with_the_current_tag_matches(header: str) -> None:
    assert etag_matches(job(), header)


@pytest.mark.parametrize("header", [None, '"7-2"', '"7-33"', '"7-3-stale"', '""', '"7-3x", "x7-3"', '"*"', '"7-2,7-3"'])
def test_if_none_match_with_other_tags_does_not_match(header: str | None) -> None:
    assert not etag_matches(job(), header)


def test_an_expired_lease_changes_the_tag_for_if_none_match_only() -> None:
    assert not etag_matches(job(stale=True), etag(job()))
    assert etag_matches(job(stale=True), etag(job(stale=True)))
    assert parse_if_match(etag(job(stale=True))) == parse_if_match(etag(job())) == ("7-3",)


@pytest.mark.parametrize("header", [None, "*", " *\t"])
def test_without_a_named_version_any_version_is_allowed(header: str | None) -> None:
    assert parse_if_match(header) == ()


@pytest.mark.parametrize(
    ("header", "versions"),
    [
        ('"7-3"', ("7-3",)),
        ('W/"7-3"', ("weak",)),
        ('"7-3",, W/"7-4",', ("7-3", "weak")),
        (' "7-3" ', ("7-3",)),
        ('"7-3","7-4" ,\t"8-1"', ("7-3", "7-4", "8-1")),
        ('"7-3-stale", "7-4"', ("7-3", "7-4")),
        ('"a,b", "*"', ("a,b", "*")),
    ],
)
def test_if_match_returns_the_named_versions(header: str, versions: tuple[str, ...]) -> None:
    assert parse_if_match(header) == versions


@pytest.mark.parametrize("header", ['""', '"-stale"', '"", ""'])
def test_an_empty_tag_is_still_a_condition(header: str) -> None:
    versions = parse_if_match(header)
    assert len(versions) > 0
    assert set(versions) == {""}


@pytest.mark.parametrize("header", INVALID)
def test_an_invalid_list_of_tags_is_rejected_with_its_header(header: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        parse_if_match(header)
    assert raised.value.field == "If-Match"
    with pytest.raises(InvalidValue) as raised:
        etag_matches(job(), header)
    assert raised.value.field == "If-None-Match"
    assert repr(header) in raised.value.detail


def test_a_long_run_of_commas_is_parsed_in_linear_time() -> None:
    with pytest.raises(InvalidValue):
        parse_if_match('"1-1"' + "," * 50_000 + "x")
