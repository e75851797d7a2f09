"""What one instance has found out about an API key, for all of them, for a few seconds."""

from __future__ import annotations

import trio

from bulkhead_trio.errors import StateUnavailable
from bulkhead_trio.policies._checks import check_duration
from bulkhead_trio.state._commands import Command
from bulkhead_trio.state.redis import SharedState

KEPT_SECONDS = 5.0
"""The contract's lifetime: so long a key may be known that has been revoked."""


class RedisKeyCache:
    """Keeps them in Redis. While that is away it knows nothing, and says so without waiting.

    Args:
        state: the Redis.
        kept_seconds: how long.
    """

    def __init__(self, state: SharedState, *, kept_seconds: float = KEPT_SECONDS) -> None:
        check_duration("kept_seconds", kept_seconds)
        self._state = state
        self._kept_ms = max(1, round(kept_seconds * 1000))

    async def get(self, digest_hex: str) -> bytes | None:
        """What was put for a digest; ``None`` where that is not known, or no longer."""
        key = _key(digest_hex)
        try:
            found = await self._state.call(Command(b"GET", (key,), key))
        except StateUnavailable:
            return None
        return found if isinstance(found, bytes) else None

    async def put(self, digest_hex: str, value: bytes) -> None:
        """Keep ``value`` for a digest; not while Redis is away."""
        key = _key(digest_hex)
        await self._try(Command(b"SET", (key, value, b"PX", self._kept_ms), key))

    async def forget(self, *digests: str) -> None:
        """Forget what was put; while Redis is away, it goes when its time is over."""
        keys = [_key(digest) for digest in digests]
        await self._try(*(Command(b"DEL", (key,), key) for key in keys))

    async def _try(self, *commands: Command) -> None:
        if not commands:
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._state.calls(commands)
        except StateUnavailable:
            return  # a cache that cannot be reached has nothing to say


def _key(digest_hex: str) -> bytes:
    return b"tenant:apikey:" + digest_hex.encode()
