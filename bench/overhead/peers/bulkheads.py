"""Bulkheads, ours among them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from importlib import import_module
from typing import Any

import trio

from bench.overhead import jobs
from bench.overhead.peers.guards import BulkheadMaker, Guard, unreachable
from bench.overhead.subjects import (
    Bare,
    Block,
    Role,
    Stage,
    Subject,
    Work,
    WrongSubject,
    calling,
    entering,
    refused,
    refused_entering,
)
from bulkhead_trio.errors import BulkheadFull
from bulkhead_trio.policies.bulkhead import Bulkhead
from bulkhead_trio.policies.compartment import Compartment


def subjects() -> Iterator[Subject]:
    """Each peer's bulkhead, letting calls through and refusing them."""
    for maker in PEERS:
        yield Subject(
            jobs.BULKHEAD,
            maker.package,
            maker.label,
            Role.PEER,
            _passing(maker),
            Bare.AWAIT,
            _lets_callers_wait(maker),
        )
        yield Subject(
            jobs.BULKHEAD_REFUSAL,
            maker.package,
            maker.label,
            Role.PEER,
            _refusing(maker),
            Bare.LOOP,
            _lets_callers_wait(maker),
        )


def _passing(maker: BulkheadMaker) -> Callable[[Stage], Awaitable[Block]]:
    async def prepare(stage: Stage) -> Block:
        return (await maker.make(10, 10)).passing(stage.work)

    return prepare


def _refusing(maker: BulkheadMaker) -> Callable[[Stage], Awaitable[Block]]:
    async def prepare(stage: Stage) -> Block:
        guard = await maker.make(1, 0)

        async def run_for_ever() -> None:
            while True:
                await stage.pause()

        async def hold() -> None:
            await guard.call(run_for_ever)

        stage.start_soon(hold)
        await stage.settle()
        return guard.refusing()

    return prepare


def _lets_callers_wait(maker: BulkheadMaker) -> Callable[[Stage], Awaitable[None]]:
    """A bulkhead with a place to wait in has to let a second caller wait, and then run it."""

    async def trial(stage: Stage) -> None:
        guard = await maker.make(1, 1)
        may_end = False
        ended: list[str] = []
        errors: list[Exception] = []

        async def work() -> None:
            while not may_end:
                await stage.turn()
            ended.append("one")

        async def caller() -> None:
            try:
                await guard.call(work)
            except Exception as error:  # noqa: BLE001  whatever it is, it is what was seen
                errors.append(error)

        stage.start_soon(caller)
        stage.start_soon(caller)
        await stage.settle()
        may_end = True
        await stage.settle()
        if errors:
            raise errors[0]
        if len(ended) != 2:
            raise WrongSubject(f"{len(ended)} of 2 callers came to run")

    return trial


# --- the bulkheads --------------------------------------------------------------------------------


async def _bulkman(running: int, waiting: int) -> Guard:
    bulkman: Any = import_module("bulkman")
    config = bulkman.BulkheadConfig(
        name="resource", max_concurrent_calls=running, max_queue_size=waiting
    )
    bulkhead = bulkman.Bulkhead(config)
    refusal = bulkman.BulkheadFullError

    async def call(work: Work) -> None:
        answer = await bulkhead.execute(work)
        if answer.error is not None:
            raise answer.error.__cause__ or answer.error

    return Guard(
        call,
        refusal,
        lambda work: calling(bulkhead.execute, work),
        lambda: refused(lambda: bulkhead.execute(unreachable), refusal),
    )


async def _hyx(running: int, waiting: int) -> Guard:
    hyx: Any = import_module("hyx.bulkhead")
    refusal = import_module("hyx.bulkhead.exceptions").BulkheadFull
    bulkhead = hyx.bulkhead(max_concurrency=running, max_capacity=running + waiting)

    async def call(work: Work) -> None:
        async with bulkhead:
            await work()

    return Guard(
        call,
        refusal,
        lambda work: entering(bulkhead, work),
        lambda: refused_entering(bulkhead, refusal),
    )


async def _ours(running: int, waiting: int) -> Guard:
    bulkhead = Bulkhead("resource", running, max_wait=60.0, max_queued=waiting)
    return _called(bulkhead.call)


async def _ours_acquired(running: int, waiting: int) -> Guard:
    bulkhead = Bulkhead("resource", running, max_wait=60.0, max_queued=waiting)

    async def call(work: Work) -> None:
        async with bulkhead.acquire():
            await work()

    return _called(call)


async def _compartment(running: int, waiting: int) -> Guard:
    compartment = Compartment("resource", workers=running, queue=waiting)
    trio.lowlevel.spawn_system_task(compartment.run)
    await trio.testing.wait_all_tasks_blocked()
    return _called(compartment.call)


def _called(call: Callable[[Work], Awaitable[object]]) -> Guard:
    return Guard(
        call,
        BulkheadFull,
        lambda work: calling(call, work),
        lambda: refused(lambda: call(unreachable), BulkheadFull),
    )


OURS = (
    BulkheadMaker("bulkhead-trio", "Bulkhead.call", _ours),
    BulkheadMaker("bulkhead-trio", "async with Bulkhead.acquire()", _ours_acquired),
    BulkheadMaker("bulkhead-trio", "Compartment.call", _compartment),
)
PEERS = (
    BulkheadMaker("bulkman", "execute", _bulkman),
    BulkheadMaker("hyx", "async with bulkhead", _hyx),
)
