"""The merge of lists, on partitions that are lists of creation times."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.store.listing import Found, merge
from service.store.partition import Partition
from service.store.partitions import Partitions


class Store:
    """Partitions with entries: when each was created, and whether it matches. A read walks up to `max_scan` of them."""

    def __init__(self, count: int, entries: dict[int, bool], max_scan: int = 1000) -> None:
        self.partitions = Partitions(count)
        self._held = [
            sorted((one for one in entries if one % count == number), reverse=True) for number in range(count)
        ]
        self._entries = entries
        self._max_scan = max_scan
        #: The partitions that were asked, in turn.
        self.asked: list[int] = []
        #: How many entries they were allowed to read.
        self.scans: list[int] = []

    async def ask(self, partition: Partition, most: int, scan: int, before: int | None) -> tuple[list[Found], int]:
        """Reply as `list.lua` does."""
        self.asked.append(partition.number)
        self.scans.append(scan)
        found: list[Found] = []
        last = 0
        rest = [one for one in self._held[partition.number] if before is None or one < before]
        for scanned, created in enumerate(rest):
            if len(found) == most or scanned == min(scan, self._max_scan):
                return found, last
            if self._entries[created]:
                found.append(Found(created, f"j{created}", 0))
            last = created
        return found, 0

    def page(self, limit: int, before: int | None = None) -> tuple[list[int], int | None]:
        found, next_before = asyncio.run(merge(self.partitions, self.ask, limit, before))
        return [one.created for one in found], next_before

    def pages(self, limit: int) -> list[list[int]]:
        """Return all pages. Each must start below the one before."""
        page, before = self.page(limit)
        pages = [page]
        while before is not None:
            page, next_before = self.page(limit, before)
            assert next_before is None or next_before < before
            assert all(created < before for created in page)
            pages.append(page)
            before = next_before
        return pages


entries = st.dictionaries(st.integers(1, 3000), st.booleans(), max_size=150)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([1, 2, 16, 64]), entries, st.integers(1, 40), st.integers(1, 30))
def test_all_pages_together_have_each_match_once_newest_first(
    count: int, entries: dict[int, bool], limit: int, max_scan: int
) -> None:
    pages = Store(count, entries, max_scan).pages(limit)

    assert [created for page in pages for created in page] == sorted(
        (one for one in entries if entries[one]), reverse=True
    )
    assert all(len(page) <= limit for page in pages)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([2, 16, 64]), entries, st.integers(1, 40))
def test_a_page_is_full_unless_a_partition_reads_too_many_entries(
    count: int, entries: dict[int, bool], limit: int
) -> None:
    pages = Store(count, entries).pages(limit)

    assert all(len(page) == limit for page in pages[:-1])


@pytest.mark.parametrize("limit", [1, 50, 200])
def test_jobs_of_one_partition_alone_need_a_second_round_trip(limit: int) -> None:
    store = Store(64, dict.fromkeys(range(64, 64 * 1000, 64), True))

    page, next_before = store.page(limit)

    assert page == sorted(range(64, 64 * 1000, 64), reverse=True)[:limit]
    assert next_before == page[-1]
    assert len(store.asked) <= 65


def test_a_partition_is_asked_again_only_if_it_may_have_jobs_of_the_page() -> None:
    in_turn = Store(64, dict.fromkeys(range(1000), True))
    assert in_turn.page(50) == ([*reversed(range(950, 1000))], 950)
    assert in_turn.asked == [*range(64)]

    # Partition 7 has the newest 20 jobs, so its share of 4 ends above what is needed.
    uneven = Store(64, {**dict.fromkeys(range(1000), True), **dict.fromkeys(range(6407, 6407 + 64 * 20, 64), True)})
    uneven.page(50)
    assert uneven.asked == [*range(64), 7]


def test_a_partition_that_has_read_enough_entries_is_not_asked_again() -> None:
    # Partition 1 has the only matches; partition 0 reads entries that do not match, down to 902.
    store = Store(2, {one: one % 2 == 1 for one in range(1, 1001)}, max_scan=50)

    page, next_before = store.page(200)

    assert store.asked == [0, 1]
    assert (page, next_before) == ([*range(999, 902, -2)], 902)


def test_a_page_of_few_entries_per_partition_and_no_match_still_goes_on() -> None:
    store = Store(16, dict.fromkeys(range(1, 500), False) | {1: True}, max_scan=2)

    pages = store.pages(5)

    assert [page for page in pages if page] == [[1]]
    assert len(pages) < 40


@pytest.mark.parametrize(("count", "each"), [(1, 1000), (4, 250), (16, 63), (64, 50), (1024, 50)])
def test_a_page_reads_about_as_many_entries_whatever_the_number_of_partitions(count: int, each: int) -> None:
    store = Store(count, {})
    store.page(200)
    assert store.scans == [each] * count
