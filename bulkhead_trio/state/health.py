"""Health of upstreams for all instances: one of them checks each, and the others are told.

Whose turn it is, is a lease in Redis: whoever checks takes it for so long, and again before it is
over; once nobody does, it is the next one's who asks. While Redis is away, everybody checks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs
import msgspec
import trio

from bulkhead_trio.errors import StateUnavailable
from bulkhead_trio.policies._checks import check_duration
from bulkhead_trio.policies.listeners import tell
from bulkhead_trio.state._commands import Script
from bulkhead_trio.state._keys import instance_word, upstream_key
from bulkhead_trio.state.redis import SharedState

HEALTH = Script("health")

CHANNEL = "bulkhead:health"

TAKE, REPORT, LEAVE = b"take", b"report", b"leave"

NO_TURN = (0.0, 0.0)

UpstreamKey: TypeAlias = tuple[str, str, str]
"""Whose upstream it is: the tenant's id, the route's id, and its URL."""

_decoder = msgspec.json.Decoder(UpstreamKey)


@attrs.frozen(kw_only=True)
class SharedHealthStatistics:
    """What there is at one moment, and what has been counted.

    Attributes:
        turns: upstreams that this instance checks for all.
        unsent: findings that are on their way.
        taken: times that a turn was ours, the same one again included.
        left_to_others: times that it was somebody else's.
        without_redis: times that everybody checked, Redis being away.
        heard: findings of others.
    """

    turns: int
    unsent: int
    taken: int
    left_to_others: int
    without_redis: int
    heard: int


@attrs.define
class _Counts:
    taken: int = 0
    left_to_others: int = 0
    without_redis: int = 0
    heard: int = 0


class SharedHealthBoard:
    """Where instances share who checks an upstream, and what came of it.

    Args:
        state: the Redis.
        instance_id: of this instance; a new one where none is given.

    Raises:
        ValueError: ``instance_id`` is no single word.
    """

    def __init__(self, state: SharedState, *, instance_id: str | None = None) -> None:
        self._state = state
        self._instance_id = instance_word(instance_id)
        self._listeners: list[Callable[[tuple[UpstreamKey, bool]], None]] = []
        # For how long and until when; the one that was taken longest ago first.
        self._turns: dict[UpstreamKey, tuple[float, float]] = {}
        self._findings: dict[UpstreamKey, bool] = {}
        self._bell = trio.Event()
        self._counts = _Counts()
        state.subscribe(CHANNEL, self._published)

    async def may_check(self, key: UpstreamKey, seconds: float) -> bool:
        """Whether it is this instance's turn to check an upstream; if so, for that long.

        Where it is not, what was found last is told to those who listen, should they have missed
        it. While Redis is away, it is everybody's turn.

        Raises:
            ValueError: ``seconds`` makes no sense.
        """
        check_duration("seconds", seconds)
        try:
            ((is_ours, known),) = await self._tell([(key, TAKE, seconds, b"")])
        except StateUnavailable:
            self._counts.without_redis += 1
            return True
        self._turns.pop(key, None)
        if is_ours:
            self._counts.taken += 1
            self._take(key, seconds)
            return True
        self._counts.left_to_others += 1
        if known:
            tell(self._listeners, (key, known == b"1"))
        return False

    def _take(self, key: UpstreamKey, seconds: float) -> None:
        now = trio.current_time()
        self._turns[key] = (seconds, now + seconds)
        oldest = next(iter(self._turns))
        if self._turns[oldest][1] <= now:
            del self._turns[oldest]  # of an upstream that nobody checks here any more

    def report(self, key: UpstreamKey, *, healthy: bool) -> None:
        """Tell everybody what checks have found: this instance now, the others in the background.

        A finding that is on its way is replaced by the next one of its upstream.
        """
        self._findings[key] = healthy
        self._bell.set()
        tell(self._listeners, (key, healthy))

    def subscribe(self, listener: Callable[[UpstreamKey, bool], None]) -> Callable[[], None]:
        """Be told of every finding, ours and others'; calling what this returns ends it."""

        def told(finding: tuple[UpstreamKey, bool]) -> None:
            listener(*finding)

        self._listeners.append(told)
        return lambda: self._listeners.remove(told)

    def _published(self, message: bytes) -> None:
        who, finding, upstream = message.split(b" ", 2)
        if who != self._instance_id:
            self._counts.heard += 1
            tell(self._listeners, (_decoder.decode(upstream), finding == b"1"))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell others, until cancelled; then what is our turn is left to them at once."""
        task_status.started()
        try:
            while True:
                await self._bell.wait()
                self._bell = trio.Event()
                findings, self._findings = self._findings, {}
                await self._try_to_tell(
                    [
                        (key, REPORT, self._turns.get(key, NO_TURN)[0], b"1" if healthy else b"0")
                        for key, healthy in findings.items()
                    ]
                )
        finally:
            with trio.move_on_after(self._state.call_seconds, shield=True):
                await self._try_to_tell([(key, LEAVE, 0.0, b"") for key in self._turns])
            self._turns.clear()

    async def _try_to_tell(self, words: list[tuple[UpstreamKey, bytes, float, bytes]]) -> None:
        if not words:
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._tell(words)
        except StateUnavailable:
            return  # each instance checks for itself meanwhile, and the next check says it again

    async def _tell(
        self, words: list[tuple[UpstreamKey, bytes, float, bytes]]
    ) -> list[tuple[int, bytes]]:
        keys = [upstream_key("health", key) for key, *_ in words]
        arguments = [
            (self._instance_id, wants, round(seconds * 1000), finding, msgspec.json.encode(key))
            for key, wants, seconds, finding in words
        ]
        return await self._state.run_on_keys(HEALTH, keys, arguments)

    def statistics(self) -> SharedHealthStatistics:
        """What there is now."""
        counts = self._counts
        return SharedHealthStatistics(
            turns=len(self._turns),
            unsent=len(self._findings),
            taken=counts.taken,
            left_to_others=counts.left_to_others,
            without_redis=counts.without_redis,
            heard=counts.heard,
        )
