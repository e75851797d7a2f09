"""Active health checks: who checks which upstream when, and who hears what came of it."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import trio

from bulkhead_trio.errors import BulkheadTrioError, Rejected
from bulkhead_trio.gateway.group import UpstreamGroup
from bulkhead_trio.gateway.group_settings import CheckSettings, UpstreamKey
from bulkhead_trio.gateway.upstream import Upstream
from bulkhead_trio.policies._checks import check_whole

_log = logging.getLogger("bulkhead_trio.gateway.health")

JITTER = 0.1
"""Of an interval, by how much each one is longer or shorter: instances and upstreams that started
together drift apart."""

FIRST_CHECK_SECONDS = 1.0
"""A new upstream is checked for the first time at a random moment within so long, or within its
interval where that is shorter."""

LEASE_INTERVALS = 2.0
"""An instance that checks an upstream is due again before its turn is over, and when it is gone,
another one follows within two intervals or so."""

Check: TypeAlias = Callable[[str, float], Awaitable[bool | None]]
"""Checks a URL within so many seconds: whether the upstream is well, ``None`` where that was not to
be found out; raises what a request raises where it failed."""


class HealthBoard(Protocol):
    """Where instances share who checks an upstream, and what came of it."""

    async def may_check(self, key: UpstreamKey, seconds: float) -> bool:
        """Whether it is this instance's turn to check an upstream; if so, for that long."""

    def report(self, key: UpstreamKey, *, healthy: bool) -> None:
        """Tell everybody what checks have found; said again after each check."""

    def subscribe(self, listener: Callable[[UpstreamKey, bool], None]) -> Callable[[], None]:
        """Be told what others have found; calling what this returns ends it."""


class LocalHealthBoard:
    """The board of one instance: it is always its turn, and whoever listens hears at once."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[UpstreamKey, bool], None]] = []

    async def may_check(self, key: UpstreamKey, seconds: float) -> bool:  # noqa: ARG002
        """Yes."""
        await trio.lowlevel.checkpoint()
        return True

    def report(self, key: UpstreamKey, *, healthy: bool) -> None:
        """Tell everybody who listens, the reporter too."""
        for listener in tuple(self._listeners):
            listener(key, healthy)

    def subscribe(self, listener: Callable[[UpstreamKey, bool], None]) -> Callable[[], None]:
        """Be told of every report; calling what this returns ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)


class _Watch:
    """One upstream that is checked from time to time."""

    __slots__ = ("group", "is_live", "scope", "settings", "upstream")

    def __init__(self, upstream: Upstream, group: UpstreamGroup, settings: CheckSettings) -> None:
        self.upstream = upstream
        self.group = group
        self.settings = settings
        self.is_live = True
        self.scope: trio.CancelScope | None = None  # of the check under way


class HealthChecker:
    """Checks upstreams at their intervals, so many at once, from one task and what it starts.

    Args:
        check: checks one.
        board: says whose turn it is, and hears the verdicts.
        random: gives numbers from 0 up to but not including 1, for the jitter.
        most_at_once: checks that run at the same time, 1 or more; the rest wait, the longest due
            first.

    Raises:
        ValueError: ``most_at_once`` is below 1.
    """

    def __init__(
        self,
        check: Check,
        board: HealthBoard,
        *,
        random: Callable[[], float],
        most_at_once: int = 64,
    ) -> None:
        check_whole("most_at_once", most_at_once, minimum=1)
        self._check = check
        self._board = board
        self._random = random
        self._places = trio.Semaphore(most_at_once)
        self._watches: dict[Upstream, _Watch] = {}
        self._plan: list[tuple[float, int, _Watch]] = []
        self._numbers = itertools.count()
        self._changes = trio.lowlevel.ParkingLot()
        self._is_running = False

    def __len__(self) -> int:
        """How many upstreams it checks."""
        return len(self._watches)

    # --- who is checked --------------------------------------------------------------------------

    def watch(self, upstream: Upstream, group: UpstreamGroup) -> None:
        """Check ``upstream`` from now on, as its group says; told again, only the group changes.

        An upstream whose group wants no checks is forgotten.
        """
        settings = group.settings.checks
        if settings is None:
            self.forget(upstream)
            return
        watch = self._watches.get(upstream)
        if watch is not None:
            watch.group = group
            return
        watch = self._watches[upstream] = _Watch(upstream, group, settings)
        wait = self._random() * min(FIRST_CHECK_SECONDS, settings.interval)
        self._put(watch, trio.current_time() + wait)

    def forget(self, upstream: Upstream) -> None:
        """Check it no more; a check that is under way is cancelled."""
        watch = self._watches.pop(upstream, None)
        if watch is None:
            return
        watch.is_live = False
        if watch.scope is not None:
            watch.scope.cancel()
        if len(self._plan) > 2 * len(self._watches) + 64:
            self._plan = [each for each in self._plan if each[2].is_live]
            heapq.heapify(self._plan)

    def _put(self, watch: _Watch, due: float) -> None:
        heapq.heappush(self._plan, (due, next(self._numbers), watch))
        self._changes.unpark()

    # --- checking --------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Check until cancelled.

        Raises:
            RuntimeError: it is running already.
        """
        if self._is_running:
            raise RuntimeError("health is being checked already")
        self._is_running = True
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    await self._places.acquire()
                    try:
                        watch = await self._next()
                    except BaseException:
                        self._places.release()
                        raise
                    nursery.start_soon(self._check_one, watch)
        finally:
            self._is_running = False

    async def _next(self) -> _Watch:
        """Wait for the next one to be due, and take it out of the plan."""
        while True:
            while self._plan and not self._plan[0][2].is_live:
                heapq.heappop(self._plan)
            due = self._plan[0][0] if self._plan else math.inf
            if due <= trio.current_time():
                return heapq.heappop(self._plan)[2]
            with trio.CancelScope(deadline=due):
                await self._changes.park()

    async def _check_one(self, watch: _Watch) -> None:
        began = trio.current_time()
        try:
            with trio.CancelScope() as watch.scope:
                passed = await self._ask(watch)
                if passed is not None:
                    healthy = watch.group.checked(watch.upstream, passed=passed)
                    self._board.report(watch.upstream.key, healthy=healthy)
        finally:
            watch.scope = None
            self._places.release()
            if watch.is_live:
                stretch = 1 + JITTER * (2 * self._random() - 1)
                self._put(watch, began + watch.settings.interval * stretch)

    async def _ask(self, watch: _Watch) -> bool | None:
        """What a check says; ``None`` where it says nothing, or was not ours to make."""
        settings, key = watch.settings, watch.upstream.key
        lease = LEASE_INTERVALS * settings.interval + settings.timeout
        try:
            if not await self._board.may_check(key, lease):
                return None
            with trio.move_on_after(settings.timeout):
                return await self._check(settings.url(watch.upstream.url), settings.timeout)
        except Rejected:
            return None  # it did not even get there
        except (BulkheadTrioError, OSError):
            return False
        except Exception:  # noqa: BLE001  one check's trouble must not end all others
            _log.exception("a health check of route %s went wrong in itself", key[1])
            return None
        return False
