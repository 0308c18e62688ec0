import math
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from jobstate._json import decode, encode


@dataclass
class Point:
    x: int
    y: float | None = None


class Tags(msgspec.Struct):
    tags: set[int]


class Settings(msgspec.Struct):
    seed: int
    at: datetime


EXACT = [
    (2**70, b"1180591620717411303424"),
    (Decimal("1.10"), b"1.10"),
    (Decimal("1E+400"), b"1E+400"),
    (0.1, b"0.1"),
    (None, b"null"),
    ({"NaN": None, "Infinity": [None]}, b'{"NaN":null,"Infinity":[null]}'),
    (msgspec.Raw(b'{"b": 1.00, "a":null}'), b'{"b": 1.00, "a":null}'),
    ({"deep": msgspec.Raw(b"1.00"), "x": None}, b'{"deep":1.00,"x":null}'),
    (Tags({1}), b'{"tags":[1]}'),
    (Point(1), b'{"x":1,"y":null}'),
    (Settings(7, datetime(2026, 1, 2, tzinfo=UTC)), b'{"seed":7,"at":"2026-01-02T00:00:00Z"}'),
]


@pytest.mark.parametrize(("value", "text"), EXACT, ids=[repr(text) for _, text in EXACT])
def test_a_value_is_encoded_exactly(value: object, text: bytes) -> None:
    assert encode(value) == text


def nested(levels: int) -> object:
    value: object = []
    for _ in range(levels):
        value = [value]
    return value


UNSENDABLE = [
    math.nan,
    [{"deep": math.inf}],
    Point(1, -math.inf),
    Decimal("NaN"),
    (Decimal("-Infinity"),),
    "\ud800",
    object(),
    nested(5_000),
    {"deep": [{1}]},
    (frozenset(),),
]


@pytest.mark.parametrize("value", UNSENDABLE, ids=[str(number) for number in range(len(UNSENDABLE))])
def test_what_json_cannot_express_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode(value)


DECODED: list[tuple[bytes, object]] = [
    (b"", None),
    (b"null", None),
    (b"1180591620717411303424", 2**70),
    (b"-9223372036854775809", -(2**63) - 1),
    (b"0.1", 0.1),
    (b"1e400", Decimal("1e400")),
    (b"[1e400,1.5]", [Decimal("1e400"), 1.5]),
    (b"1" * 5_000, Decimal("1" * 5_000)),
]


@pytest.mark.parametrize(("text", "value"), DECODED, ids=[repr(text[:20]) for text, _ in DECODED])
def test_no_number_is_silently_changed(text: bytes, value: object) -> None:
    assert decode(text) == value
    assert type(decode(text)) is type(value)


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        decode(b"{")
