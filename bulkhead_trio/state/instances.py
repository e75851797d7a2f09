"""How many instances there are: each says every few seconds that it is still there."""

from __future__ import annotations

from contextlib import suppress

import trio

from bulkhead_trio.errors import StateUnavailable
from bulkhead_trio.policies._checks import check_duration, check_whole
from bulkhead_trio.state._commands import Script
from bulkhead_trio.state._keys import instance_word
from bulkhead_trio.state.redis import SharedState

INSTANCES = Script("instances")

KEY = b"bulkhead:instances"

CHANNEL = "bulkhead:instances"

HEARTBEAT_SECONDS = 2.0

KEPT_HEARTBEATS = 3
"""Heartbeats that may be missed before an instance no longer counts."""


class Instances:
    """Counts the instances that share a Redis, this one included.

    Args:
        state: the Redis.
        instance_id: of this instance; a new one where none is given.
        heartbeat_seconds: how often it says that it is there; it counts for three times as long.
        at_least: how many there are in any case: a server of several processes is as many.

    Attributes:
        instance_id: of this instance.
        count: of all, as last known: ``at_least`` before Redis was ever asked, and while it is away
            what it was before. More are believed at once, fewer when nobody else has said that he
            is there for as long as an instance counts: a Redis that has come back empty knows at
            first only whoever asks first.

    Raises:
        ValueError: ``instance_id`` is no single word, or a number makes no sense.
    """

    def __init__(
        self,
        state: SharedState,
        *,
        instance_id: str | None = None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        at_least: int = 1,
    ) -> None:
        check_duration("heartbeat_seconds", heartbeat_seconds)
        check_whole("at_least", at_least, minimum=1)
        self.instance_id = instance_word(instance_id)
        self.count = self._at_least = at_least
        self._state = state
        self._seconds = heartbeat_seconds
        self._fewer: tuple[float, int] | None = None  # since when, and how many were heard of since
        self._is_back = trio.Event()
        state.subscribe(CHANNEL, self._told)
        state.on_return(self._came_back)

    def _told(self, message: bytes) -> None:
        self._hear_of(int(message))

    def _hear_of(self, count: int) -> None:
        count = max(self._at_least, count)
        if count >= self.count:
            self.count, self._fewer = count, None
            return
        now = trio.current_time()
        since, most = self._fewer or (now, count)
        self._fewer = (since, max(most, count))
        if now - since >= self._seconds * KEPT_HEARTBEATS:
            (_, self.count), self._fewer = self._fewer, None

    def _came_back(self) -> None:
        self._is_back.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Say so until cancelled, and then that it goes; has started after the first time."""
        is_first = True
        try:
            while True:
                await self._beat(self._seconds * KEPT_HEARTBEATS)
                if is_first:
                    is_first = False
                    task_status.started()
                with trio.move_on_after(self._seconds):
                    await self._is_back.wait()
                self._is_back = trio.Event()
        finally:
            with trio.move_on_after(self._state.call_seconds, shield=True):
                await self._beat(0.0)

    async def _beat(self, kept_seconds: float) -> None:
        command = INSTANCES.on([KEY], [self.instance_id, round(kept_seconds * 1000)])
        with suppress(StateUnavailable):  # the next heartbeat comes anyway
            self._hear_of(int(await self._state.call(command)))
