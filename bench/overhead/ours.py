"""Our own policies as subjects. The first of each job is the one that peers are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import trio

from bench.overhead import jobs
from bench.overhead.subjects import (
    Bare,
    Block,
    Job,
    Role,
    Stage,
    Subject,
    calling,
    deciding,
    entering,
    entering_each,
    refused,
    stepping,
    within_each,
)
from bulkhead_trio.errors import BulkheadFull, CircuitOpen
from bulkhead_trio.policies.breaker import CircuitBreaker, Consecutive, CountWindow, TimeWindow
from bulkhead_trio.policies.bulkhead import Bulkhead
from bulkhead_trio.policies.compartment import Compartment
from bulkhead_trio.policies.deadline import Timeout
from bulkhead_trio.policies.fallback import Fallback
from bulkhead_trio.policies.hedge import Hedge
from bulkhead_trio.policies.pipeline import Pipeline
from bulkhead_trio.policies.policy import Policy
from bulkhead_trio.policies.queue import FairQueue, PriorityQueue, TicketLine
from bulkhead_trio.policies.rate import (
    Decision,
    FixedWindow,
    KeyedRateLimiter,
    RateLimiter,
    Rule,
    SlidingWindow,
    TokenBucket,
)
from bulkhead_trio.policies.retry import Retry
from bulkhead_trio.policies.single_flight import SingleFlight
from bulkhead_trio.policies.throttle import Throttle
from bulkhead_trio.policies.worker_pool import WorkerPool

PACKAGE = "bulkhead-trio"
KEYS = [f"client-{number}" for number in range(1_000)]
UNITS = 1_000_000_000
"""More than any run takes: what is measured is a request that passes."""
UNITS_A_SECOND = 100.0
"""Fewer than are taken, so that no key is at rest, and forgotten, before it comes again."""

COUNT_WINDOW = CountWindow(100)
TIME_WINDOW = TimeWindow(10)


def subjects() -> list[Subject]:
    """All of ours, and what Trio itself has for comparison."""
    return [
        *_breakers(),
        *_bulkheads(),
        *_limiters(),
        *_single_policies(),
        *_queues(),
    ]


def _ours(job: Job, label: str, make: Callable[[Stage], Block], bare: Bare = Bare.AWAIT) -> Subject:
    async def prepare(stage: Stage) -> Block:
        return make(stage)

    return Subject(job, PACKAGE, label, Role.OURS, prepare, bare)


async def _unreachable() -> None:
    """What must not be called."""
    raise AssertionError("a refused call was made all the same")


def _is_allowed(decision: Decision) -> bool:
    return decision.allowed


def _is_refused(decision: Decision) -> bool:
    return not decision.allowed


# --- breakers -------------------------------------------------------------------------------------


def _breakers() -> Iterator[Subject]:
    job = jobs.BREAKER
    for window in (Consecutive(5), COUNT_WINDOW, TIME_WINDOW):
        breaker = CircuitBreaker("b", window=window)
        yield _ours(job, f"call, {type(window).__name__}", _calling(breaker))
    yield _ours(job, "async with", lambda stage: entering(CircuitBreaker("b"), stage.work))
    permits = CircuitBreaker("b")
    yield _ours(job, "with permit()", lambda stage: within_each(permits.permit, stage.work))
    yield _ours(jobs.BREAKER_REFUSAL, "call", _refused_by_breaker, Bare.LOOP)


def _calling(policy: Policy) -> Callable[[Stage], Block]:
    return lambda stage: calling(policy.call, stage.work)


def _refused_by_breaker(_: Stage) -> Block:
    breaker = CircuitBreaker("b")
    breaker.force_open()
    return refused(lambda: breaker.call(_unreachable), CircuitOpen)


# --- bulkheads ------------------------------------------------------------------------------------


def _bulkheads() -> Iterator[Subject]:
    job = jobs.BULKHEAD
    yield _ours(job, "call", _calling(Bulkhead("b", 10)))
    waited_for = Bulkhead("b", 10)
    yield _ours(
        job, "async with acquire()", lambda stage: entering_each(waited_for.acquire, stage.work)
    )
    yield _ours(job, "async with", lambda stage: entering(Bulkhead("b", 10), stage.work))
    at_once = Bulkhead("b", 10)
    yield _ours(
        job, "with acquire_nowait()", lambda stage: within_each(at_once.acquire_nowait, stage.work)
    )
    yield _bare_trio(job, "CapacityLimiter", lambda s: entering(trio.CapacityLimiter(10), s.work))
    yield _bare_trio(job, "Semaphore", lambda s: entering(trio.Semaphore(10), s.work))
    yield _ours(jobs.BULKHEAD_REFUSAL, "call", _refused_by_bulkhead, Bare.LOOP)
    compartment = Compartment("c", workers=10, queue=10)
    yield _ours(jobs.COMPARTMENT, "call", _calling(compartment))
    yield Subject(jobs.WORKER_POOL, PACKAGE, "call", Role.OURS, _working)


def _refused_by_bulkhead(_: Stage) -> Block:
    bulkhead = Bulkhead("b", 1)
    bulkhead.acquire_nowait()  # never given back
    return refused(lambda: bulkhead.call(_unreachable), BulkheadFull)


async def _working(stage: Stage) -> Block:
    pool = WorkerPool("w", workers=2, queue=10)
    stage.start_soon(pool.run)
    await stage.settle()
    return calling(pool.call, stage.work)


def _bare_trio(job: Job, label: str, make: Callable[[Stage], Block]) -> Subject:
    async def prepare(stage: Stage) -> Block:
        return make(stage)

    return Subject(job, "trio", label, Role.REFERENCE, prepare)


# --- limiters -------------------------------------------------------------------------------------


def _limiters() -> Iterator[Subject]:
    bucket = TokenBucket(rate=UNITS_A_SECOND, capacity=UNITS)
    wide: tuple[Rule[Any], ...] = (
        bucket,
        FixedWindow(limit=UNITS, seconds=60),
        SlidingWindow(limit=UNITS, seconds=60),
    )
    for rule in wide:
        yield _ours(jobs.KEYED, type(rule).__name__, _passing(rule), Bare.CALL)
    at_rest_at_once = TokenBucket(rate=1e9, capacity=10)
    yield _ours(jobs.NEW_KEY, "TokenBucket", _passing(at_rest_at_once), Bare.CALL)
    hour = 3600.0
    narrow: tuple[Rule[Any], ...] = (
        TokenBucket(rate=1 / hour, capacity=1),
        FixedWindow(limit=1, seconds=hour),
        SlidingWindow(limit=1, seconds=hour),
    )
    for rule in narrow:
        yield _ours(jobs.KEYED_REFUSAL, type(rule).__name__, _refusing(rule), Bare.CALL)
    yield _ours(jobs.LIMIT, "call, TokenBucket", _calling(RateLimiter(bucket)))


def _passing(rule: Rule[Any]) -> Callable[[Stage], Block]:
    limiter = KeyedRateLimiter(rule, max_keys=len(KEYS))
    return lambda _: deciding(limiter.acquire_nowait, KEYS, _is_allowed)


def _refusing(rule: Rule[Any]) -> Callable[[Stage], Block]:
    def make(_: Stage) -> Block:
        limiter = KeyedRateLimiter(rule, max_keys=len(KEYS))
        for key in KEYS:
            limiter.acquire_nowait(key)
        return deciding(limiter.acquire_nowait, KEYS, _is_refused)

    return make


# --- one policy, one row --------------------------------------------------------------------------


def _single_policies() -> Iterator[Subject]:
    yield _ours(jobs.RETRY, "call", _calling(Retry(3)))
    yield _ours(jobs.TIMEOUT, "call", _calling(Timeout(60)))
    yield _bare_trio(jobs.TIMEOUT, "fail_after", _fail_after)
    yield _ours(jobs.FALLBACK, "call", _calling(Fallback(None)))
    yield _ours(jobs.SINGLE_FLIGHT, "call", _flying)
    yield _ours(jobs.THROTTLE, "call", _calling(Throttle()))
    yield _ours(jobs.HEDGE, "call", _calling(Hedge(delay=60)))
    pipeline = Pipeline(
        RateLimiter(TokenBucket(rate=UNITS_A_SECOND, capacity=UNITS)),
        Retry(3),
        CircuitBreaker("b", window=COUNT_WINDOW),
        Bulkhead("b", 10),
        Timeout(60),
    )
    yield _ours(jobs.PIPELINE, "Pipeline.call", _calling(pipeline))


def _fail_after(stage: Stage) -> Block:
    def sixty_seconds() -> AbstractContextManager[object]:
        return trio.fail_after(60)

    return within_each(sixty_seconds, stage.work)


def _flying(stage: Stage) -> Block:
    flight, work = SingleFlight(), stage.work

    async def block(operations: int) -> None:
        for _ in range(operations):
            await flight.call("key", work)

    return block


# --- queues ---------------------------------------------------------------------------------------


def _queues() -> Iterator[Subject]:
    for count in (jobs.FEW_KEYS, jobs.MANY_KEYS):
        label = f"{count:,} keys"
        yield _ours(jobs.FAIR_QUEUE, label, _turning(FairQueue, count), Bare.LOOP)
    for count in (jobs.FEW_KEYS, jobs.MANY_KEYS):
        label = f"{count:,} waiting"
        yield _ours(jobs.PRIORITY_QUEUE, label, _turning(PriorityQueue, count), Bare.LOOP)


def _turning(line: Callable[[int], TicketLine[str]], count: int) -> Callable[[Stage], Block]:
    """A line of ``count`` keys with one item each; a step takes the next and puts it in again."""

    def make(_: Stage) -> Block:
        queue = line(count + 1)
        for number in range(count):
            key = f"key-{number}"
            queue.put_nowait(key, key=key, priority=number % 3)

        def step() -> None:
            key = queue.take_nowait()
            queue.put_nowait(key, key=key, priority=0)

        return stepping(step)

    return make
