import re

import pytest

from service.domain.errors import InvalidValue
from service.store.fingerprints import change_id_for, digest, new_change_id

PARTS = [
    (),
    (None,),
    ("",),
    ("null",),
    (0,),
    (False,),
    ("0",),
    ("a", "b"),
    ("ab",),
    ("ab", ""),
    ("", "ab"),
    ("a", "b", None),
    ("a", None, "b"),
    (b"{}",),
    (b"{ }",),
    (b"1.0",),
    (b"1",),
]


def test_a_digest_is_the_same_for_the_same_content() -> None:
    for parts in PARTS:
        assert digest(*parts) == digest(*parts)


def test_a_digest_differs_where_the_content_differs() -> None:
    assert len({digest(*parts) for parts in PARTS}) == len(PARTS)


def test_a_digest_does_not_change_from_release_to_release() -> None:
    # A request may be retried after an upgrade, so stored digests must stay valid.
    assert digest("default", b"{}", None, 0) == "5RS11VVwzFCan1WghuZunQ"


@pytest.mark.parametrize("parts", [(), ("a" * 100_000,)])
def test_a_digest_has_22_characters(parts: tuple[str, ...]) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", digest(*parts))


def test_a_change_id_is_fresh_where_no_key_is_given() -> None:
    ids = {new_change_id() for _ in range(500)} | {change_id_for(None) for _ in range(500)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{16}", change_id) for change_id in ids)


def test_a_key_stands_for_one_change_id() -> None:
    ids = {key: change_id_for(key) for key in ("k", "K", "!", "~", "k" * 255)}
    assert len(set(ids.values())) == len(ids)
    assert all(change_id_for(key) == change_id for key, change_id in ids.items())
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{16}", change_id) for change_id in ids.values())


@pytest.mark.parametrize("key", ["", " ", "a b", "a\n", "ä", "k" * 256])
def test_a_key_that_is_not_allowed_is_refused(key: str) -> None:
    with pytest.raises(InvalidValue, match=r"^`Idempotency-Key`: "):
        change_id_for(key)
