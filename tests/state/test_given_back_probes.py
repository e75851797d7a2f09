"""Probes that end while Redis cannot be told: given back as soon as it can."""

from __future__ import annotations

import itertools
import math

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.errors import CircuitOpen, StateUnavailable
from bulkhead_trio.policies.breaker import BreakerOutcome, Consecutive
from bulkhead_trio.policies.breaker._states import limits_of
from bulkhead_trio.state._breaker_rules import Seen
from bulkhead_trio.state.breaker import MOST_GIVEN_BACK, SharedBreaker

SUCCESS, FAILURE, IGNORED = BreakerOutcome.SUCCESS, BreakerOutcome.FAILURE, BreakerOutcome.IGNORED
COOLDOWN = 10.0
LIMITS = limits_of(
    window=Consecutive(1),
    failure_rate_threshold=None,
    slow_call_duration_threshold=None,
    slow_call_rate_threshold=None,
    minimum_number_of_calls=None,
    wait_in_open=COOLDOWN,
    permitted_calls_in_half_open=1,
    success_threshold=1,
    max_wait_in_half_open=None,
)


class ScriptedExchange:
    """Behaves as `SharedBreakers` with a Redis that is half open, and has one probe to give.

    Attributes:
        is_up: whether Redis answers.
        is_deaf: it takes what is said, and its answers are lost.
        holder: who has the probe.
        heard: what it was told of probes.
    """

    def __init__(self) -> None:
        self.is_up = True
        self.is_deaf = False
        self.holder = b""
        self.heard: list[bytes] = []
        self.changes = 0

    def changed(self, breaker: SharedBreaker, *, is_urgent: bool) -> None:  # noqa: ARG002
        self.changes += 1

    async def ask(self, breaker: SharedBreaker, token: bytes) -> Seen:
        await trio.lowlevel.checkpoint()
        return self.tell(breaker, token)

    def tell(self, breaker: SharedBreaker, token: bytes = b"") -> Seen:
        """One round trip."""
        words = breaker.words(token)
        if not self.is_up:
            breaker.not_heard()
            raise StateUnavailable("scripted: away")
        for probe in bytes(words[2]).split():
            self.heard.append(probe)
            who, _, how = probe.partition(b"=")
            if who == self.holder and how != b"r":
                self.holder = b""
        granted = int(bool(token) and not self.holder)
        self.holder = token if granted else self.holder
        if self.is_deaf:
            breaker.not_heard()
            raise StateUnavailable("scripted: too late")
        lease = 3.0 if self.holder else 0.0
        seen = Seen("h", 7, 1, 1, 0.0, 1, lease, granted)
        breaker.heard(seen)
        return seen


async def open_breaker(exchange: ScriptedExchange) -> SharedBreaker:
    """One whose cooldown is over."""
    numbers = itertools.count(1)
    breaker = SharedBreaker(b"key", "it", LIMITS, exchange, lambda: b"t-%d" % next(numbers))
    permit = breaker.admit_nowait()
    assert permit is not None
    permit.end(FAILURE)
    await trio.sleep(COOLDOWN + 1)
    return breaker


@pytest.mark.parametrize("outcome", [SUCCESS, FAILURE, IGNORED])
async def test_probe_that_ends_while_redis_is_away_is_given_back(
    autojump_clock: MockClock, outcome: BreakerOutcome
) -> None:
    """With the first words when it is back, and without saying how it ended: others may probe."""
    exchange = ScriptedExchange()
    breaker = await open_breaker(exchange)
    probe = await breaker.admit()
    exchange.is_up = False
    probe.end(outcome)
    breaker.went_away()
    exchange.is_up = True
    breaker.came_back()
    exchange.tell(breaker)
    assert (exchange.holder, exchange.heard[-1]) == (b"", b"t-1=i")
    assert breaker.refusal() is None


async def test_probe_whose_end_was_not_heard_is_given_back(autojump_clock: MockClock) -> None:
    """Told, and lost on the way: told again, whatever was lost."""
    exchange = ScriptedExchange()
    breaker = await open_breaker(exchange)
    probe = await breaker.admit()
    probe.end(IGNORED)
    exchange.is_up = False
    with pytest.raises(StateUnavailable):
        exchange.tell(breaker)
    breaker.went_away()
    exchange.is_up = True
    breaker.came_back()
    exchange.tell(breaker)
    assert (exchange.holder, exchange.heard) == (b"", [b"t-1=i"])
    exchange.tell(breaker)
    assert exchange.heard == [b"t-1=i"], "once it was heard it is not said again"


async def test_probe_that_was_granted_and_never_heard_of_is_given_back(
    autojump_clock: MockClock,
) -> None:
    """Redis has it out, nobody here has it; the next who asks gets the next one."""
    exchange = ScriptedExchange()
    breaker = await open_breaker(exchange)
    exchange.is_deaf = True
    with pytest.raises(CircuitOpen):
        await breaker.admit()
    assert exchange.holder == b"t-1"
    exchange.is_deaf = False
    assert breaker.needs_looking_after
    (await breaker.admit()).end(IGNORED)
    assert exchange.heard == [b"t-1=i"]
    exchange.tell(breaker)
    assert exchange.holder == b""


async def test_probe_that_goes_on_while_redis_is_away_is_kept(autojump_clock: MockClock) -> None:
    """It is renewed, and its outcome counts."""
    exchange = ScriptedExchange()
    breaker = await open_breaker(exchange)
    probe = await breaker.admit()
    exchange.is_up = False
    breaker.went_away()
    exchange.is_up = True
    breaker.came_back()
    exchange.tell(breaker)
    assert (exchange.holder, exchange.heard) == (b"t-1", [b"t-1=r"])
    probe.end(SUCCESS)
    exchange.tell(breaker)
    assert exchange.heard[-1] == b"t-1=s"


async def test_what_is_to_be_given_back_is_bounded(autojump_clock: MockClock) -> None:
    """However long Redis refuses to say anything."""
    exchange = ScriptedExchange()
    breaker = await open_breaker(exchange)
    exchange.is_deaf = True
    for _ in range(3 * MOST_GIVEN_BACK):
        with pytest.raises(CircuitOpen):
            await breaker.admit()
    exchange.heard.clear()
    exchange.is_deaf = False
    exchange.tell(breaker)
    assert len(exchange.heard) == MOST_GIVEN_BACK
    assert math.isclose(breaker.refusal() or 0.0, 0.0)
