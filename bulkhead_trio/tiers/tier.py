"""One tier: all that its requests pass through, in order, and nothing that another tier shares."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import attrs
import msgspec
import trio

from bulkhead_trio.database import Pool, PooledConnection, PoolStatistics
from bulkhead_trio.errors import (
    BulkheadTrioError,
    DatabaseTooSlow,
    DatabaseUnavailable,
    DeadlineExceeded,
    RateLimited,
)
from bulkhead_trio.observe.latency import LatencyQuantiles, LatencyWindow, quantiles
from bulkhead_trio.policies.breaker import BreakerStatistics, CircuitBreaker
from bulkhead_trio.policies.compartment import Compartment, CompartmentStatistics, Slot
from bulkhead_trio.policies.deadline import Deadline
from bulkhead_trio.policies.listeners import tell
from bulkhead_trio.policies.rate import Decision, RateLimiter, RateLimiterStatistics

C = TypeVar("C", bound=PooledConnection)
T = TypeVar("T")


class RequestEnded(msgspec.Struct, frozen=True, gc=False):
    """What a listener is told of every request.

    Attributes:
        tier: whose it was.
        outcome: ``ok``, ``cancelled``, or an error's code.
        seconds: from its arrival at the tier.
    """

    tier: str
    outcome: str
    seconds: float


OutcomeListener = Callable[[RequestEnded], None]


FAIR_SHARE = 0.9
"""Of a tier's timeout: a query that has run this long when the deadline passes was too slow. Less,
and it was begun too late (in the line, or for want of a connection) or ended too early (by a caller
in a hurry), which says nothing of the database. When a database hangs, the first few queries have
waited for nothing, and count."""


def says_nothing_of_the_database(error: BaseException) -> bool:
    """What a tier's breaker ignores: all but the database away, cut off, or too slow in its time.

    A wait in our own line, or a deadline that a caller made short, is neither a failure (a full
    tier or five impatient requests would close it to everybody) nor a sign that the database is
    well.
    """
    return not isinstance(error, DatabaseUnavailable | DatabaseTooSlow)


@attrs.frozen
class TierStatistics:
    """What a tier holds at one moment, and has counted since the server started.

    Attributes:
        outcomes: how many requests ended how: ``ok``, or an error's code.
        latency: of requests that were answered well.
        latency_counts: the same as counts by bucket of `bulkhead_trio.observe.latency`, from which
            the latency of several processes together can be read.
    """

    pool: PoolStatistics
    compartment: CompartmentStatistics
    breaker: BreakerStatistics
    rate_limit: RateLimiterStatistics | None
    outcomes: dict[str, int]
    latency: LatencyQuantiles
    latency_counts: Mapping[int, int]


class Tier(Generic[C]):
    """A rate limit, a compartment, a breaker and a connection pool in front of the database.

    Args:
        name: as callers and operators know it.
        timeout: the server's own limit for one request, in seconds.
        limiter: ``None`` for a tier without a rate limit.
        compartment: bounds what runs and what waits.
        breaker: should ignore what `says_nothing_of_the_database` says.
        pool: the tier's own connections.
        listeners: told of every request that ends; what it raises is logged.
    """

    def __init__(
        self,
        name: str,
        *,
        timeout: float,
        limiter: RateLimiter | None,
        compartment: Compartment,
        breaker: CircuitBreaker,
        pool: Pool[C],
        listeners: Iterable[OutcomeListener] = (),
    ) -> None:
        self.name = name
        self._timeout = timeout
        self._limiter = limiter
        self._compartment = compartment
        self._breaker = breaker
        self._pool = pool
        self._listeners = tuple(listeners)
        self._outcomes: Counter[str] = Counter()
        self._latency = LatencyWindow()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the tier's supervisor and connections until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._pool.run)
            await nursery.start(self._compartment.run)
            task_status.started()

    def take_quota(self) -> Decision | None:
        """Take one request from the tier's rate limit; ``None`` for a tier without one.

        A refusal is in the decision, for it carries what the caller must be told either way.
        """
        if self._limiter is None:
            return None
        decision = self._limiter.acquire_nowait()
        if not decision.allowed:
            self._ended(RateLimited.code, 0.0)
        return decision

    async def query(self, work: Callable[[C], Awaitable[T]], *, timeout: float | None = None) -> T:
        """Run ``work`` with one of the tier's connections, inside everything that protects it.

        Breaker open? → compartment → breaker's permit → connection → ``work``; one deadline holds
        for all of it.

        Args:
            work: gets a connection for as long as it runs.
            timeout: the caller's own limit in seconds, where it is shorter than the tier's.

        Raises:
            CircuitOpen: the tier's database has been failing; nothing was tried.
            BulkheadFull: the tier has no worker and no waiting place left.
            DeadlineUnreachable: the predicted wait is longer than the deadline allows.
            Shed: the tier's supervisor went down while this waited.
            DeadlineExceeded: the deadline passed, waiting or running.
            DatabaseUnavailable: the database is away, or went away.
        """
        started = trio.current_time()
        outcome = "internal"
        try:
            deadline = Deadline.starting_now(limit=self._timeout, asked=timeout)
            result = await self._protected(work, deadline)
            outcome = "ok"
        except BulkheadTrioError as error:
            outcome = error.code
            raise
        except BaseException as error:
            outcome = "cancelled" if _is_cancellation(error) else outcome
            raise
        finally:
            self._ended(outcome, trio.current_time() - started)
        return result

    def passage(self) -> Passage:
        """What counts one request of this tier that does not go to its database; a ``with`` block.

        It has the tier's compartment in common with those that do: `Passage.admit`.
        """
        return Passage(self)

    async def _protected(self, work: Callable[[C], Awaitable[T]], deadline: Deadline) -> T:
        self._breaker.check()
        with await self.admit(deadline), self._breaker.permit():
            return await self._ask(work, deadline)

    async def _ask(self, work: Callable[[C], Awaitable[T]], deadline: Deadline) -> T:
        began = math.inf
        try:
            with deadline.enforced():
                async with self._pool.acquire() as connection:
                    began = trio.current_time()
                    result = await work(connection)
            deadline.check()  # an answer that comes too late is none
        except DeadlineExceeded as error:
            if trio.current_time() - began >= FAIR_SHARE * self._timeout:
                raise DatabaseTooSlow(error.message) from error
            raise
        return result

    def admit_nowait(self) -> Slot:
        """A place in the tier's compartment, where one is free and nobody waits for it.

        Raises:
            trio.WouldBlock: `admit` has to be waited for.
        """
        return self._compartment.acquire_nowait()

    async def admit(self, deadline: Deadline, *, key: Hashable = None) -> Slot:
        """Wait for a place in the tier's compartment: ``with await tier.admit(deadline):``.

        Args:
            deadline: of the request.
            key: whose it is, for a line that is shared fairly; otherwise the request's tenant.

        Raises:
            BulkheadFull: the tier has no worker and no waiting place left.
            DeadlineUnreachable: the predicted wait is longer than the deadline allows.
            Shed: the tier's supervisor went down while this waited, or its place went to somebody
                who has fewer.
            DeadlineExceeded: the deadline passed.
        """
        try:
            return self._compartment.acquire_nowait()
        except trio.WouldBlock:
            pass
        # A scope of its own: a deadline that passes while waiting is no failure of the database,
        # so it has to end before the breaker's permit begins.
        with deadline.enforced():
            return await self._compartment.acquire(key=key)

    def _ended(self, outcome: str, seconds: float) -> None:
        self._outcomes[outcome] += 1
        if outcome == "ok":
            self._latency.observe(seconds)
        tell(self._listeners, RequestEnded(self.name, outcome, seconds))

    def statistics(self) -> TierStatistics:
        """What the tier holds now."""
        counts = self._latency.counts()
        return TierStatistics(
            pool=self._pool.statistics(),
            compartment=self._compartment.statistics(),
            breaker=self._breaker.statistics(),
            rate_limit=None if self._limiter is None else self._limiter.statistics(),
            outcomes=dict(self._outcomes),
            latency=quantiles(counts),
            latency_counts=counts,
        )


class Passage:
    """One request of a tier, from its arrival to its end: how it ended, and how long it took.

    Args:
        tier: whose it is.
    """

    __slots__ = ("_began", "_has_ended", "_tier")

    def __init__(self, tier: Tier[Any]) -> None:
        self._tier = tier
        self._began = 0.0
        self._has_ended = False

    def end(self, outcome: str) -> None:
        """It has ended, with ``ok`` or an error's code; later ends say nothing any more."""
        if not self._has_ended:
            self._has_ended = True
            self._tier._ended(outcome, trio.current_time() - self._began)

    def __enter__(self) -> Self:
        self._began = trio.current_time()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None:
            outcome = "ok"
        elif _is_cancellation(exc):
            outcome = "cancelled"
        else:
            outcome = getattr(exc, "code", "internal")  # what has one is no mistake of ours
        self.end(outcome)


def _is_cancellation(error: BaseException) -> bool:
    """Whether it is nothing but `trio.Cancelled`, alone or in a group."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1] is None
    return isinstance(error, trio.Cancelled)
