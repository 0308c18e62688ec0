import re
from pathlib import Path

import pytest

from service.domain import constraints
from service.domain.states import FINAL_STATUSES
from service.store import scripts
from service.store.partition import PARTITION
from service.store.scripts import Script
from tests.unit.api.openapi.test_document import CHECKED_IN, DOCUMENT

DOCS = CHECKED_IN.parent
LUA = Path(scripts.__file__).parent / "lua"
PRELUDE = LUA.joinpath("prelude.lua").read_text(encoding="utf-8")
MOVES = LUA.joinpath("moves.lua").read_text(encoding="utf-8")
#: The shared functions, with their bodies.
SHARED = dict(re.findall(r"^local function (\w+)(\(.*?^end)$", f"{PRELUDE}\n{MOVES}", re.MULTILINE | re.DOTALL))
TRANSITION_NAMES = set(re.findall(r"^local (?:function )?(\w+)", MOVES, re.MULTILINE))
WRITERS = {"HSET", "HDEL", "SET", "DEL", "UNLINK", "ZADD", "ZREM", "ZREMRANGEBYSCORE", "XADD", "PEXPIREAT"}
WRITING_FUNCTIONS = {"put", "take", "untag", "emit", "keep", "change", "extend", "give_back", "tell"}

every_script = pytest.mark.parametrize("source", scripts.ALL, ids=lambda source: source.name)
every_file = pytest.mark.parametrize("path", sorted(LUA.iterdir()), ids=lambda path: path.name)


def verb(source: Script) -> str:
    return LUA.joinpath(f"{source.name}.lua").read_text(encoding="utf-8")


def header(source: Script) -> str:
    comment = re.match(r"(?:--.*\n)+", verb(source))
    assert comment, "a script begins with its header"
    return re.sub(r"^-- ?", "", comment[0], flags=re.MULTILINE)


def code(source: Script) -> str:
    return re.sub(r"--.*", "", verb(source))


def used_in(source: Script) -> set[str]:
    return set(re.findall(r"(?<![\w.'])([a-zA-Z_]+)\b(?!')", code(source)))


def section(source: Script, name: str) -> str:
    found = re.search(rf"^{name}: (.*(?:\n .*)*)", header(source), re.MULTILINE)
    assert found, f"the header of {source.name}.lua has no {name}"
    return " ".join(found[1].split())


def numbers_in(documented: str) -> set[int]:
    """Return the numbers in a list such as `1 this, 2 that, 3 … the rest`."""
    numbers: set[int] = set()
    while re.search(rf"(?:^|, ){len(numbers) + 1} ", documented):
        numbers.add(len(numbers) + 1)
    return numbers


def commands(lua: str) -> set[str]:
    return set(re.findall(r"redis\.p?call\('(\w+)'", lua))


def replies(lua: str) -> set[str]:
    """Return the reply words in Lua code: in a returned table literal, or first in a local table."""
    returned = [re.sub(r"redis\.call\([^()]*(\([^()]*\))?\)", "", line) for line in re.findall(r"return \{(.*)", lua)]
    filled = re.findall(r"local .*= \{ '([A-Z_]{4,})'", lua)
    return {word for line in returned for word in re.findall(r"'([A-Z_]{4,})'", line)} | set(filled)


def all_replies(source: Script) -> set[str]:
    """Return the reply words of a script and of the shared functions that it calls."""
    lua = code(source)
    for name, body in reversed(SHARED.items()):  # a function calls only earlier ones
        if re.search(rf"\b{name}\(", lua):
            lua += f"\n{body}"
    return replies(lua)


def test_every_lua_file_is_a_script_or_shared_code() -> None:
    names = {path.name for path in LUA.iterdir()}
    assert names == {"prelude.lua", "moves.lua", "probe.lua", *(f"{source.name}.lua" for source in scripts.ALL)}
    assert len({source.name for source in scripts.ALL}) == len(scripts.ALL)


@every_script
def test_a_script_has_a_shebang_so_that_a_cluster_checks_its_keys(source: Script) -> None:
    first, rest = source.text.split("\n", 1)
    assert re.fullmatch(r"#!lua( flags=[a-z,-]+)?", first)
    parts = [PRELUDE, MOVES, verb(source)] if used_in(source) & TRANSITION_NAMES else [PRELUDE, verb(source)]
    assert rest == "\n".join(parts)


@every_script
def test_a_header_documents_purpose_keys_arguments_and_reply(source: Script) -> None:
    assert re.match(r"[A-Z][^:]*?\.", header(source))
    for name in ("KEYS", "ARGV", "Returns"):
        assert section(source, name)


@every_script
def test_the_arguments_match_the_header(source: Script) -> None:
    used = re.findall(r"ARGV\[(\d+)\]|\(ARGV, (\d+)\)|= (\d+), #ARGV", code(source))
    assert {int("".join(one)) for one in used} == numbers_in(section(source, "ARGV"))


@every_script
def test_only_a_script_with_an_open_argument_list_takes_any_number(source: Script) -> None:
    takes_a_rest = re.search(r"\(ARGV, \d+\)|#ARGV", code(source)) is not None
    assert takes_a_rest is (f"{max(numbers_in(section(source, 'ARGV')))} …" in section(source, "ARGV"))


@every_script
def test_the_keys_match_the_header(source: Script) -> None:
    documented = section(source, "KEYS")
    assert {int(number) for number in re.findall(r"KEYS\[(\d+)\]", code(source))} <= numbers_in(documented)
    assert documented.endswith(f"{len(numbers_in(documented))} the partition's root")
    assert "KEYS[#KEYS]" in PRELUDE


@every_script
def test_the_reply_words_match_the_header(source: Script) -> None:
    assert all_replies(source) == set(re.findall(r"\b[A-Z][A-Z_]{3,}\b", section(source, "Returns"))) != set()


@every_file
def test_nothing_scans_the_keyspace_or_a_whole_index(path: Path) -> None:
    lua = path.read_text(encoding="utf-8")
    assert commands(lua).isdisjoint({"KEYS", "SCAN", "HSCAN", "SSCAN", "ZSCAN", "RANDOMKEY", "FLUSHDB", "FLUSHALL"})
    assert len(re.findall(r"redis\.p?call\(", lua)) == len(re.findall(r"redis\.p?call\('[A-Z]+'", lua))


@every_script
def test_only_scripts_without_the_no_writes_flag_write(source: Script) -> None:
    calls = set(re.findall(r"(?<![\w.])(\w+)\(", code(source)))
    writes = bool(commands(code(source)) & WRITERS) or bool(calls & WRITING_FUNCTIONS)
    assert writes is ("flags=no-writes" not in source.text.split("\n", 1)[0])


def test_only_some_scripts_run_at_the_memory_limit() -> None:
    exempt = {one.name for one in scripts.ALL if "allow-oom" in one.text.split("\n", 1)[0]}
    assert exempt == {"delete", "drain", "entries", "examine", "heartbeat", "sweep", "limit"}


@every_file
def test_key_names_in_lua_are_known_to_python(path: Path) -> None:
    lua = path.read_text(encoding="utf-8")
    known = {
        PARTITION.by_created("queue", "state"),
        keys.by_expiry("queue", "state"),
        PARTITION.rate_limit("client"),
        PARTITION.claim("id"),
        *(
            keys.INDEXES,
            PARTITION.tags,
            PARTITION.delays,
            PARTITION.leases,
            PARTITION.queues,
            PARTITION.meta,
            PARTITION.deletions,
            PARTITION.meta,
            PARTITION.events,
        ),
    }
    used = set(re.findall(r"(?<![\w.])key\('(\w+)'", lua))
    assert used <= {name.removeprefix(PARTITION.root).split(":")[0] for name in known}
    assert "'jobs:" not in lua.replace("root == 'jobs:'", "")


def test_the_final_statuses_in_lua_match_the_table_of_transitions() -> None:
    [table] = re.findall(r"^local FINAL = \{(.*)\}", MOVES, re.MULTILINE)
    assert set(re.findall(r"(\w+) = true", table)) == set(FINAL_STATUSES)


def test_the_longest_retry_delay_is_documented() -> None:
    [longest] = re.findall(r"^local LONGEST_RETRY_DELAY = (\d+)$", MOVES, re.MULTILINE)
    assert int(longest) == constraints.RETRY_DELAY_SECONDS.maximum == 3600
    for schema in ("CreateJob", "Job"):
        described = DOCUMENT["components"]["schemas"][schema]["properties"]["retry_delay_seconds"]["description"]
        assert f"up to {longest} (an hour)" in described
    for name in ("workers", "state-machine"):
        assert "up to an hour" in DOCS.joinpath(f"{name}.md").read_text(encoding="utf-8")


@every_script
def test_the_reply_words_in_python_match_the_script(source: Script) -> None:
    assert all_replies(source) == source.replies
