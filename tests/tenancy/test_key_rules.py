"""What a key looks like, and what of it is kept."""

from __future__ import annotations

import base64
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.tenancy import KeyMaker
from bulkhead_trio.tenancy._key_rules import (
    RANDOM_BYTES,
    digest_of,
    is_ours,
    is_same,
    key_id_in,
    make_key,
)

PEPPER = b"pepper"
RANDOMNESS = st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES)


@given(RANDOMNESS)
def test_key_is_what_the_contract_says(randomness: bytes) -> None:
    """A prefix, the id it is looked up by, and 256 random bits in base64url."""
    made = make_key(PEPPER, randomness)
    prefix, key_id, secret = made.text.split("_", 2)
    assert (prefix, key_id) == ("bh", made.id)
    assert base64.urlsafe_b64decode(secret + "=") == randomness[-32:]
    assert key_id_in(made.text) == made.id
    assert is_ours(PEPPER, made.id)
    assert made.digest == digest_of(PEPPER, made.text)
    told_apart = b"bulkhead-trio api key\0" + made.text.encode()
    assert made.digest == hmac.digest(PEPPER, told_apart, "sha256")
    assert len(made.digest) == 32


@given(RANDOMNESS, st.data())
def test_key_with_any_character_changed_is_another(randomness: bytes, data: st.DataObject) -> None:
    """There is no second text for a key: not even in the last character's spare bits."""
    made = make_key(PEPPER, randomness)
    place = data.draw(st.integers(0, len(made.text) - 1))
    other = data.draw(st.characters(codec="ascii"))
    changed = made.text[:place] + other + made.text[place + 1 :]
    if changed != made.text and key_id_in(changed) is not None:
        assert not is_same(made.digest, digest_of(PEPPER, changed))


@given(RANDOMNESS, st.sampled_from(["hex", "base64"]))
def test_key_digest_is_not_a_key(randomness: bytes, form: str) -> None:
    """Whoever has read the table has nothing to send: not as it is, not in a key's clothes."""
    made = make_key(PEPPER, randomness)
    text = made.digest.hex() if form == "hex" else base64.urlsafe_b64encode(made.digest).decode()
    assert key_id_in(text) is None
    dressed = f"bh_{made.id}_{base64.urlsafe_b64encode(made.digest).decode().rstrip('=')}"
    assert key_id_in(dressed) == made.id
    assert not is_same(made.digest, digest_of(PEPPER, dressed))


@given(st.text())
def test_key_of_any_text_is_read_without_a_word(text: str) -> None:
    """Whatever somebody sends is a key's form or is not."""
    key_id = key_id_in(text)
    assert key_id is None or text.startswith(f"bh_{key_id}_")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bh_",
        "BH_" + "0" * 24 + "_" + "A" * 43,
        "bh_" + "0" * 23 + "_" + "A" * 43,
        "bh_" + "g" * 24 + "_" + "A" * 43,
        "bh_" + "0" * 24 + "_" + "A" * 42,
        "bh_" + "0" * 24 + "_" + "A" * 44,
        "bh_" + "0" * 24 + "_" + "A" * 42 + "=",
        "bh_" + "0" * 24 + "_" + "A" * 43 + "\n",
        "bh_" + "٠" * 24 + "_" + "A" * 43,
    ],
)
def test_key_of_another_form_is_none(text: str) -> None:
    """Length and characters are exact, digits of other scripts and a line's end included."""
    assert key_id_in(text) is None


def test_key_under_another_pepper_is_nobodys() -> None:
    """Neither its digest nor its id is one of ours."""
    made = make_key(b"another", bytes(RANDOM_BYTES))
    assert not is_ours(PEPPER, made.id)
    assert digest_of(PEPPER, made.text) != made.digest


@given(st.integers(0, 2**96 - 1))
def test_key_id_that_was_made_up_is_not_ours(number: int) -> None:
    """One in four thousand million is, and no such example is found."""
    assert not is_ours(PEPPER, f"{number:024x}")


@pytest.mark.parametrize("size", [0, RANDOM_BYTES - 1, RANDOM_BYTES + 1])
def test_key_of_too_little_randomness_is_not_made(size: int) -> None:
    """Nobody gets a key that can be guessed by a mistake of the caller's."""
    with pytest.raises(ValueError, match="randomness"):
        make_key(PEPPER, bytes(size))


def test_key_shows_itself_to_nobody_by_accident() -> None:
    """What lands in a log line or a traceback has neither the key nor its digest in it."""
    issued = KeyMaker(PEPPER).make()
    for text in (repr(issued), repr(issued.record), repr(make_key(PEPPER, bytes(RANDOM_BYTES)))):
        assert issued.text not in text
        assert "digest" not in text


def test_key_maker_never_makes_one_twice() -> None:
    """Its randomness is the system's."""
    maker = KeyMaker(PEPPER)
    assert len({maker.make().text for _ in range(100)}) == 100
