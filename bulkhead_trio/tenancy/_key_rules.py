"""What an API key looks like, and what of it is kept. Pure.

A key is ``bh_<key id>_<secret>``: the id is looked up, the secret is 256 random bits in base64url
(RFC 4648, section 5). What is kept is the HMAC-SHA-256 (RFC 2104) of the whole text under a pepper
that is not in the database: a stolen table opens nothing, and 256 bits cannot be guessed, so no
slow hash is needed.

An id is 64 random bits and 32 bits of an HMAC of those under the same pepper. Whoever makes ids up
is refused by that, without a query: a flood of invented keys never reaches the database.
"""

from __future__ import annotations

import base64
import hmac
import re
from typing import Final

import attrs

ID_RANDOM_BYTES: Final = 8
ID_CHECK_BYTES: Final = 4
SECRET_BYTES: Final = 32
RANDOM_BYTES: Final = ID_RANDOM_BYTES + SECRET_BYTES
"""What making a key takes of randomness."""

_ID_DIGITS: Final = 2 * (ID_RANDOM_BYTES + ID_CHECK_BYTES)
_RANDOM_DIGITS: Final = 2 * ID_RANDOM_BYTES

_KEY: Final = re.compile(rf"bh_([0-9a-f]{{{_ID_DIGITS}}})_[A-Za-z0-9_-]{{43}}")

# One pepper serves several purposes; nothing made for one is ever good for another.
_OF_KEYS: Final = b"bulkhead-trio api key\0"
_OF_IDS: Final = b"bulkhead-trio api key id\0"


@attrs.frozen
class MadeKey:
    """A key that has just been made.

    Attributes:
        text: the key itself, shown once and kept nowhere.
        id: what it is looked up by.
        digest: what is kept.
    """

    text: str = attrs.field(repr=False)
    id: str
    digest: bytes = attrs.field(repr=False)


def make_key(pepper: bytes, randomness: bytes) -> MadeKey:
    """A new key.

    Args:
        pepper: the server's secret.
        randomness: `RANDOM_BYTES` of it, from a source that nobody can predict.

    Raises:
        ValueError: there is more or less of it.
    """
    if len(randomness) != RANDOM_BYTES:
        raise ValueError(f"randomness must be {RANDOM_BYTES} bytes, not {len(randomness)}")
    number = randomness[:ID_RANDOM_BYTES].hex()
    key_id = number + _check_of(pepper, number)
    secret = base64.urlsafe_b64encode(randomness[ID_RANDOM_BYTES:]).rstrip(b"=").decode("ascii")
    text = f"bh_{key_id}_{secret}"
    return MadeKey(text, key_id, digest_of(pepper, text))


def key_id_in(text: str) -> str | None:
    """The id in a key's text; ``None`` where it does not look like a key."""
    match = _KEY.fullmatch(text)
    return None if match is None else match[1]


def digest_of(pepper: bytes, text: str) -> bytes:
    """What is kept of the key ``text``, 32 bytes."""
    return Digester(pepper)(text)


class Digester:
    """`digest_of` for one pepper, which has been gone through once: a third less time a key."""

    __slots__ = ("_begun",)

    def __init__(self, pepper: bytes) -> None:
        self._begun = hmac.new(pepper, _OF_KEYS, "sha256")

    def __call__(self, text: str) -> bytes:
        """What is kept of the key ``text``, 32 bytes."""
        digest = self._begun.copy()
        digest.update(text.encode("ascii"))
        return digest.digest()


def is_ours(pepper: bytes, key_id: str) -> bool:
    """Whether an id is one that `make_key` makes with this pepper."""
    number, check = key_id[:_RANDOM_DIGITS], key_id[_RANDOM_DIGITS:]
    return hmac.compare_digest(check, _check_of(pepper, number))


def is_same(kept: bytes, offered: bytes) -> bool:
    """Whether two digests are equal, in a time that says nothing of where they differ."""
    return hmac.compare_digest(kept, offered)


def _check_of(pepper: bytes, number: str) -> str:
    whole = hmac.digest(pepper, _OF_IDS + number.encode("ascii"), "sha256")
    return whole[:ID_CHECK_BYTES].hex()
