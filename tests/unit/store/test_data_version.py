import pytest

from service.domain.errors import DataVersionUnsupported, StoreCorrupt
from service.store import client
from service.store.data_version import DATA_VERSION, UPGRADE_WAIT, check_supported


@pytest.mark.parametrize("version", [None, b"1", str(DATA_VERSION).encode()])
def test_data_of_this_or_an_earlier_version_is_supported(version: bytes | None) -> None:
    check_supported(version)


def test_data_of_a_newer_version_is_rejected_naming_both_versions() -> None:
    with pytest.raises(DataVersionUnsupported, match="has data version 12; the newest supported is 1"):
        check_supported(b"12")


@pytest.mark.parametrize("version", [b"", b"one", b"-1", b"1.0"])
def test_an_unreadable_version_raises_store_corrupt(version: bytes) -> None:
    with pytest.raises(StoreCorrupt, match="jobs:version holds"):
        check_supported(version)


def test_no_script_outlives_the_upgrade_wait() -> None:
    assert client.CLOCK_MAX_AGE + client.FIRST_ATTEMPT_TIMEOUT < UPGRADE_WAIT
