"""What breakers and bulkheads do when many come at once and when callers are cancelled.

Small experiments, the same for ours and for the peers that run on Trio, in real time. What is said
of each is what was counted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import attrs
import trio
import trio.testing

from bench.overhead.peers.guards import BreakerMaker, BulkheadMaker, Guard, open_up
from bench.overhead.stages import describe
from bench.overhead.subjects import WrongSubject

FAILURES = 3
COOLDOWN_SECONDS = 0.05
CALLERS = 100
RUNNING, WAITING = 2, 5
BEYOND = 3
"""Callers more than a bulkhead has room for, when its room is counted."""
CANCELLED_TIMES = 20
EXPERIMENT_SECONDS = 10.0

T = TypeVar("T")


@attrs.frozen
class Finding:
    """What one subject did in one experiment.

    Attributes:
        experiment: the question.
        is_exact: whether the answer is the one that the pattern asks for.
        seen: the answer.
    """

    experiment: str
    package: str
    label: str
    is_exact: bool
    seen: str


@attrs.frozen
class Seen:
    """An answer."""

    is_exact: bool
    text: str


# --- tools ----------------------------------------------------------------------------------------


@attrs.define
class Crowd:
    """Callers that all come at once, and what became of them."""

    running: int = 0
    refused: int = 0
    errors: list[Exception] = attrs.Factory(list)
    may_end: trio.Event = attrs.Factory(trio.Event)

    async def work(self) -> None:
        """What each of them calls: it runs until it may end."""
        self.running += 1
        await self.may_end.wait()

    async def call(self, guard: Guard) -> None:
        """Be one of them."""
        try:
            await guard.call(self.work)
        except guard.refusal:
            self.refused += 1
        except Exception as error:  # noqa: BLE001  whatever it is, it is what was seen
            self.errors.append(error)

    def check(self) -> None:
        """Find out whether any of them got an error that it should not have."""
        if self.errors:
            raise WrongSubject(f"a caller got {describe(self.errors[0])}") from self.errors[0]


async def come_at_once(guard: Guard, callers: int) -> Crowd:
    """Let so many callers come; says how many ran, and were refused, before one could end."""
    crowd = Crowd()
    async with trio.open_nursery() as nursery:
        for _ in range(callers):
            nursery.start_soon(crowd.call, guard)
        await trio.testing.wait_all_tasks_blocked()
        running, refused, errors = crowd.running, crowd.refused, list(crowd.errors)
        crowd.may_end.set()
    return Crowd(running, refused, errors)


async def cancel_amid(guard: Guard, callers: int) -> None:
    """Let so many callers come, and cancel them where they are.

    Raises:
        WrongSubject: one was not there any more: it had got an error instead.
    """
    crowd = Crowd()
    async with trio.open_nursery() as nursery:
        for _ in range(callers):
            nursery.start_soon(crowd.call, guard)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    crowd.check()


async def lets_through(guard: Guard) -> bool:
    """Whether a call is let through now."""
    crowd = await come_at_once(guard, 1)
    return crowd.running == 1


async def opened(maker: BreakerMaker, cooldown: float) -> Guard:
    """A breaker that has just opened."""
    guard = await maker.make(FAILURES, cooldown)
    await open_up(guard, FAILURES)
    if await lets_through(guard):
        raise WrongSubject(f"it did not open after {FAILURES} failures in a row")
    return guard


# --- breakers -------------------------------------------------------------------------------------


async def probes_at_once(maker: BreakerMaker) -> Seen:
    """How many of many callers run as the probe."""
    guard = await opened(maker, COOLDOWN_SECONDS)
    await trio.sleep(2 * COOLDOWN_SECONDS)
    crowd = await come_at_once(guard, CALLERS)
    return Seen(crowd.running == 1, f"{crowd.running} of {CALLERS} ran")


async def cancelled_calls(maker: BreakerMaker) -> Seen:
    """As what cancelled calls count."""
    guard = await maker.make(FAILURES, 60.0)
    for _ in range(FAILURES):
        await cancel_amid(guard, 1)
    if not await lets_through(guard):
        return Seen(False, f"as failures: {FAILURES} cancelled calls opened it")
    guard = await maker.make(FAILURES, 60.0)
    await open_up(guard, FAILURES - 1)
    await cancel_amid(guard, 1)
    await open_up(guard, 1)
    if await lets_through(guard):
        return Seen(False, "as successes: one wiped out the failures before it")
    return Seen(True, "as neither")


async def cancelled_probe(maker: BreakerMaker) -> Seen:
    """How many of many callers run once the probe has been cancelled."""
    guard = await opened(maker, COOLDOWN_SECONDS)
    await trio.sleep(2 * COOLDOWN_SECONDS)
    await cancel_amid(guard, 1)
    crowd = await come_at_once(guard, CALLERS)
    return Seen(crowd.running == 1, f"{crowd.running} of {CALLERS} ran")


# --- bulkheads ------------------------------------------------------------------------------------


async def room_left(guard: Guard) -> Seen:
    """How many run and wait in a bulkhead at rest, against how many should."""
    crowd = await come_at_once(guard, RUNNING + WAITING + BEYOND)
    crowd.check()
    waiting = RUNNING + WAITING + BEYOND - crowd.running - crowd.refused
    text = f"{crowd.running} of {RUNNING} permits and {waiting} of {WAITING} places left"
    return Seen(crowd.running == RUNNING and waiting == WAITING, text)


async def cancelled_in_line(maker: BulkheadMaker) -> Seen:
    """What room is left after callers were cancelled while they waited, and while they ran."""
    guard = await maker.make(RUNNING, WAITING)
    for _ in range(CANCELLED_TIMES):
        await cancel_amid(guard, RUNNING + WAITING)
    return await room_left(guard)


async def cancelled_at_hand_over(maker: BulkheadMaker) -> Seen:
    """The same where a permit comes free just as the one who waits for it is cancelled."""
    guard = await maker.make(RUNNING, WAITING)
    for number in range(CANCELLED_TIMES):
        holders, waiters = Crowd(), Crowd()
        async with trio.open_nursery() as outer:
            for _ in range(RUNNING):
                outer.start_soon(holders.call, guard)
            await trio.testing.wait_all_tasks_blocked()
            async with trio.open_nursery() as inner:
                for _ in range(WAITING):
                    inner.start_soon(waiters.call, guard)
                await trio.testing.wait_all_tasks_blocked()
                holders.may_end.set()
                for _ in range(number % 4):  # so many steps later: each may find it elsewhere
                    await trio.lowlevel.cancel_shielded_checkpoint()
                inner.cancel_scope.cancel()
        waiters.check()
    return await room_left(guard)


# --- all of it ------------------------------------------------------------------------------------

BREAKER_EXPERIMENTS: tuple[tuple[str, Callable[[BreakerMaker], Awaitable[Seen]]], ...] = (
    (f"{CALLERS} callers when the cooldown is over", probes_at_once),
    ("a cancelled call counts", cancelled_calls),
    (f"{CALLERS} callers after the probe was cancelled", cancelled_probe),
)
BULKHEAD_EXPERIMENTS: tuple[tuple[str, Callable[[BulkheadMaker], Awaitable[Seen]]], ...] = (
    ("callers cancelled while they wait", cancelled_in_line),
    ("callers cancelled as they get the permit", cancelled_at_hand_over),
)


async def _answer(experiment: Callable[[T], Awaitable[Seen]], maker: T) -> Seen:
    try:
        with trio.fail_after(EXPERIMENT_SECONDS):
            return await experiment(maker)
    except WrongSubject as wrong:
        return Seen(False, str(wrong))
    except Exception as error:  # noqa: BLE001  whatever it is, it is what was seen
        return Seen(False, describe(error))


async def run_experiments(
    breakers: Sequence[BreakerMaker], bulkheads: Sequence[BulkheadMaker]
) -> list[Finding]:
    """Every experiment with every subject, one after another; run by Trio."""
    found = []
    for title, of_breaker in BREAKER_EXPERIMENTS:
        for breaker in breakers:
            seen = await _answer(of_breaker, breaker)
            found.append(Finding(title, breaker.package, breaker.label, seen.is_exact, seen.text))
    for title, of_bulkhead in BULKHEAD_EXPERIMENTS:
        for bulkhead in bulkheads:
            seen = await _answer(of_bulkhead, bulkhead)
            found.append(Finding(title, bulkhead.package, bulkhead.label, seen.is_exact, seen.text))
    return found
