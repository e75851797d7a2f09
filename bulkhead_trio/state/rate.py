"""Rate limits of tenants: sliding windows, of this instance alone or exact over all of them.

What concurrent requests ask of Redis goes there together: whoever asks while a round trip is under
way goes with the next one, all requests of a tenant as one number, and all tenants in one script. A
request has no task, timer or connection of its own; the one round trip that decides it has a limit.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

import attrs
import outcome
import trio

from bulkhead_trio.errors import StateUnavailable
from bulkhead_trio.policies._checks import check_duration, check_whole
from bulkhead_trio.policies.rate import Decision
from bulkhead_trio.policies.rate._rest_rules import RestOrder
from bulkhead_trio.state._commands import Script
from bulkhead_trio.state._keys import rate_key
from bulkhead_trio.state._log_rules import WindowLog
from bulkhead_trio.state._part_rules import part_of
from bulkhead_trio.state.redis import SharedState

RATE = Script("rate")

MICROSECONDS = 1_000_000

LONGEST_WINDOW = 100 * 365 * 86_400 * MICROSECONDS
"""A century: beyond it, a moment is no whole number that Lua can tell from the next."""

LOOKED_AT_PER_REQUEST = 2
"""Tenants that are due and looked at whenever one comes: more go than come."""

FORGOTTEN_WITHIN_SECONDS = 60.0
"""Sets how finely it is remembered when a tenant can be forgotten."""


class OnStateError(enum.Enum):
    """What a shared limit does while Redis is away."""

    LOCAL = "local"
    ALLOW = "allow"
    DENY = "deny"


class TenantLimits(Protocol):
    """Decides whether a tenant's request may pass."""

    def acquire(
        self, tenant_id: str, limit: int, window_seconds: float
    ) -> Decision | Awaitable[Decision]:
        """Take one unit of a tenant's quota, if there is one; a refusal is no exception.

        Raises:
            StateUnavailable: Redis is away, and requests are refused then; from here or from the
                awaitable.
            ValueError: ``limit`` or ``window_seconds`` makes no sense.
        """


@attrs.frozen(kw_only=True)
class TenantLimitsStatistics:
    """What has been decided, and how.

    Attributes:
        allowed: requests that might pass.
        refused: requests that might not.
        tenants: whose use is remembered here.
        without_redis: of all, decided here because Redis was away.
        denied: requests that were refused for that reason alone.
        waiting: requests whose answer is not there yet.
        round_trips: to Redis.
        largest: most requests that went in one.
    """

    allowed: int
    refused: int
    tenants: int
    without_redis: int = 0
    denied: int = 0
    waiting: int = 0
    round_trips: int = 0
    largest: int = 0


class LocalTenantLimits:
    """Exact sliding windows in this process; a tenant is forgotten once nothing of it counts.

    Args:
        worker: the number of this process, from 0.
        workers: among how many processes limits are divided: each has its part of every limit.

    Raises:
        ValueError: there is no such worker.
    """

    def __init__(self, *, worker: int = 0, workers: int = 1) -> None:
        check_whole("workers", workers, minimum=1)
        check_whole("worker", worker, minimum=0)
        if worker >= workers:
            raise ValueError(f"worker must be below {workers}, not {worker}")
        self._worker, self._workers = worker, workers
        self._logs: dict[str, WindowLog] = {}
        self._order = RestOrder[str](FORGOTTEN_WITHIN_SECONDS)
        self._allowed = self._refused = 0

    def acquire(self, tenant_id: str, limit: int, window_seconds: float) -> Decision:
        """Take one unit of a tenant's quota, if there is one.

        Raises:
            ValueError: ``limit`` or ``window_seconds`` makes no sense.
        """
        if type(limit) is not int or limit < 1:
            check_whole("limit", limit, minimum=1)
        if not 0.001 <= window_seconds <= 1e9:
            check_duration("window_seconds", window_seconds)
        if self._workers != 1:
            limit = part_of(limit, self._worker, self._workers)
        now = trio.current_time()
        log = self._logs.get(tenant_id)
        if log is None:
            self._forget_some(now)
            log = self._logs[tenant_id] = WindowLog()
            self._order.add(tenant_id, now + window_seconds)
        decision = log.take(now, limit, window_seconds)
        if decision.allowed:
            self._allowed += 1
        else:
            self._refused += 1
        return decision

    def _forget_some(self, now: float) -> None:
        for tenant_id in self._order.take_due(now, LOOKED_AT_PER_REQUEST):
            rests_at = self._logs[tenant_id].rests_at
            if rests_at <= now:
                del self._logs[tenant_id]
            else:
                self._order.add(tenant_id, rests_at)

    def statistics(self) -> TenantLimitsStatistics:
        """What has been decided."""
        return TenantLimitsStatistics(
            allowed=self._allowed, refused=self._refused, tenants=len(self._logs)
        )


_Quota: TypeAlias = tuple[str, int, float]
"""A tenant's id, its limit, and its window in seconds."""


class _Asker:
    """A request that waits for its decision."""

    __slots__ = ("is_gone", "outcome", "task")

    def __init__(self) -> None:
        self.task: trio.lowlevel.Task | None = None
        self.outcome: outcome.Outcome[Decision] | None = None
        self.is_gone = False

    def settle(self, result: outcome.Outcome[Decision]) -> None:
        self.outcome = result
        if self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task)

    async def wait(self) -> Decision:
        """The decision, which comes by itself; whoever is cancelled before is not asked for."""
        if self.outcome is None:
            self.task = trio.lowlevel.current_task()

            def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
                self.task = None
                self.is_gone = True
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        else:
            await trio.lowlevel.checkpoint()
        assert self.outcome is not None  # noqa: S101  whoever woke it has set it
        return self.outcome.unwrap()


@attrs.define
class _Counts:
    allowed: int = 0
    refused: int = 0
    without_redis: int = 0
    denied: int = 0
    round_trips: int = 0
    largest: int = 0


class SharedTenantLimits:
    """Exact sliding windows over all instances, counted in Redis by Redis's clock.

    While Redis is away, ``on_error`` decides at once. A tenant's quota is then this instance's part
    of it, of which only what was used without Redis is taken off; when Redis is back, that is not
    added there. So a Redis that comes and goes adds one quota to a window, however often it does.

    Args:
        state: the Redis.
        on_error: what happens while it is away.
        instances: how many share the limits, as far as is known.
    """

    def __init__(
        self, state: SharedState, *, on_error: OnStateError, instances: Callable[[], int]
    ) -> None:
        self._state = state
        self._on_error = on_error
        self._instances = instances
        self._local = LocalTenantLimits()
        self._pending: dict[_Quota, list[_Asker]] = {}
        self._sent: dict[_Quota, list[_Asker]] = {}
        self._first_at = 0.0
        self._bell = trio.Event()
        self._is_running = False
        self._counts = _Counts()

    def acquire(
        self, tenant_id: str, limit: int, window_seconds: float
    ) -> Decision | Awaitable[Decision]:
        """Take one unit of a tenant's quota, if there is one: at once where Redis is away.

        Raises:
            StateUnavailable: Redis is away, and requests are refused then.
            ValueError: ``limit`` or ``window_seconds`` makes no sense.
        """
        if not (self._state.is_up and self._is_running):
            return self._without((tenant_id, limit, window_seconds))
        check_whole("limit", limit, minimum=1)
        check_duration("window_seconds", window_seconds)
        asker = _Asker()
        if not self._pending:
            self._first_at = trio.current_time()
            self._bell.set()
        self._pending.setdefault((tenant_id, limit, window_seconds), []).append(asker)
        return asker.wait()

    # --- asking Redis ----------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry what is asked to Redis, one round trip after the other, until cancelled.

        Raises:
            RuntimeError: it is running already.
        """
        if self._is_running:
            raise RuntimeError("these limits are being run already")
        self._is_running = True
        task_status.started()
        try:
            while True:
                await self._bell.wait()
                self._bell = trio.Event()
                self._sent, self._pending = self._pending, {}
                await self._ask()
        finally:
            self._is_running = False
            for quotas in (self._sent, self._pending):
                self._settle_without(quotas)
                quotas.clear()

    async def _ask(self) -> None:
        """One round trip for everybody who waits, decided for the first by its limit."""
        for quota, askers in list(self._sent.items()):
            askers[:] = [each for each in askers if not each.is_gone]
            if not askers:
                del self._sent[quota]
        if not self._sent:
            return
        keys = [rate_key(tenant_id) for tenant_id, _, _ in self._sent]
        arguments = [
            (limit, _microseconds(seconds), len(askers))
            for (_, limit, seconds), askers in self._sent.items()
        ]
        deadline = self._first_at + self._state.call_seconds
        self._counts.round_trips += 1
        self._counts.largest = max(self._counts.largest, sum(each[2] for each in arguments))
        try:
            answers = await self._state.run_on_keys(RATE, keys, arguments, deadline=deadline)
        except StateUnavailable:
            self._settle_without(self._sent)
        else:
            for (quota, askers), answer in zip(self._sent.items(), answers, strict=True):
                self._settle(quota, askers, answer)
        self._sent.clear()

    def _settle(self, quota: _Quota, askers: list[_Asker], answer: list[Any]) -> None:
        granted, left, wait, reset = answer
        _, limit, seconds = quota
        reset_after, retry_after = reset / MICROSECONDS, wait / MICROSECONDS
        for number, asker in enumerate(askers):
            if number < granted:
                remaining = left + granted - 1 - number
                decision = Decision(True, limit, seconds, remaining, reset_after, 0.0)
            else:
                decision = Decision(False, limit, seconds, left, reset_after, retry_after)
            asker.settle(outcome.Value(decision))
        self._counts.allowed += granted
        self._counts.refused += len(askers) - granted

    # --- without it ------------------------------------------------------------------------------

    def _settle_without(self, quotas: dict[_Quota, list[_Asker]]) -> None:
        for quota, askers in quotas.items():
            for asker in askers:
                if not asker.is_gone:
                    asker.settle(outcome.capture(self._without, quota))

    def _without(self, quota: _Quota) -> Decision:
        tenant_id, limit, seconds = quota
        counts = self._counts
        counts.without_redis += 1
        if self._on_error is OnStateError.DENY:
            counts.denied += 1
            raise self._state.unavailable()
        if self._on_error is OnStateError.ALLOW:
            counts.allowed += 1
            return Decision(True, limit, seconds, limit, 0.0, 0.0)
        part = max(1, limit // max(1, self._instances()))
        decision = self._local.acquire(tenant_id, part, seconds)
        counts.allowed += decision.allowed
        counts.refused += not decision.allowed
        return decision

    def statistics(self) -> TenantLimitsStatistics:
        """What has been decided, and how."""
        counts = self._counts
        waiting = [*self._sent.values(), *self._pending.values()]
        return TenantLimitsStatistics(
            allowed=counts.allowed,
            refused=counts.refused,
            tenants=self._local.statistics().tenants,
            without_redis=counts.without_redis,
            denied=counts.denied,
            waiting=sum(len(askers) for askers in waiting),
            round_trips=counts.round_trips,
            largest=counts.largest,
        )


def _microseconds(seconds: float) -> int:
    return max(1, min(round(seconds * MICROSECONDS), LONGEST_WINDOW))
