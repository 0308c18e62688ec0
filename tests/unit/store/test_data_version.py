import pytest

from service.domain.errors import DataVersionUnsupported, StoreCorrupt
from service.store import calls, server_clock
from service.store.data_version import DATA_VERSION, UPGRADE_WAIT, check_version

CURRENT = str(DATA_VERSION).encode()


@pytest.mark.parametrize(
    ("version", "v1_keys"),
    [(CURRENT, 0), (CURRENT, 1), (None, 0), (b"1", 0)],
    ids=["this version", "this version, and a key that version 1 had", "no data", "a version without data"],
)
def test_data_of_this_version_and_no_data_are_supported(version: bytes | None, v1_keys: int) -> None:
    check_version(version, v1_keys)


@pytest.mark.parametrize("version", [None, b"1"])
def test_data_of_version_1_is_rejected_with_a_remedy(version: bytes | None) -> None:
    with pytest.raises(DataVersionUnsupported, match=r"of version 1; this service supports version 2\. Start it"):
        check_version(version, 1)


@pytest.mark.parametrize("v1_keys", [0, 3])
def test_data_of_a_newer_version_is_rejected_naming_both_versions(v1_keys: int) -> None:
    with pytest.raises(DataVersionUnsupported, match=r"of version 12; this service supports version 2\. Start a"):
        check_version(b"12", v1_keys)


@pytest.mark.parametrize("version", [b"", b"one", b"-1", b"1.0"])
def test_an_unreadable_version_raises_store_corrupt(version: bytes) -> None:
    with pytest.raises(StoreCorrupt, match="jobs:version holds"):
        check_version(version, 0)


def test_no_script_outlives_the_upgrade_wait() -> None:
    assert server_clock.CLOCK_MAX_AGE + calls.FIRST_ATTEMPT_TIMEOUT < UPGRADE_WAIT
