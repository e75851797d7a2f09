"""Secrets in the database open for this server, for their row, and for nobody else."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.delivery.sealing import VERSION, Sealer, Unsealable

SECRET_KEY = "a secret key that is long enough"
ROW, OTHER_ROW = UUID(int=1), UUID(int=2)
OVERHEAD_BYTES = 33


def sealer(secret_key: str = SECRET_KEY, purpose: str = "webhook secrets") -> Sealer:
    return Sealer(secret_key, purpose=purpose)


@given(st.binary(max_size=200), st.uuids())
def test_sealed_opens_again(plain: bytes, row: UUID) -> None:
    """Whatever is sealed opens as it was, also on another instance with the same key."""
    sealed = sealer().seal(plain, bound_to=row)
    assert sealer().unseal(sealed, bound_to=row) == plain
    assert len(sealed) == len(plain) + OVERHEAD_BYTES


def test_sealed_shows_nothing_of_what_it_is() -> None:
    """The plain bytes are nowhere in it, and the same twice looks different: the nonce is new."""
    plain = b"plain bytes to look for"
    first, second = (sealer().seal(plain, bound_to=ROW) for _ in range(2))
    assert plain not in first
    assert first != second
    assert first[0] == VERSION


def test_sealing_takes_its_nonce_from_the_randomness_given() -> None:
    """Twelve bytes for each secret, asked for each time."""
    asked: list[int] = []

    def random_bytes(count: int) -> bytes:
        asked.append(count)
        return bytes([len(asked)]) * count

    made = Sealer(SECRET_KEY, purpose="x", random_bytes=random_bytes)
    first, second = made.seal(b"a", bound_to=ROW), made.seal(b"a", bound_to=ROW)
    assert asked == [12, 12]
    assert first != second


def test_sealed_does_not_open_for_another_row() -> None:
    """A secret that somebody has copied to another endpoint's row is none there."""
    sealed = sealer().seal(b"secret", bound_to=ROW)
    with pytest.raises(Unsealable, match="another row"):
        sealer().unseal(sealed, bound_to=OTHER_ROW)


def test_sealed_under_another_key_says_so() -> None:
    """Who has lost the key is told that, and not that the data is broken."""
    sealed = sealer("another key than this one here").seal(b"secret", bound_to=ROW)
    with pytest.raises(Unsealable, match="another SECRET_KEY"):
        sealer().unseal(sealed, bound_to=ROW)


def test_sealed_for_another_purpose_does_not_open() -> None:
    """One secret key serves several purposes; nothing made for one is good for another."""
    sealed = sealer(purpose="mail passwords").seal(b"secret", bound_to=ROW)
    with pytest.raises(Unsealable):
        sealer().unseal(sealed, bound_to=ROW)


@pytest.mark.parametrize("at", range(6 + OVERHEAD_BYTES))
def test_sealed_with_any_byte_changed_does_not_open(at: int) -> None:
    """Version, key mark, nonce, ciphertext and tag: all of it is authenticated."""
    sealed = bytearray(sealer().seal(b"secret", bound_to=ROW))
    sealed[at] ^= 1
    with pytest.raises(Unsealable):
        sealer().unseal(bytes(sealed), bound_to=ROW)


@pytest.mark.parametrize("length", range(6 + OVERHEAD_BYTES))
def test_sealed_cut_short_does_not_open(length: int) -> None:
    """Nor does any beginning of it."""
    with pytest.raises(Unsealable):
        sealer().unseal(sealer().seal(b"secret", bound_to=ROW)[:length], bound_to=ROW)


def test_version_that_is_not_known_is_named() -> None:
    """A database that a newer release has written is told apart from a broken one."""
    sealed = bytes([VERSION + 1]) + sealer().seal(b"secret", bound_to=ROW)[1:]
    with pytest.raises(Unsealable, match=f"version {VERSION + 1}"):
        sealer().unseal(sealed, bound_to=ROW)


def test_sealer_shows_no_key() -> None:
    """Neither its repr nor what it raises has the key or the secret in it."""
    made = sealer()
    assert SECRET_KEY not in repr(made)
    sealed = bytearray(made.seal(b"plain secret", bound_to=ROW))
    sealed[-1] ^= 1
    with pytest.raises(Unsealable) as caught:
        made.unseal(bytes(sealed), bound_to=ROW)
    assert SECRET_KEY not in str(caught.value)
    assert "plain" not in repr(caught.value)


def test_sealer_without_a_key_is_refused() -> None:
    """An empty key would be everybody's."""
    with pytest.raises(ValueError, match="secret_key"):
        sealer("")
