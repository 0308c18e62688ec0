"""docs/key-layout.md lists the keys and the private fields of the store."""

import re

from service.store import scripts
from service.store.partition import EXPIRING, PARTITION, TYPES
from tests.helpers.paths import ROOT

DOCUMENT = (ROOT / "docs" / "key-layout.md").read_text()
TYPE_NAMES = {"zset": "sorted set", "string": "string", "hash": "hash", "set": "set", "stream": "stream"}


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table that begins with this column."""
    table = DOCUMENT[DOCUMENT.index(f"| {heading} |") :].partition("\n\n")[0]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()[2:]]


KEYS = {cells[0].strip("`"): cells for cells in rows("key")}


def kind_of(name: str) -> str:
    return name.removeprefix(PARTITION.root).partition(":")[0]


def test_the_table_has_every_key_with_its_type() -> None:
    described = {kind_of(name): cells[1].partition(",")[0] for name, cells in KEYS.items() if name != "job:<id>"}
    assert described == {kind: TYPE_NAMES[name] for kind, name in TYPES.items()}
    assert len(KEYS) == len(TYPES) + 1


def test_the_table_has_the_names_that_the_store_builds() -> None:
    built = {
        PARTITION.job("<id>"),
        PARTITION.by_created("<queue>", "<state>"),
        PARTITION.by_priority("<queue>"),
        PARTITION.claim("<claim id>"),
        PARTITION.aim("<claim id>"),
        PARTITION.gate("<queue>"),
        PARTITION.bulk("<action id>"),
        PARTITION.rate_limit("<digest>"),
        *(
            PARTITION.key(kind)
            for kind in set(TYPES) - {"by_created", "by_priority", "claim", "aim", "gate", "rate_limit", "bulk"}
        ),
    }
    assert set(KEYS) == built


def test_the_table_says_which_keys_expire() -> None:
    assert {kind_of(name) for name, cells in KEYS.items() if cells[-1] != "never"} == EXPIRING | {"job"}


def test_the_table_of_the_record_has_every_private_field() -> None:
    private = {name for script in scripts.ALL for name in re.findall(r"(?<!\w)_[a-z_]+", script.text)}
    assert {cells[0].strip("`") for cells in rows("field")} == private


def test_the_requests_that_need_a_key_are_listed_for_every_key_that_a_request_needs() -> None:
    needed = {cells[0].strip("`") for cells in rows("key | requests that answer `store-corrupt`")}
    assert needed == {
        name for name in KEYS if kind_of(name) not in {"claim", "aim", "gate", "rate_limit", "bulk", "fsync"}
    }
