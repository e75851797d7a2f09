"""What several instances remember of keys together, so that one query serves all of them.

It saves queries and nothing else. Whatever is wrong with it, it counts as empty; and what it has is
believed only while it is younger than a lookup of one's own would be, and nothing of it has been
told as changed.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from typing import Final, Protocol

import trio

from bulkhead_trio.database.tenant_records import FoundKey
from bulkhead_trio.tenancy._key_rules import is_same
from bulkhead_trio.tenancy._lookup_rules import KEPT_SECONDS
from bulkhead_trio.tenancy._shared_rules import pack, unpack

SHARED_SECONDS: Final = 0.05
"""The longest wait for the shared cache, which is there to save a query of a millisecond."""

MOST_UNSENT: Final = 100
"""Lookups that wait to be shared; the oldest make room, and are looked up again by others."""

MOST_CHANGES: Final = 1000
"""Changes that are remembered one by one; with more, nothing older is believed."""

STRAGGLING_SECONDS: Final = 2.0
"""How long after a change somebody may still leave what was read before it."""

_log = logging.getLogger("bulkhead_trio.tenancy")


class SharedKeyCache(Protocol):
    """Remembers bytes for five seconds; it may fail as it likes."""

    async def get(self, digest_hex: str) -> bytes | None:
        """What was put for a key's digest, if it is still there."""

    async def put(self, digest_hex: str, value: bytes) -> None:
        """Remember ``value`` for five seconds."""


class SharedLookups:
    """A directory's part in a shared cache.

    The instances have no clock in common, but they ask one PostgreSQL: what is left there says when
    it was read by PostgreSQL's clock, and whoever has asked that lately knows how long ago it was.

    Args:
        cache: what is shared.
    """

    def __init__(self, cache: SharedKeyCache) -> None:
        self._cache = cache
        self._clock_offset: float | None = None
        self._unsent: deque[FoundKey] = deque(maxlen=MOST_UNSENT)
        self._wake = trio.Event()
        self._doubted: OrderedDict[str, float] = OrderedDict()
        self._all_doubted_until = 0.0

    async def run(self) -> None:
        """Leave for others what was looked up, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._unsent:
                found = self._unsent.popleft()
                with trio.move_on_after(SHARED_SECONDS):
                    try:
                        await self._cache.put(found.key.digest.hex(), pack(found))
                    except Exception as error:  # noqa: BLE001  whatever it is, nobody waits for it
                        _log.debug("the shared cache of keys failed: %r", error)

    async def get(self, key_id: str, digest: bytes) -> tuple[FoundKey, float] | None:
        """What another instance has left of the key with this digest, and since when it is known.

        The moment is one of Trio's clock, and never later than the true one.
        """
        if self._clock_offset is None:
            return None
        value = None
        with trio.move_on_after(SHARED_SECONDS):
            try:
                value = await self._cache.get(digest.hex())
            except Exception as error:  # noqa: BLE001  whatever it is, the database knows
                _log.debug("the shared cache of keys failed: %r", error)
        found = None if value is None else unpack(value)
        if found is None or found.key.id != key_id or not is_same(found.key.digest, digest):
            return None
        now = trio.current_time()
        read_at = min(found.read_at - self._clock_offset, now)
        if now >= read_at + KEPT_SECONDS or self._is_doubted(found, now):
            return None
        return found, read_at

    def leave(self, found: FoundKey, *, asked_at: float) -> None:
        """Leave for others what the database, asked at ``asked_at``, has said."""
        # The question is older than the answer: by this offset nothing looks younger than it is.
        self._clock_offset = found.read_at - asked_at
        self._unsent.append(found)
        self._wake.set()

    def doubt(self, id_: str) -> None:
        """A key or a tenant has changed: what was read before may still be left for a while."""
        now = trio.current_time()
        self._doubted[id_] = now + KEPT_SECONDS + STRAGGLING_SECONDS
        self._doubted.move_to_end(id_)
        oldest = next(iter(self._doubted.values()))
        if oldest <= now:
            self._doubted.popitem(last=False)
        elif len(self._doubted) > MOST_CHANGES:
            self.doubt_everything()
            self._doubted.clear()

    def doubt_everything(self) -> None:
        """Anything may have changed."""
        now = trio.current_time()
        self._all_doubted_until = now + KEPT_SECONDS + STRAGGLING_SECONDS

    def _is_doubted(self, found: FoundKey, now: float) -> bool:
        until = max(
            self._all_doubted_until,
            self._doubted.get(found.key.id, 0.0),
            self._doubted.get(found.tenant.id, 0.0),
        )
        return now < until
