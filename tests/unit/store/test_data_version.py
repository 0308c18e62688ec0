import pytest

from service.domain.errors import DataVersionUnsupported, StoreCorrupt
from service.store import client
from service.store.data_version import DATA_VERSION, UPGRADE_WAIT, V1_KEYS, check_version


@pytest.mark.parametrize("version", [None, b"1", str(DATA_VERSION).encode()])
def test_a_database_without_keys_of_version_1_is_supported(version: bytes | None) -> None:
    check_version(version, 0)


@pytest.mark.parametrize("v1_keys", range(1, len(V1_KEYS) + 1))
@pytest.mark.parametrize("version", [None, b"1"])
def test_data_of_version_1_is_rejected_saying_what_to_do(version: bytes | None, v1_keys: int) -> None:
    with pytest.raises(DataVersionUnsupported, match=r"has data of version 1; this service supports version 2\. .*delete") as error:
        check_version(version, v1_keys)
    assert "`job:*` and `jobs:*`" in str(error.value)


def test_keys_of_version_1_beside_this_version_are_those_of_another_program() -> None:
    check_version(str(DATA_VERSION).encode(), len(V1_KEYS))


def test_data_of_a_newer_version_is_rejected_naming_both_versions() -> None:
    with pytest.raises(DataVersionUnsupported, match=r"has data of version 12; this service supports version 2\. Start a newer"):
        check_version(b"12", 0)


@pytest.mark.parametrize("version", [b"", b"two", b"-2", b"2.0"])
def test_an_unreadable_version_raises_store_corrupt(version: bytes) -> None:
    with pytest.raises(StoreCorrupt, match="jobs:version holds"):
        check_version(version, 0)


def test_no_script_outlives_the_upgrade_wait() -> None:
    assert client.CLOCK_MAX_AGE + client.FIRST_ATTEMPT_TIMEOUT < UPGRADE_WAIT
