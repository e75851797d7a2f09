"""The experiments tell right from wrong: each is made with something that is wrong in its way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio

from bench.overhead.exactness import (
    BREAKER_EXPERIMENTS,
    BULKHEAD_EXPERIMENTS,
    CALLERS,
    FAILURES,
    Seen,
    cancelled_at_hand_over,
    cancelled_calls,
    cancelled_in_line,
    cancelled_probe,
    probes_at_once,
    run_experiments,
)
from bench.overhead.peers import breakers, bulkheads
from bench.overhead.peers.guards import BreakerMaker, BulkheadMaker, Guard
from bench.overhead.subjects import Work, calling


class Refusal(Exception):
    """What the breakers and bulkheads here refuse with."""


def guard_of(call: Callable[[Work], Awaitable[object]]) -> Guard:
    return Guard(
        call, Refusal, lambda work: calling(call, work), lambda: calling(call, trio.sleep_forever)
    )


@attrs.define
class SloppyBreaker:
    """Opens after failures in a row, and lets everybody through once the cooldown is over."""

    failures: int
    cooldown: float
    cancelled_is: str = "neither"
    seen: int = 0
    open_until: float = 0.0

    async def call(self, work: Work) -> None:
        if self.seen >= self.failures and trio.current_time() < self.open_until:
            raise Refusal
        try:
            await work()
        except trio.Cancelled:
            if self.cancelled_is == "failure":
                self.fail()
            if self.cancelled_is == "success":
                self.seen = 0
            raise
        except Exception:
            self.fail()
            raise
        self.seen = 0

    def fail(self) -> None:
        self.seen += 1
        self.open_until = trio.current_time() + self.cooldown


def sloppy(cancelled_is: str = "neither") -> BreakerMaker:
    async def make(failures: int, cooldown: float) -> Guard:
        return guard_of(SloppyBreaker(failures, cooldown, cancelled_is).call)

    return BreakerMaker("test", "sloppy", make)


@attrs.define
class LeakyBulkhead:
    """Counts who comes before it lets them wait, and forgets to when they are cancelled there."""

    running: int
    waiting: int
    inside: int = 0
    permits: trio.Semaphore = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.permits = trio.Semaphore(self.running)

    async def call(self, work: Work) -> None:
        if self.inside >= self.running + self.waiting:
            raise Refusal
        self.inside += 1
        await self.permits.acquire()
        try:
            await work()
        finally:
            self.permits.release()
            self.inside -= 1


def leaky() -> BulkheadMaker:
    async def make(running: int, waiting: int) -> Guard:
        return guard_of(LeakyBulkhead(running, waiting).call)

    return BulkheadMaker("test", "leaky", make)


async def test_many_probes_are_seen(autojump_clock: trio.testing.MockClock) -> None:
    """A breaker that lets everybody probe is not exact, nor is it after a cancelled probe."""
    assert await probes_at_once(sloppy()) == Seen(False, f"{CALLERS} of {CALLERS} ran")
    assert await cancelled_probe(sloppy()) == Seen(False, f"{CALLERS} of {CALLERS} ran")


@pytest.mark.parametrize(
    ("cancelled_is", "expected"),
    [
        ("neither", Seen(True, "as neither")),
        ("failure", Seen(False, f"as failures: {FAILURES} cancelled calls opened it")),
        ("success", Seen(False, "as successes: one wiped out the failures before it")),
    ],
)
async def test_what_a_cancelled_call_counts_as_is_seen(
    cancelled_is: str, expected: Seen, autojump_clock: trio.testing.MockClock
) -> None:
    """As a failure, as a success, or as neither."""
    assert await cancelled_calls(sloppy(cancelled_is)) == expected


@pytest.mark.parametrize("experiment", [cancelled_in_line, cancelled_at_hand_over])
async def test_lost_places_are_seen(
    experiment: Callable[[BulkheadMaker], Awaitable[Seen]],
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A bulkhead that forgets who left its line has no places in the end."""
    seen = await experiment(leaky())
    assert not seen.is_exact
    assert "0 of 5 places left" in seen.text or "0 of 2 permits" in seen.text


async def test_ours_is_exact_in_every_experiment(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each breaker and each bulkhead, in each form of use."""
    findings = await run_experiments(breakers.OURS, bulkheads.OURS)
    assert len(findings) == len(BREAKER_EXPERIMENTS) * len(breakers.OURS) + len(
        BULKHEAD_EXPERIMENTS
    ) * len(bulkheads.OURS)
    assert [finding for finding in findings if not finding.is_exact] == []


async def test_what_fails_is_a_finding_too(autojump_clock: trio.testing.MockClock) -> None:
    """A subject that never opens, that raises, or that is not installed: it says so."""

    async def never_opens(_: int, __: float) -> Guard:
        async def call(work: Work) -> None:
            await work()

        return guard_of(call)

    async def is_missing(_: int, __: int) -> Guard:
        raise ModuleNotFoundError("No module named 'absent'", name="absent")

    async def makes_nobody_wait(_: int, __: int) -> Guard:
        async def call(_: Work) -> None:
            raise OSError("no line here")

        return guard_of(call)

    findings = await run_experiments(
        [BreakerMaker("test", "never opens", never_opens)],
        [
            BulkheadMaker("test", "missing", is_missing),
            BulkheadMaker("test", "raises", makes_nobody_wait),
        ],
    )
    assert not any(finding.is_exact for finding in findings if finding.label != "never opens")
    seen = {finding.label: finding.seen for finding in findings}
    assert seen["missing"] == "not installed (absent)"
    assert seen["raises"] == "a caller got OSError: no line here"
    first = findings[0]
    assert first.seen == f"it did not open after {FAILURES} failures in a row"
