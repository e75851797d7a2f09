"""Making API keys."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import attrs

from bulkhead_trio.database.tenants import NewKey
from bulkhead_trio.tenancy._key_rules import RANDOM_BYTES, make_key


@attrs.frozen
class IssuedKey:
    """A new key: for its owner, and for the database.

    Attributes:
        text: what its owner sends as ``X-API-Key``; it is shown once, and kept nowhere.
        record: what `bulkhead_trio.database.tenants.TenantStore` keeps of it.
    """

    text: str = attrs.field(repr=False)
    record: NewKey


class KeyMaker:
    """Makes keys.

    Args:
        pepper: the server's secret; the one that `TenantDirectory` has.
        randomness: gives so many bytes that nobody can predict.
    """

    def __init__(
        self, pepper: bytes, *, randomness: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._pepper = pepper
        self._randomness = randomness

    def make(self) -> IssuedKey:
        """A key that there has not been before."""
        made = make_key(self._pepper, self._randomness(RANDOM_BYTES))
        return IssuedKey(made.text, NewKey(made.id, made.digest))
