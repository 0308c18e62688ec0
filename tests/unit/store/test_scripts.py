import re
from pathlib import Path

import pytest

from service.domain import constraints
from service.domain.states import FINAL_STATUSES
from service.store import scripts
from service.store.events import reader
from service.store.partition import EXPIRING, TYPES
from service.store.scripts import Script
from tests.unit.api.openapi.test_document import CHECKED_IN, DOCUMENT

DOCS = CHECKED_IN.parent
LUA = Path(scripts.__file__).parent / "lua"
LIBRARIES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((LUA / "lib").iterdir())}
HEADER = LUA.joinpath("header.lua").read_text(encoding="utf-8").rstrip()
#: What begins a definition at the top level: its name.
DEFINITION = re.compile(r"^local (?:function )?(\w+)", re.MULTILINE)
#: A name, which is no field, no method and no key of a table.
NAME = re.compile(r"(?<![\w:])(?<!(?<!\.)\.)[A-Za-z_]\w*\b(?!\s*=(?!=))")
KEYWORDS = {
    "and",
    "break",
    "do",
    "else",
    "elseif",
    "end",
    "false",
    "for",
    "function",
    "if",
    "in",
    "local",
    "nil",
    "not",
}
KEYWORDS |= {"or", "repeat", "return", "then", "true", "until", "while"}
#: The names that Redis provides.
BUILTINS = {
    "ARGV",
    "KEYS",
    "cjson",
    "cmsgpack",
    "error",
    "ipairs",
    "math",
    "next",
    "pairs",
    "pcall",
    "redis",
    "string",
    "table",
}
BUILTINS |= {"tonumber", "type", "unpack"}
READING = {"EXISTS", "GET", "HGET", "HGETALL", "HMGET", "HSTRLEN", "SMEMBERS", "TIME", "XLEN"}
READING |= {"TYPE", "PEXPIRETIME", "PTTL", "SISMEMBER", "XREVRANGE", "ZCARD", "ZCOUNT", "ZRANGE", "ZSCORE"}
WRITING = {"HDEL", "HSET", "PERSIST", "PEXPIREAT", "SADD", "SET", "SREM", "UNLINK"}
WRITING |= {"XADD", "ZADD", "ZREM", "ZREMRANGEBYSCORE"}
#: The functions of the libraries that take a command.
TAKING_COMMANDS = r"(?:redis\.p?call|(?<![\w.])(?:run_command|call|add|remove|log_removal))\("
#: Types by the first letter of a command; other commands take keys of any type.
TYPE_OF_COMMAND = {"Z": "zset", "H": "hash", "X": "stream", "G": "string"}

every_script = pytest.mark.parametrize("source", scripts.ALL, ids=lambda source: source.name)
every_file = pytest.mark.parametrize("path", sorted(LUA.rglob("*.lua")), ids=lambda path: str(path.relative_to(LUA)))


def verb(source: Script) -> str:
    return LUA.joinpath(f"{source.name}.lua").read_text(encoding="utf-8").rstrip()


def header(source: Script) -> str:
    comment = re.match(r"(?:--.*\n)+", verb(source))
    assert comment, "a script begins with its header"
    return re.sub(r"^-- ?", "", comment[0], flags=re.MULTILINE)


def without_comments(lua: str) -> str:
    return re.sub(r"('(?:\\.|[^'\\])*')|--.*", lambda found: found[1] or "", lua)


def without_texts(lua: str) -> str:
    return re.sub(r"'(?:\\.|[^'\\])*'", "''", without_comments(lua))


def code(source: Script) -> str:
    return without_comments(verb(source))


def paragraphs(source: Script) -> list[tuple[dict[str, str], str]]:
    """Return each paragraph of a script, behind the definitions that precede it, by name, in their order."""
    _, rest = source.text.split("\n", 1)
    assert rest.startswith(HEADER)
    rest, found = rest[len(HEADER) :], []
    for paragraph in re.split(r"\n\n(?=\S)", verb(source)):
        before, separator, rest = rest.partition(f"\n\n{paragraph}")
        assert separator, "the script is linked as it is"
        texts = [text.strip() for text in re.split(r"\n\n(?=--|local )", before) if text.strip()]
        found.append(({name: text for text in texts for name in DEFINITION.findall(text)}, paragraph))
        assert len(found[-1][0]) == len(texts)
    assert not rest
    return found


def linked(source: Script) -> dict[str, str]:
    """Return the definitions that a script is linked with, by name, in their order."""
    everything = [pair for definitions, _ in paragraphs(source) for pair in definitions.items()]
    assert len(dict(everything)) == len(everything), "no definition is linked twice"
    return dict(everything)


def used_names(lua: str) -> set[str]:
    return set(NAME.findall(without_texts(lua))) - KEYWORDS


def declared_names(lua: str) -> set[str]:
    """Return all names that are declared anywhere: local variables, functions, parameters and those of loops."""
    plain = without_texts(lua)
    lists = re.findall(r"\blocal (?!function)((?:\w+,\s*)*\w+)", plain)
    lists += re.findall(r"\bfunction\b[ \w.]*\(([\w, .]*)\)", plain)
    lists += re.findall(r"\bfor ([\w, ]+?) (?:=|in)", plain)
    return set(re.findall(r"\w+", " ".join(lists))) | set(re.findall(r"\blocal function (\w+)", plain))


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
    """Return the commands in Lua code, also those that lib/writes.lua runs for it."""
    plain = without_comments(lua)
    found = set(re.findall(rf"{TAKING_COMMANDS}\s*'(\w+)'", plain))
    return found | ({"ZADD", "ZREM"} if re.search(r"\badd_score\(", plain) else set())


def replies(lua: str) -> set[str]:
    """Return the reply words in Lua code: in a returned table literal, in a refusal, or first in a local table."""
    plain = re.sub(r"redis\.p?call\([^()]*(\([^()]*\))?\)", "", without_comments(lua))
    returned = [line for line in re.findall(r"return (?:finish\()?\{(.*)", plain)]
    filled = re.findall(r"local .*= \{ '([A-Z_]{4,})'", plain)
    refused = re.findall(r"\brefuse\('([A-Z_]+)'", plain)
    return {word for line in returned for word in re.findall(r"'([A-Z_]{4,})'", line)} | {*filled, *refused}


def all_replies(source: Script) -> set[str]:
    """Return the reply words of a script and of the definitions that it is linked with."""
    return set().union(*map(replies, (*linked(source).values(), verb(source))))


def test_every_lua_file_is_a_script_or_shared_code() -> None:
    names = {path.name for path in LUA.iterdir()}
    assert names == {"lib", "header.lua", "probe.lua", *(f"{source.name}.lua" for source in scripts.ALL)}
    assert len({source.name for source in scripts.ALL}) == len(scripts.ALL)
    assert set(LIBRARIES) == set(scripts._LIBRARIES)


@every_script
def test_a_script_has_a_shebang_so_that_a_cluster_checks_its_keys(source: Script) -> None:
    first, _ = source.text.split("\n", 1)
    assert re.fullmatch(r"#!lua( flags=[a-z,-]+)?", first)


@every_script
def test_the_definitions_before_a_paragraph_are_those_of_the_libraries_in_their_order(source: Script) -> None:
    everything = "\n\n".join(LIBRARIES[name] for name in scripts._LIBRARIES)
    for definitions, _ in paragraphs(source):
        places = [everything.index(text) for text in definitions.values()]
        assert places == sorted(places)


@every_script
def test_each_linked_definition_is_used_by_the_paragraph_behind_it(source: Script) -> None:
    for definitions, paragraph in paragraphs(source):
        texts = [*definitions.values(), paragraph]
        for number, name in enumerate(definitions, 1):
            assert any(name in used_names(text) for text in texts[number:]), name


def test_a_heartbeat_that_only_extends_the_lease_makes_no_more_functions_than_it_needs() -> None:
    _, (definitions, paragraph), *_ = paragraphs(scripts.HEARTBEAT)
    assert paragraph.endswith("  return reply\nend")
    assert definitions.keys() == {
        *("key", "job_key", "with_key", "call", "format_time", "parse_time", "reject_record", "LEASE_GRACE")
    }


@every_script
def test_no_name_is_used_that_is_not_defined(source: Script) -> None:
    assert used_names(source.text.split("\n", 1)[1]) - declared_names(source.text) <= BUILTINS


@every_script
def test_a_shared_definition_is_defined_before_it_is_used(source: Script) -> None:
    pieces = linked(source)
    for before, text in pieces.items():
        following = list(pieces)[list(pieces).index(before) + 1 :]
        assert used_names(text).isdisjoint(following), before


def test_each_shared_definition_is_used_by_a_script() -> None:
    assert set().union(*map(linked, scripts.ALL)) == {
        name for library in LIBRARIES.values() for name in DEFINITION.findall(library)
    }


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
    assert re.search(rf"(^|, )({len(numbers_in(documented))}|last) the partition's root$", documented)
    assert "local root = KEYS[#KEYS]" in HEADER


@every_script
def test_the_reply_words_match_the_header(source: Script) -> None:
    assert all_replies(source) == set(re.findall(r"\b[A-Z][A-Z_]{3,}\b", section(source, "Returns"))) != set()


@every_file
def test_nothing_scans_the_keyspace_or_a_whole_index(path: Path) -> None:
    assert commands(path.read_text(encoding="utf-8")) <= READING | WRITING


@every_file
def test_commands_are_named_where_they_are_called(path: Path) -> None:
    plain = without_comments(path.read_text(encoding="utf-8"))
    calls = re.findall(rf"(?<!function ){TAKING_COMMANDS}(?!\s*'[A-Z]+')[^,)]*", plain)
    shared = {
        "common.lua": ["run_command(command"],
        "writes.lua": ["run_command(before", *["run_command(command"] * 2],
    }
    assert sorted(calls) == shared.get(path.name, [])


@every_script
def test_only_scripts_without_the_no_writes_flag_write(source: Script) -> None:
    assert bool(commands(source.text) & WRITING) is ("flags=no-writes" not in source.text.split("\n", 1)[0])


def test_only_some_scripts_run_at_the_memory_limit() -> None:
    exempt = {one.name for one in scripts.ALL if "allow-oom" in one.text.split("\n", 1)[0]}
    assert exempt == {
        "delete",
        "drain",
        "check_entries",
        "check_jobs",
        "gate",
        "heartbeat",
        "sweep",
        "rate_limit",
        "write_version",
        "bulk_abort",
        "bulk_count",
        "bulk_delete",
        "bulk_start",
        "bulk_take",
    }


def test_the_kinds_of_keys_in_lua_are_those_of_python() -> None:
    used = {kind for source in scripts.ALL for kind in re.findall(r"(?<![\w.])key\('(\w+)'", source.text)}
    assert used == set(TYPES) - {"fsync", "version", "partitions"}  # which scripts get as keys
    assert set(TYPES) >= EXPIRING


@every_file
def test_a_name_of_a_key_is_built_nowhere_but_in_one_place(path: Path) -> None:
    lua = without_comments(path.read_text(encoding="utf-8")).replace("root == 'jobs:'", "")
    assert "jobs:" not in lua
    assert ("'job:'" in lua or re.search(r"\broot\b", lua) is not None) is (path.name in {"common.lua", "header.lua"})


@every_file
def test_a_command_is_called_on_keys_of_its_type(path: Path) -> None:
    lua = without_comments(path.read_text(encoding="utf-8"))
    for command, kind in re.findall(rf"(?:{TAKING_COMMANDS})'(\w+)', key\('(\w+)'", lua):
        expected = TYPE_OF_COMMAND.get(command[0]) or ("set" if command in {"SADD", "SREM", "SMEMBERS"} else None)
        assert expected in {TYPES[kind], None}, (command, kind)


def test_the_final_statuses_in_lua_match_the_table_of_transitions() -> None:
    [table] = re.findall(r"^local FINAL = \{(.*)\}", LIBRARIES["records"], re.MULTILINE)
    assert set(re.findall(r"(\w+) = true", table)) == set(FINAL_STATUSES)


def test_the_events_kept_in_lua_are_as_many_as_readers_count_on() -> None:
    [kept] = re.findall(r"^local EVENTS_KEPT = '(\d+)'$", LIBRARIES["events"], re.MULTILINE)
    assert int(kept) == reader.EVENTS_KEPT


def test_the_longest_retry_delay_is_documented() -> None:
    [longest] = re.findall(r"^local MAX_RETRY_DELAY = (\d+)$", LIBRARIES["transitions"], re.MULTILINE)
    assert int(longest) == constraints.RETRY_DELAY_SECONDS.maximum == 3600
    for schema in ("CreateJob", "Job"):
        described = DOCUMENT["components"]["schemas"][schema]["properties"]["retry_delay_seconds"]["description"]
        assert f"up to {longest} (an hour)" in described
    for name in ("workers", "state-machine"):
        assert "up to an hour" in DOCS.joinpath(f"{name}.md").read_text(encoding="utf-8")


@every_script
def test_the_reply_words_in_python_match_the_script(source: Script) -> None:
    assert all_replies(source) == source.replies
