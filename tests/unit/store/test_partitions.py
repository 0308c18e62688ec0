"""Partitions are spread evenly over the slots of Redis Cluster, and jobs evenly over the partitions."""

from collections import Counter

import pytest
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from service.store.data_version import PARTITIONS_KEY
from service.store.partition import PARTITION
from service.store.partitions import Partitions

COUNTS = [2**power for power in range(11)]
#: The tags of 16 partitions. They are data: with another tag no job would be found.
TAGS_OF_16 = [60, 42, 11, 3, 61, 43, 10, 2, 62, 40, 13, 1, 63, 41, 12, 0]


def test_the_only_partition_has_the_names_of_old() -> None:
    [only] = Partitions()
    assert only is PARTITION
    assert (only.number, only.root, only.job("a")) == (0, "jobs:", "job:a")


@pytest.mark.parametrize("count", [-1, 0, 3, 12, 2048])
def test_only_powers_of_two_up_to_1024_are_allowed(count: int) -> None:
    with pytest.raises(ValueError, match=f"a power of two from 1 to 1024, not {count}"):
        Partitions(count)


def test_the_tags_of_16_partitions_do_not_change() -> None:
    assert [partition.root for partition in Partitions(16)] == [f"{{p{n}}}:" for n in TAGS_OF_16]
    assert Partitions(16)[3].job("a") == "{p3}:job:a"
    assert Partitions(16)[3].by_created("q", "pending") == "{p3}:by_created:q:pending"


@pytest.mark.parametrize("count", COUNTS)
def test_partitions_are_numbered_and_each_has_a_root_of_its_own(count: int) -> None:
    partitions = Partitions(count)
    assert [partition.number for partition in partitions] == [*range(len(partitions))] == [*range(count)]
    assert len({partition.root for partition in partitions}) == count
    assert partitions.first is partitions[0]


@pytest.mark.parametrize("count", COUNTS[1:])
def test_every_number_of_partitions_has_the_one_that_a_start_looks_at(count: int) -> None:
    assert PARTITIONS_KEY == "{p0}:partitions"
    assert PARTITIONS_KEY in {partition.partitions for partition in Partitions(count)}


@pytest.mark.parametrize("count", COUNTS[1:])
def test_all_keys_of_a_partition_are_in_one_slot_of_its_range(count: int) -> None:
    for partition in Partitions(count):
        slots = {key_slot(name.encode()) for name in (partition.job("a{b}"), partition.events, partition.claim("c"))}
        assert len(slots) == 1
        assert slots.pop() * count // REDIS_CLUSTER_HASH_SLOTS == partition.number


@pytest.mark.parametrize(
    ("count", "shards", "fewest", "most"),
    [
        *(
            (16, shards, *bounds)
            for shards, bounds in {3: (5, 6), 6: (2, 3), 8: (2, 2), 12: (1, 2), 16: (1, 1)}.items()
        ),
        *(
            (64, shards, *bounds)
            for shards, bounds in {3: (20, 22), 6: (10, 11), 8: (8, 8), 12: (4, 6), 16: (4, 4)}.items()
        ),
    ],
)
def test_equal_ranges_of_slots_get_nearly_as_many_partitions(count: int, shards: int, fewest: int, most: int) -> None:
    slots = [key_slot(partition.root.encode()) for partition in Partitions(count)]
    per_shard = Counter(slot * shards // REDIS_CLUSTER_HASH_SLOTS for slot in slots)
    assert (min(per_shard[shard] for shard in range(shards)), max(per_shard.values())) == (fewest, most)


@pytest.mark.parametrize("count", [2, 16, 1024])
def test_a_job_is_in_the_partition_of_its_checksum(count: int) -> None:
    partitions = Partitions(count)
    # 0x31C3 is the CRC16 of this text in the specification of Redis Cluster.
    assert partitions.of("123456789").number == 0x31C3 % count
    assert partitions.home_of("123456789") is partitions.of("123456789")
    for job_id in ("a", "nightly~2026.01-01", "x" * 128):
        assert partitions.of(job_id).number == key_slot(job_id.encode()) % count


def test_jobs_are_spread_over_all_partitions() -> None:
    jobs = Counter(Partitions(16).of(f"job-{number}").number for number in range(16_000))
    assert set(jobs) == set(range(16))
    assert min(jobs.values()) > 800
    assert max(jobs.values()) < 1200
