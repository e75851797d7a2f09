"""Circuit breakers, ours among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import timedelta
from importlib import import_module
from typing import Any

from bench.overhead import jobs
from bench.overhead.peers.guards import BreakerMaker, Guard, open_up, unreachable
from bench.overhead.subjects import (
    Bare,
    Block,
    Role,
    Stage,
    Subject,
    Work,
    calling,
    entering,
    refused,
    refused_entering,
    refused_within,
    within_each,
)
from bulkhead_trio.errors import CircuitOpen
from bulkhead_trio.policies.breaker import CircuitBreaker, Consecutive

HOUR = 3600.0


def subjects() -> Iterator[Subject]:
    """Each peer's breaker, letting calls through and refusing them."""
    for maker in PEERS:
        yield Subject(
            jobs.BREAKER, maker.package, maker.label, Role.PEER, _passing(maker), Bare.AWAIT
        )
        yield Subject(
            jobs.BREAKER_REFUSAL, maker.package, maker.label, Role.PEER, _refusing(maker), Bare.LOOP
        )


def _passing(maker: BreakerMaker) -> Callable[[Stage], Any]:
    async def prepare(stage: Stage) -> Block:
        return (await maker.make(5, HOUR)).passing(stage.work)

    return prepare


def _refusing(maker: BreakerMaker) -> Callable[[Stage], Any]:
    async def prepare(_: Stage) -> Block:
        guard = await maker.make(2, HOUR)
        await open_up(guard, 3)
        return guard.refusing()

    return prepare


# --- forms of use ---------------------------------------------------------------------------------


def _called(call: Callable[[Work], Any], refusal: type[Exception]) -> Guard:
    return Guard(
        call,
        refusal,
        lambda work: calling(call, work),
        lambda: refused(lambda: call(unreachable), refusal),
    )


def _entered(policy: AbstractAsyncContextManager[Any], refusal: type[Exception]) -> Guard:
    async def call(work: Work) -> None:
        async with policy:
            await work()

    return Guard(
        call,
        refusal,
        lambda work: entering(policy, work),
        lambda: refused_entering(policy, refusal),
    )


def _within(make: Callable[[], AbstractContextManager[Any]], refusal: type[Exception]) -> Guard:
    async def call(work: Work) -> None:
        with make():
            await work()

    return Guard(
        call,
        refusal,
        lambda work: within_each(make, work),
        lambda: refused_within(make, refusal),
    )


# --- the breakers ---------------------------------------------------------------------------------


async def _purgatory(failures: int, cooldown: float) -> Guard:
    purgatory: Any = import_module("purgatory")
    factory = purgatory.AsyncCircuitBreakerFactory(default_threshold=failures, default_ttl=cooldown)
    refusal = import_module("purgatory.domain.model").OpenedState
    return _entered(await factory.get_breaker("dependency"), refusal)


async def _aiobreaker(failures: int, cooldown: float) -> Guard:
    aiobreaker: Any = import_module("aiobreaker")
    breaker = aiobreaker.CircuitBreaker(
        fail_max=failures, timeout_duration=timedelta(seconds=cooldown)
    )
    return _called(breaker.call_async, aiobreaker.CircuitBreakerError)


async def _hyx(failures: int, cooldown: float) -> Guard:
    hyx: Any = import_module("hyx.circuitbreaker")
    refusal = import_module("hyx.circuitbreaker.exceptions").BreakerFailing
    breaker = hyx.consecutive_breaker(
        failure_threshold=failures, recovery_time_secs=cooldown, recovery_threshold=1
    )
    return _entered(breaker, refusal)


async def _pybreaker(failures: int, cooldown: float) -> Guard:
    pybreaker: Any = import_module("pybreaker")
    breaker = pybreaker.CircuitBreaker(fail_max=failures, reset_timeout=cooldown)
    return _within(breaker.calling, pybreaker.CircuitBreakerError)


async def _bulkman(failures: int, cooldown: float) -> Guard:
    bulkman: Any = import_module("bulkman")
    config = bulkman.BulkheadConfig(
        name="dependency",
        max_concurrent_calls=1_000,
        max_queue_size=1_000,
        failure_threshold=failures,
        success_threshold=1,
        isolation_duration=cooldown,
        circuit_breaker_enabled=True,
    )
    bulkhead = bulkman.Bulkhead(config)

    async def call(work: Work) -> None:
        answer = await bulkhead.execute(work)
        if answer.error is not None:
            raise answer.error.__cause__ or answer.error

    refusal = bulkman.BulkheadCircuitOpenError
    return Guard(
        call,
        refusal,
        lambda work: calling(bulkhead.execute, work),
        lambda: refused(lambda: bulkhead.execute(unreachable), refusal),
    )


async def _ours(failures: int, cooldown: float) -> Guard:
    breaker = CircuitBreaker("dependency", window=Consecutive(failures), wait_in_open=cooldown)
    return _called(breaker.call, CircuitOpen)


async def _ours_entered(failures: int, cooldown: float) -> Guard:
    breaker = CircuitBreaker("dependency", window=Consecutive(failures), wait_in_open=cooldown)
    return _entered(breaker, CircuitOpen)


OURS = (
    BreakerMaker("bulkhead-trio", "call", _ours),
    BreakerMaker("bulkhead-trio", "async with", _ours_entered),
)
PEERS = (
    BreakerMaker("aiobreaker", "call_async", _aiobreaker),
    BreakerMaker("bulkman", "execute, breaker on", _bulkman),
    BreakerMaker("hyx", "async with consecutive_breaker", _hyx),
    BreakerMaker("purgatory", "async with breaker", _purgatory),
    BreakerMaker("pybreaker", "with calling()", _pybreaker),
)
