import pytest

from service.domain.errors import DataVersionUnsupported, StoreCorrupt
from service.store import client
from service.store.data_version import DATA_VERSION, UPGRADE_WAIT, check_supported


@pytest.mark.parametrize("held", [None, b"1", str(DATA_VERSION).encode()])
def test_data_of_this_version_or_an_earlier_one_is_taken(held: bytes | None) -> None:
    check_supported(held)


def test_data_of_a_newer_version_is_refused_by_both_names() -> None:
    with pytest.raises(DataVersionUnsupported, match="has data version 12; the newest supported is 1"):
        check_supported(b"12")


@pytest.mark.parametrize("held", [b"", b"one", b"-1", b"1.0"])
def test_what_is_no_version_is_not_taken_for_one(held: bytes) -> None:
    with pytest.raises(StoreCorrupt, match="jobs:version holds"):
        check_supported(held)


def test_no_script_outlives_the_fence() -> None:
    assert client.CLOCK_MAX_AGE + client.FIRST_ATTEMPT_TIMEOUT < UPGRADE_WAIT
