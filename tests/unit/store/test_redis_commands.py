"""The list of required commands matches the scripts and the client."""

from service.store import scripts
from service.store.redis_commands import DOCTOR_COMMANDS, REPAIR_COMMANDS, REQUIRED_COMMANDS, acl_names, acl_rule
from tests.unit.store.test_scripts import commands

OF_DOCTOR = {scripts.CHECK_JOBS, scripts.CHECK_ENTRIES}
#: Commands that the service sends outside of scripts.
SENT = {"ping", "evalsha", "script|load", "time", "get", "set", "exists", "hgetall", "hmget", "hstrlen"}
STREAM = {"xread", "xrange", "xrevrange", "xlen"}


def called(*sources: scripts.Script) -> set[str]:
    return {command.lower() for source in sources for command in commands(source.text)}


def test_the_required_commands_are_those_of_the_scripts_and_the_client() -> None:
    assert set(acl_names(REQUIRED_COMMANDS)) == called(*set(scripts.ALL) - OF_DOCTOR) | SENT | STREAM


def test_the_doctor_may_run_what_its_scripts_call() -> None:
    assert called(*OF_DOCTOR) <= set(acl_names((*DOCTOR_COMMANDS, *REPAIR_COMMANDS)))


def test_a_rule_allows_its_commands_and_nothing_else() -> None:
    assert acl_rule("GET jobs:version", "SCRIPT LOAD text") == (
        "resetkeys ~job:* ~jobs:* ~{p*}:* resetchannels -@all +get +script|load"
    )


def test_no_command_is_listed_twice() -> None:
    for listed in (REQUIRED_COMMANDS, (*DOCTOR_COMMANDS, *REPAIR_COMMANDS)):
        assert len(set(acl_names(listed))) == len(listed)
