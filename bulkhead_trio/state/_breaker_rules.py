"""A shared breaker as one instance sees it: what Redis said, and what is on its way there.

The rules are `bulkhead_trio.policies.breaker`'s own. What is added here: how they are told to
``breaker.lua``, how its answers are read, and which state follows from an answer.
"""

from __future__ import annotations

from typing import Protocol

import attrs
import msgspec

from bulkhead_trio.policies.breaker import BreakerOutcome, Consecutive, CountWindow, TimeWindow
from bulkhead_trio.policies.breaker._rules import closed_at, ended
from bulkhead_trio.policies.breaker._states import Closed, Limits, Open, State, limits_of
from bulkhead_trio.policies.breaker._window_rules import ConsecutiveTally

MICROSECONDS = 1_000_000

MOST_RUNS = 64
"""Changes between success and failure that one report tells of; of more, the oldest are dropped."""

SUCCESS, FAILURE = BreakerOutcome.SUCCESS, BreakerOutcome.FAILURE


class BreakerRules(Protocol):
    """When a breaker opens, and how it closes again."""

    @property
    def window(self) -> Consecutive | CountWindow | TimeWindow:
        """What it looks back on."""

    @property
    def failure_rate(self) -> float | None:
        """Share of failures that opens it; not for `Consecutive`."""

    @property
    def minimum_calls(self) -> int | None:
        """Calls before a rate is looked at; not for `Consecutive`."""

    @property
    def cooldown(self) -> float:
        """Seconds from opening to the first probe."""

    @property
    def successes(self) -> int:
        """Good probes that close it, one after the other."""


def limits_from(rules: BreakerRules) -> Limits:
    """The same as the policies' own.

    Raises:
        ValueError: they make no sense; the parameter is named.
    """
    return limits_of(
        window=rules.window,
        failure_rate_threshold=rules.failure_rate,
        slow_call_duration_threshold=None,
        slow_call_rate_threshold=None,
        minimum_number_of_calls=rules.minimum_calls,
        wait_in_open=rules.cooldown,
        permitted_calls_in_half_open=1,
        success_threshold=rules.successes,
        max_wait_in_half_open=None,
    )


def told_rules(limits: Limits) -> tuple[bytes | int, ...]:
    """How ``breaker.lua`` is told: kind, size, rate, least calls, cooldown, good probes."""
    window = limits.window
    if isinstance(window, Consecutive):
        kind, size = b"c", window.failures
    elif isinstance(window, CountWindow):
        kind, size = b"n", window.size
    else:
        kind, size = b"t", max(10, round(window.seconds * MICROSECONDS))
    thresholds = limits.thresholds
    rate = repr(thresholds.failure_rate).encode()
    cooldown = round(limits.wait_in_open(1) * MICROSECONDS)
    return kind, size, rate, thresholds.minimum, cooldown, limits.successes


class Seen(msgspec.Struct, frozen=True):
    """A shared breaker as Redis had it.

    Attributes:
        state: ``c`` closed, ``o`` open, ``h`` half open.
        epoch: number of the period in that state; 0 where Redis knows nothing of it.
        version: grows with every change.
        failures: as statistics have them.
        cooldown: seconds of it that were left.
        openings: in a row.
        lease: seconds for which somebody had the probe.
        granted: 1 where the asker has it now, 2 where every call may pass.
    """

    state: str
    epoch: int
    version: int
    failures: int
    cooldown: float
    openings: int
    lease: float
    granted: int = 0


def seen_from(answer: list[bytes | int]) -> Seen:
    """Read one answer of the script."""
    state, epoch, version, failures, cooldown, openings, lease, granted = answer
    assert isinstance(state, bytes)  # noqa: S101  our own script's
    return Seen(
        state.decode(),
        int(epoch),
        int(version),
        int(failures),
        int(cooldown) / MICROSECONDS,
        int(openings),
        int(lease) / MICROSECONDS,
        int(granted),
    )


def seen_in(message: bytes) -> tuple[bytes, Seen]:
    """Read what the script publishes: the key, and what has become of it.

    Raises:
        ValueError: it is something else.
    """
    key, state, *numbers = message.rsplit(b" ", 7)
    epoch, version, failures, cooldown, openings, lease = map(int, numbers)
    seconds, leased = cooldown / MICROSECONDS, lease / MICROSECONDS
    return key, Seen(state.decode(), epoch, version, failures, seconds, openings, leased)


@attrs.define
class Report:
    """What Redis has not been told yet: outcomes in order, each with how often in a row."""

    runs: list[tuple[BreakerOutcome, int]] = attrs.field(factory=list)
    dropped: int = 0

    def __bool__(self) -> bool:
        return bool(self.runs)

    def add(self, outcome: BreakerOutcome) -> None:
        """One more, a success or a failure."""
        runs = self.runs
        if runs and runs[-1][0] is outcome:
            runs[-1] = (outcome, runs[-1][1] + 1)
            return
        if len(runs) >= MOST_RUNS:
            self.dropped += runs.pop(0)[1]
        runs.append((outcome, 1))

    def take(self) -> bytes:
        """All of it, as the script reads it; nothing is left."""
        runs, self.runs = self.runs, []
        return " ".join(
            f"{'f' if outcome is FAILURE else 's'}{times}" for outcome, times in runs
        ).encode()


def state_after(
    state: State, seen: Seen, limits: Limits, now: float, *, is_same_epoch: bool, report: Report
) -> State:
    """The state here, once Redis has said what it has.

    Args:
        state: of before.
        seen: what Redis said.
        limits: of the breaker.
        now: when.
        is_same_epoch: whether ``state`` belongs to the period that Redis speaks of.
        report: what Redis cannot know yet.
    """
    if seen.state == "c":
        return _closed_after(state, seen, limits, now, is_same_epoch, report)
    # Half open without a probe of ours is an open one whose cooldown is over: whoever comes asks.
    epoch = state.epoch if is_same_epoch and isinstance(state, Open) else state.epoch + 1
    return Open(
        epoch=epoch,
        tally=limits.window.empty(now),
        failures=seen.failures,
        openings=max(1, seen.openings),
        until=now + seen.cooldown,
    )


def _closed_after(
    state: State, seen: Seen, limits: Limits, now: float, is_same_epoch: bool, report: Report
) -> State:
    if is_same_epoch and isinstance(state, Closed):
        if not isinstance(limits.window, Consecutive):
            return state  # what others counted is not known here, and Redis counts it all
        after: State = state
    else:
        if is_same_epoch and report:
            return state  # opened here, by what Redis does not know yet
        after = closed_at(now, limits, state.epoch + 1)
        if not isinstance(limits.window, Consecutive):
            return after
    if after.tally.failures != seen.failures or report:
        after = Closed(after.epoch, ConsecutiveTally(limits.window.failures, seen.failures))
        for outcome, times in report.runs if is_same_epoch else ():
            for _ in range(min(times, limits.window.failures)):
                after = ended(after, after.epoch, outcome, False, limits, now)
    return after
