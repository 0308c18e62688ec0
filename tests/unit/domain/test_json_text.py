import json
import random
import re
from typing import Any

import pytest
from msgspec import Raw

from service.domain.errors import InvalidValue
from service.domain.jobs import Progress
from service.domain.json_text import ALLOWED, MAX_DEPTH, depth, to_json

UNCHANGED = [
    "{}",
    "0",
    "[]",
    "false",
    '""',
    "null",
    "true",
    "-0",
    "1.0",
    "1.10",
    "1E5",
    "1e999",
    "-1e-999",
    "12345678901234567890",
    "0.1000000000000000055511151231257827",
    '{"b":1,"a":2}',
    '{"a":1,"a":2}',
    '{"a" : [1 , 2]}',
    '"\\u0000"',
    '"\\ud83c\\udfc1"',
    '"\\/"',
    '"é🏁"',
    '"[[[{{{"',
]


@pytest.mark.parametrize("text", UNCHANGED)
def test_json_text_is_stored_unchanged(text: str) -> None:
    assert to_json("result", Raw(text.encode())) == text.encode()


def test_different_json_texts_stay_different() -> None:
    texts = [to_json("result", Raw(text.encode())) for text in UNCHANGED]
    assert len(set(texts)) == len(UNCHANGED)


def test_none_is_absent_and_null_is_a_value() -> None:
    assert to_json("result", None) is None
    assert to_json("result", Raw(b"null")) == b"null"


def test_whitespace_around_a_value_is_removed() -> None:
    assert to_json("result", Raw(b' \r\n\t{"a": 1} ')) == b'{"a": 1}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "tru",
        "NaN",
        "Infinity",
        "-Infinity",
        "[NaN]",
        "-",
        "01",
        "1.",
        ".5",
        "1e",
        "+1",
        "0x1",
        "1 2",
        "1\x00",
        "[1,]",
        "[1",
        "[1]]",
        "[1}",
        '{"a":1,}',
        "{1:2}",
        "{'a':1}",
        '{"a"}',
        '"a',
        '"\t"',
        '"\x00"',
        '"\\x"',
        "/**/1",
        "\ufeff1",
    ],
)
def test_invalid_json_is_rejected(text: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        to_json("input_params", Raw(text.encode()))
    assert (raised.value.field, raised.value.allowed) == ("input_params", ALLOWED)
    assert "not valid JSON" in raised.value.detail


@pytest.mark.parametrize(
    ("text", "byte"),
    [(b'"\xff"', 1), (b"\xff", 0), (b'"\xc3"', 1), (b'"\xc0\x80"', 1), (b'"\xed\xa0\x80"', 1), (b'{"a\x80":1}', 3)],
)
def test_invalid_utf8_is_rejected_with_its_position(text: bytes, byte: int) -> None:
    with pytest.raises(InvalidValue) as raised:
        to_json("result", Raw(text))
    assert raised.value.detail == f"it is not valid UTF-8 (byte {byte})"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "{}"),
        ([], "[]"),
        (0, "0"),
        (False, "false"),
        ("", '""'),
        (1.0, "1.0"),
        (10**30, "1000000000000000000000000000000"),
        ({"b": None, "a": "é"}, '{"b":null,"a":"é"}'),
        ({1: 2}, '{"1":2}'),
        (Progress(3, 7), '{"current":3,"total":7}'),
    ],
)
def test_other_values_are_encoded(value: Any, text: str) -> None:
    assert to_json("result", value) == text.encode()


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value", [float("nan"), {"a": float("inf")}, [-float("inf")], object(), {(1, 2): 3}, "\ud800", endless()]
)
def test_a_value_that_json_cannot_encode_is_rejected(value: Any) -> None:
    with pytest.raises(InvalidValue) as raised:
        to_json("error_message", value)
    assert raised.value.field == "error_message"
    assert raised.value.detail.startswith("it cannot be written as JSON")


NESTED = [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")]


def nested(opening: str, closing: str, levels: int) -> bytes:
    times = levels // (opening.count("[") + opening.count("{"))
    return (opening * times + "1" + closing * times).encode()


@pytest.mark.parametrize(("opening", "closing"), NESTED)
def test_200_levels_are_accepted(opening: str, closing: str) -> None:
    text = nested(opening, closing, MAX_DEPTH)
    assert depth(text) == MAX_DEPTH == 200
    assert to_json("result", Raw(text)) == text


@pytest.mark.parametrize("levels", [201, 300, 100_000])
def test_more_levels_are_rejected(levels: int) -> None:
    with pytest.raises(InvalidValue, match=r"^`result`: it is .*(deep|levels)"):
        to_json("result", Raw(nested("[", "]", levels)))
    with pytest.raises(InvalidValue, match=r"^`result`: it is .*(deep|levels)"):
        to_json("result", Raw(b'{"a":' * levels + b"1" + b"}" * levels))


def test_a_python_value_of_201_levels_is_rejected() -> None:
    value: Any = 1
    for _ in range(200):
        value = [value]
    assert to_json("result", value)
    with pytest.raises(InvalidValue, match="201 levels"):
        to_json("result", [value])


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("1", 0),
        ('"[[["', 0),
        ("[]", 1),
        ("{}", 1),
        ("[[],[],[[]]]", 3),
        ('["[["]', 1),
        (r'["\"[[", "]"]', 1),
        (r'["\\", ["[\\\""]]', 2),
        (r'{"\\":{"\"{":"}\\\\"}}', 2),
        (r'["\\\\",[],"\\\"[",[[]]]', 3),
    ],
)
def test_brackets_inside_strings_are_not_counted_as_levels(text: str, levels: int) -> None:
    assert depth(text.encode()) == levels


def naive_depth(value: Any) -> int:
    if isinstance(value, list):
        return 1 + max(map(naive_depth, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(naive_depth, value.values()), default=0)
    return 0


def random_value(source: random.Random, levels: int) -> Any:
    kind = source.randrange(4 if levels else 2)
    if kind == 0:
        return source.choice([None, True, 0, -1.5, 10**20])
    if kind == 1:
        return random_text(source)
    inside = [random_value(source, levels - 1) for _ in range(source.randrange(4))]
    return inside if kind == 2 else {random_text(source): value for value in inside}


def random_text(source: random.Random) -> str:
    return "".join(source.choices('[]{}"\\,: aé\n🏁', k=source.randrange(8)))


@pytest.mark.parametrize("seed", range(20))
def test_the_depth_of_random_json_is_that_of_its_values(seed: int) -> None:
    source = random.Random(seed)
    for _ in range(50):
        value = random_value(source, 8)
        text = json.dumps(value, ensure_ascii=source.random() < 0.5, indent=source.choice([None, 2])).encode()
        assert depth(text) == naive_depth(json.loads(text)), text
        assert to_json("result", Raw(text)) == text


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("\ud800", "result"),
        ({"\udfff": 1}, "result"),
        (Raw(rb'"\ud800"'), "result"),
        (Raw(rb'[1, "\ud800"]'), "result[1]"),
        (Raw(rb'{"a": "\udfff."}'), "result.a"),
    ],
)
def test_a_lone_surrogate_is_rejected_with_its_path(value: Any, field: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        to_json("result", value)
    assert raised.value.field == field
    assert re.search(r"\bit has the lone surrogate \\ud(800|fff), which is not valid Unicode", raised.value.detail)
