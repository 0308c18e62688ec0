import pytest

from service.domain.errors import StoreCorrupt, StoreNewer
from service.store import client
from service.store.data_version import DATA_VERSION, FENCE, require_known


@pytest.mark.parametrize("held", [None, b"1", str(DATA_VERSION).encode()])
def test_data_of_this_version_or_an_earlier_one_is_taken(held: bytes | None) -> None:
    require_known(held)


def test_data_of_a_newer_version_is_refused_by_both_names() -> None:
    with pytest.raises(StoreNewer, match="is of version 12, and this service knows versions up to 1"):
        require_known(b"12")


@pytest.mark.parametrize("held", [b"", b"one", b"-1", b"1.0"])
def test_what_is_no_version_is_not_taken_for_one(held: bytes) -> None:
    with pytest.raises(StoreCorrupt, match="jobs:version holds"):
        require_known(held)


def test_no_script_outlives_the_fence() -> None:
    assert client.CLOCK_FRESH + client.FIRST_TRY < FENCE
