"""The token of an identity for all instances: sealed, and gone when its life ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import trio

from bulkhead_trio.errors import StateUnavailable
from bulkhead_trio.state._commands import Command
from bulkhead_trio.state._keys import token_key
from bulkhead_trio.state.redis import SharedState

Seal: TypeAlias = Callable[[bytes], bytes]
Unseal: TypeAlias = Callable[[bytes], bytes | None]
"""Gives ``None`` for what was sealed with another secret, or for another identity."""

LONGEST_SEALED: Final = 64 * 1024
"""Bytes; nothing longer was ever put here."""


class RedisTokenCache:
    """Keeps one identity's token in Redis.

    While that is away it knows nothing, and says so without waiting; every call is decided within
    the state's own limit. How long a token still lives is Redis's clock's to say: instances have
    no other in common.

    Args:
        state: the Redis.
        name: of the identity.
        about: all that its tokens depend on; another scope or client is another key.
        seal: makes what may be seen by whoever can read Redis.
        unseal: opens it.
    """

    def __init__(
        self, state: SharedState, name: str, *, about: str, seal: Seal, unseal: Unseal
    ) -> None:
        self._state = state
        self._key = token_key(name, about)
        self._seal = seal
        self._unseal = unseal

    async def get(self) -> tuple[bytes, float] | None:
        """What was put last, and the seconds that are left of its life."""
        key = self._key
        try:
            # The life first: where a newer token is put between the two, it is that of the older.
            left_ms, sealed = await self._state.calls(
                (Command(b"PTTL", (key,), key), Command(b"GET", (key,), key))
            )
        except StateUnavailable:
            return None
        if not isinstance(sealed, bytes) or not isinstance(left_ms, int):
            return None
        if left_ms <= 0 or len(sealed) > LONGEST_SEALED:
            return None
        opened = self._unseal(sealed)
        return None if opened is None else (opened, left_ms / 1000)

    async def put(self, packed: bytes, *, seconds: float) -> None:
        """Leave a token for others, for as long as it lives; not while Redis is away."""
        left_ms = int(seconds * 1000)
        if left_ms <= 0:
            await trio.lowlevel.checkpoint()
            return
        key = self._key
        try:
            await self._state.call(Command(b"SET", (key, self._seal(packed), b"PX", left_ms), key))
        except StateUnavailable:
            return  # others will ask for themselves
