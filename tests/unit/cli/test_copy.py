"""The options of `jobstate copy`: what TO needs, TO gets or is refused."""

import signal
from collections import Counter
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from jobstate.cli import main
from service.cli import copy as command


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("arguments", "partitions"),
    [
        (["redis://a", "redis+cluster://b"], 16),
        (["redis://a", "redis+cluster://b", "--redis-partitions", "4"], 4),
        (["redis+cluster://a", "redis://b"], 1),
    ],
)
def test_the_default_number_of_partitions_is_that_of_to(
    arguments: list[str], partitions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []

    async def copy(_from_url: str, _to_url: str, count: int) -> Counter[tuple[str, str]]:
        given.append(count)
        return Counter()

    monkeypatch.setattr(command, "_copy", copy)
    result = CliRunner().invoke(main, ["copy", *arguments])
    assert (result.exit_code, given) == (0, [partitions]), result.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["redis://a", "redis+cluster://b", "--redis-partitions", "1"], "a cluster needs several partitions"),
        (["redis+cluster://a,a", "redis://b"], "server 2 is a duplicate"),
        (["redis://a", "redis+sentinel://b"], "the name of the master is missing"),
    ],
)
def test_what_serve_refuses_is_refused_of_from_and_to(arguments: list[str], text: str) -> None:
    result = CliRunner().invoke(main, ["copy", *arguments])
    assert result.exit_code == command.Exit.USAGE
    assert text in result.output
