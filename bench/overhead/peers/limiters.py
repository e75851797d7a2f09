"""Rate limiters: of `limits`, one limit a key; of `aiolimiter` and `hyx`, one limit."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator
from importlib import import_module
from typing import Any

from bench.overhead import jobs
from bench.overhead.ours import KEYS, UNITS
from bench.overhead.subjects import (
    Bare,
    Block,
    Job,
    Role,
    Stage,
    Subject,
    WrongSubject,
    entering,
)

LIMITS_STRATEGIES = ("FixedWindow", "SlidingWindowCounter", "MovingWindow")


def subjects() -> Iterator[Subject]:
    """Each peer's limiter."""
    for strategy in LIMITS_STRATEGIES:
        for job, limit, is_allowed in ((jobs.KEYED, UNITS, True), (jobs.KEYED_REFUSAL, 1, False)):
            prepare = _keyed(strategy, limit, is_allowed=is_allowed)
            yield Subject(job, "limits", f"hit, {strategy}", Role.PEER, prepare, Bare.CALL)
    yield _peer(jobs.KEYED, "limits.aio", "hit, FixedWindow", _keyed_asyncio)
    yield _peer(jobs.LIMIT, "aiolimiter", "async with AsyncLimiter", _aiolimiter)
    yield _peer(jobs.LIMIT, "hyx", "async with tokenbucket", _hyx)


def _peer(
    job: Job, package: str, label: str, prepare: Callable[[Stage], Awaitable[Block]]
) -> Subject:
    return Subject(job, package, label, Role.PEER, prepare)


def _keyed(strategy: str, limit: int, *, is_allowed: bool) -> Callable[[Stage], Awaitable[Block]]:
    async def prepare(_: Stage) -> Block:
        limits: Any = import_module("limits")
        storage = import_module("limits.storage").MemoryStorage()
        limiter = getattr(import_module("limits.strategies"), f"{strategy}RateLimiter")(storage)
        item, hit = limits.RateLimitItemPerHour(limit), limiter.hit
        if not is_allowed:
            for key in KEYS:
                hit(item, key)
        endless = itertools.cycle(KEYS)

        async def block(operations: int) -> None:
            answer: object = None
            for key in itertools.islice(endless, operations):
                answer = hit(item, key)
            if answer is not is_allowed:
                raise WrongSubject(f"the limiter answered {answer!r}")

        return block

    return prepare


async def _keyed_asyncio(stage: Stage) -> Block:
    limits: Any = import_module("limits")
    storage = import_module("limits.aio.storage").MemoryStorage()
    limiter = import_module("limits.aio.strategies").FixedWindowRateLimiter(storage)
    item, hit, work = limits.RateLimitItemPerHour(UNITS), limiter.hit, stage.work
    endless = itertools.cycle(KEYS)

    async def block(operations: int) -> None:
        for key in itertools.islice(endless, operations):
            await hit(item, key)
            await work()

    return block


async def _aiolimiter(stage: Stage) -> Block:
    limiter = import_module("aiolimiter").AsyncLimiter(UNITS, 1.0)
    return entering(limiter, stage.work)


async def _hyx(stage: Stage) -> Block:
    limiter = import_module("hyx.ratelimit").tokenbucket(UNITS, 1.0)
    return entering(limiter, stage.work)
