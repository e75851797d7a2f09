"""Retries, timeouts, fallbacks, and five policies of five packages put together by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from importlib import import_module
from typing import Any

import trio

from bench.overhead import jobs
from bench.overhead.ours import UNITS
from bench.overhead.subjects import (
    Block,
    Job,
    Role,
    Stage,
    Subject,
    Work,
    WrongSubject,
    calling,
    decorated,
    entering,
)

Retrier = Callable[[Work], Work]

FIRST_PAUSE_SECONDS = 0.001


def subjects() -> Iterator[Subject]:
    """Each peer's retry, timeout and fallback, and the five policies."""
    for package, label, make in RETRIES:
        prepare, trial = _retry(make), _second_try(make)
        yield Subject(jobs.RETRY, package, label, Role.PEER, prepare, trial=trial)
    yield _peer(jobs.TIMEOUT, "hyx", "async with timeout", _hyx_timeout)
    yield _peer(jobs.FALLBACK, "hyx", "@fallback", _hyx_fallback)
    yield _peer(jobs.PIPELINE, "five packages", "limits, tenacity, hyx, bulkman, trio", _five)


def _peer(
    job: Job, package: str, label: str, prepare: Callable[[Stage], Awaitable[Block]]
) -> Subject:
    return Subject(job, package, label, Role.PEER, prepare)


# --- retries --------------------------------------------------------------------------------------


def _retry(make: Callable[[], Retrier]) -> Callable[[Stage], Awaitable[Block]]:
    async def prepare(stage: Stage) -> Block:
        return decorated(make()(stage.work))

    return prepare


def _second_try(make: Callable[[], Retrier]) -> Callable[[Stage], Awaitable[None]]:
    """A retry has to come to its second try."""

    async def trial(_: Stage) -> None:
        tries = 0

        async def work() -> None:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise ConnectionError("the first try fails")

        await make()(work)()
        if tries != 2:
            raise WrongSubject(f"there were {tries} tries, not 2")

    return trial


def _tenacity() -> Retrier:
    tenacity: Any = import_module("tenacity")
    retrying = tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(FIRST_PAUSE_SECONDS)
    )

    def retrier(work: Work) -> Work:
        async def call() -> None:
            await retrying(work)

        return call

    return retrier


def _tenacity_decorator() -> Retrier:
    tenacity: Any = import_module("tenacity")
    retrier: Retrier = tenacity.retry(
        stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(FIRST_PAUSE_SECONDS)
    )
    return retrier


def _stamina() -> Retrier:
    stamina: Any = import_module("stamina")
    stamina.instrumentation.set_on_retry_hooks(())  # it would log the retry of the trial
    retrier: Retrier = stamina.retry(
        on=ConnectionError, attempts=3, wait_initial=FIRST_PAUSE_SECONDS, wait_jitter=0
    )
    return retrier


def _hyx() -> Retrier:
    hyx: Any = import_module("hyx.retry")
    retrier: Retrier = hyx.retry(on=ConnectionError, attempts=3, backoff=FIRST_PAUSE_SECONDS)
    return retrier


RETRIES: tuple[tuple[str, str, Callable[[], Retrier]], ...] = (
    ("tenacity", "AsyncRetrying(...)(work)", _tenacity),
    ("tenacity", "@retry", _tenacity_decorator),
    ("stamina", "@retry", _stamina),
    ("hyx", "@retry", _hyx),
)


# --- others ---------------------------------------------------------------------------------------


async def _hyx_timeout(stage: Stage) -> Block:
    return entering(import_module("hyx.timeout").timeout(60.0), stage.work)


async def _hyx_fallback(stage: Stage) -> Block:
    async def answer(*_: object) -> None:
        """What to answer instead."""

    fallback: Any = import_module("hyx.fallback").fallback(answer, on=ConnectionError)
    return decorated(fallback(stage.work))


async def _five(stage: Stage) -> Block:
    """Rate limit, retry, breaker, bulkhead and timeout, outermost first."""
    limits: Any = import_module("limits")
    tenacity: Any = import_module("tenacity")
    bulkman: Any = import_module("bulkman")
    hyx: Any = import_module("hyx.circuitbreaker")
    storage = import_module("limits.storage").MemoryStorage()
    limiter = import_module("limits.strategies").FixedWindowRateLimiter(storage)
    item = limits.RateLimitItemPerHour(UNITS)
    retrying = tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(3))
    breaker = hyx.consecutive_breaker()
    bulkhead = bulkman.Bulkhead(bulkman.BulkheadConfig(name="resource"))

    async def in_time(work: Work) -> None:
        with trio.fail_after(60):
            await work()

    async def one_try(work: Work) -> None:
        async with breaker:
            answer = await bulkhead.execute(in_time, work)
        if answer.error is not None:
            raise answer.error

    async def call(work: Work) -> None:
        if not limiter.hit(item, "all"):
            raise WrongSubject("the limiter refused")
        await retrying(one_try, work)

    return calling(call, stage.work)
