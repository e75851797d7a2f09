"""All shared breakers of one instance: what they have to say goes to Redis together."""

from __future__ import annotations

import itertools
from typing import TypeAlias
from weakref import WeakValueDictionary

import attrs
import trio

from bulkhead_trio.errors import StateUnavailable
from bulkhead_trio.state._breaker_rules import BreakerRules, Seen, limits_from, seen_from, seen_in
from bulkhead_trio.state._commands import Script
from bulkhead_trio.state._keys import instance_word, upstream_key
from bulkhead_trio.state.breaker import SharedBreaker
from bulkhead_trio.state.redis import SharedState

BREAKER = Script("breaker")

CHANNEL = "bulkhead:breakers"

PACE_SECONDS = 0.01
"""Between two reports: what happens meanwhile goes together."""

LOOK_SECONDS = 0.25
"""How often successes are told that are urgent to nobody, those of windows of rates."""

LOOKS_PER_CHECK = 4
"""Of those, how many until leases are renewed and breakers that are not closed looked after."""

UpstreamKey: TypeAlias = tuple[str, str, str]
"""Whose upstream it is: the tenant's id, the route's id, and its URL."""


@attrs.frozen(kw_only=True)
class SharedBreakersStatistics:
    """What there is at one moment, and what has been counted.

    Attributes:
        breakers: that are in use.
        not_closed: of those.
        unsent: that have something to tell.
        reports: round trips to Redis, each of any number of breakers.
        failed: of those, how many got no answer.
        asked: times that a probe was asked for.
        dropped: outcomes that were never told, there being too many.
    """

    breakers: int
    not_closed: int
    unsent: int
    reports: int
    failed: int
    asked: int
    dropped: int


class SharedBreakers:
    """Makes shared breakers, tells Redis what they count, and them what others have told it.

    Args:
        state: the Redis.
        instance_id: of this instance; a new one where none is given.

    Raises:
        ValueError: ``instance_id`` is no single word.
    """

    def __init__(self, state: SharedState, *, instance_id: str | None = None) -> None:
        self._state = state
        self._instance_id = instance_word(instance_id)
        self._numbers = itertools.count(1)
        self._breakers: WeakValueDictionary[bytes, SharedBreaker] = WeakValueDictionary()
        self._urgent: dict[SharedBreaker, None] = {}
        self._later: dict[SharedBreaker, None] = {}
        self._bell = trio.Event()
        self._reports = self._failed = self._asked = 0
        state.subscribe(CHANNEL, self._published)
        state.on_return(self._returned)

    @property
    def is_up(self) -> bool:
        """Whether Redis is there."""
        return self._state.is_up

    def breaker(self, key: UpstreamKey, name: str, rules: BreakerRules) -> SharedBreaker:
        """The breaker of an upstream; until Redis has said something else, it is closed.

        Those of one key are one while their rules are the same and somebody holds it.

        Raises:
            ValueError: the rules make no sense; the parameter is named.
        """
        limits, redis_key = limits_from(rules), upstream_key("cb", key)
        found = self._breakers.get(redis_key)
        if found is not None and found.limits == limits:
            return found
        breaker = SharedBreaker(redis_key, name, limits, self, self._new_token)
        self._breakers[redis_key] = breaker
        if self.is_up:
            self.changed(breaker, is_urgent=True)
        return breaker

    def _new_token(self) -> bytes:
        return b"%s-%d" % (self._instance_id, next(self._numbers))

    # --- telling ---------------------------------------------------------------------------------

    def changed(self, breaker: SharedBreaker, *, is_urgent: bool) -> None:
        """It has something to tell: at once, or by and by."""
        if is_urgent:
            self._urgent[breaker] = None
            self._bell.set()
        else:
            self._later[breaker] = None

    async def ask(self, breaker: SharedBreaker, token: bytes) -> Seen:
        """Tell what a breaker has to tell, and ask for its probe.

        Raises:
            StateUnavailable: Redis is away.
        """
        self._asked += 1
        return (await self._tell([breaker], token))[0]

    async def _tell(self, breakers: list[SharedBreaker], token: bytes = b"") -> list[Seen]:
        keys = [each.key for each in breakers]
        words = [each.words(token) for each in breakers]
        try:
            answers = await self._state.run_on_keys(BREAKER, keys, words)
        except BaseException:
            for each in breakers:
                each.not_heard()
            raise
        seen = [seen_from(answer) for answer in answers]
        for breaker, what in zip(breakers, seen, strict=True):
            breaker.heard(what)
        return seen

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_after)
            task_status.started()
            while True:
                await self._bell.wait()
                self._bell = trio.Event()
                await self._tell_urgent()
                await trio.sleep(PACE_SECONDS)

    async def _tell_urgent(self) -> None:
        urgent, self._urgent = list(self._urgent), {}
        self._reports += 1
        try:
            await self._tell(urgent)
        except StateUnavailable:
            self._failed += 1
            for breaker in urgent:
                breaker.went_away()

    async def _look_after(self) -> None:
        for number in itertools.count(1):
            await trio.sleep(LOOK_SECONDS)
            self._look(is_check=number % LOOKS_PER_CHECK == 0 and self.is_up)

    def _look(self, *, is_check: bool) -> None:
        for breaker in self._later:
            self.changed(breaker, is_urgent=True)
        self._later.clear()
        if is_check:
            for breaker in list(self._breakers.values()):
                if breaker.needs_looking_after:
                    self.changed(breaker, is_urgent=True)

    # --- being told ------------------------------------------------------------------------------

    def _published(self, message: bytes) -> None:
        key, seen = seen_in(message)
        breaker = self._breakers.get(key)
        if breaker is not None:
            breaker.published(seen)

    def _returned(self) -> None:
        """Redis is there again: nothing that was published meanwhile has come."""
        for breaker in list(self._breakers.values()):
            breaker.came_back()
            self.changed(breaker, is_urgent=True)

    def statistics(self) -> SharedBreakersStatistics:
        """What there is now."""
        breakers = list(self._breakers.values())
        return SharedBreakersStatistics(
            breakers=len(breakers),
            not_closed=sum(not each.is_closed for each in breakers),
            unsent=len(self._urgent) + len(self._later),
            reports=self._reports,
            failed=self._failed,
            asked=self._asked,
            dropped=sum(each.report.dropped for each in breakers),
        )
