import pytest

from service.api.etags import etag, etag_matches, parse_if_match
from service.domain.errors import InvalidValue
from service.domain.jobs import Job
from service.store.records import decode_job

BROKEN = [
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
    held = {
        "status": b"running",
        "queue": b"default",
        "revision": b"3",
        "created_at": b"1970-01-01T00:00:00.000007Z",
        "updated_at": b"1970-01-01T00:00:00.000007Z",
        "expires_at": b"1970-01-08T00:00:00.000000Z",
        "lease_expires_at": b"1970-01-01T00:00:30.000000Z",
    }
    return decode_job("j", held, 31_000_000 if stale else 0)


def test_an_entity_tag_names_creation_revision_and_staleness() -> None:
    assert etag(job()) == '"7-3"'
    assert etag(job(stale=True)) == '"7-3-stale"'


@pytest.mark.parametrize(
    "header", ['"7-3"', 'W/"7-3"', "*", " * ", '"7-2", "7-3"', '"7-2","7-3"', '"7-3" , "8-1"', 'W/"a", W/"7-3", ""']
)
def test_a_client_that_has_the_record_is_known(header: str) -> None:
    assert etag_matches(job(), header)


@pytest.mark.parametrize("header", [None, '"7-2"', '"7-33"', '"7-3-stale"', '""', '"7-3x", "x7-3"', '"*"', '"7-2,7-3"'])
def test_a_client_that_has_another_version_gets_the_record(header: str | None) -> None:
    assert not etag_matches(job(), header)


def test_staleness_is_a_change_to_a_reader_but_not_to_a_writer() -> None:
    assert not etag_matches(job(stale=True), etag(job()))
    assert etag_matches(job(stale=True), etag(job(stale=True)))
    assert parse_if_match(etag(job(stale=True))) == parse_if_match(etag(job())) == ("7-3",)


@pytest.mark.parametrize("header", [None, "*", " *\t"])
def test_any_version_will_do_where_none_is_named(header: str | None) -> None:
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
def test_the_named_versions_are_required(header: str, versions: tuple[str, ...]) -> None:
    assert parse_if_match(header) == versions


@pytest.mark.parametrize("header", ['""', '"-stale"', '"", ""'])
def test_an_empty_tag_is_still_a_condition(header: str) -> None:
    versions = parse_if_match(header)
    assert len(versions) > 0
    assert set(versions) == {""}


@pytest.mark.parametrize("header", BROKEN)
def test_a_broken_list_is_refused_by_the_name_of_its_header(header: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        parse_if_match(header)
    assert refusal.value.field == "If-Match"
    with pytest.raises(InvalidValue) as refusal:
        etag_matches(job(), header)
    assert refusal.value.field == "If-None-Match"
    assert repr(header) in refusal.value.detail


def test_a_long_run_of_commas_is_read_in_no_time() -> None:
    with pytest.raises(InvalidValue):
        parse_if_match('"1-1"' + "," * 50_000 + "x")
