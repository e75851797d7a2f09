"""One breaker that all instances share: this instance's end of it.

Calls pass a closed breaker without asking anybody: the state is known here. How they end is counted
here at once and told to Redis in the background, which decides; where the two disagree, because
others saw something else, its word replaces ours. Only the probe of a breaker that is open is asked
for, since all instances have but one. While Redis is away, the state that is here goes on alone; a
probe that ends meanwhile is given back when Redis is there again, without a word on how it ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import trio

from bulkhead_trio.errors import CircuitOpen, StateUnavailable
from bulkhead_trio.policies.breaker import (
    BreakerOutcome,
    BreakerState,
    BreakerStatistics,
    Consecutive,
)
from bulkhead_trio.policies.breaker._rules import (
    admitted,
    closed_at,
    ended,
    failures_of,
    has_room,
    seconds_left,
    shown,
)
from bulkhead_trio.policies.breaker._states import Closed, HalfOpen, Limits, Open, State
from bulkhead_trio.state._breaker_rules import Report, Seen, state_after, told_rules

IGNORED = BreakerOutcome.IGNORED

GRANTED, PASSES = 1, 2

MOST_GIVEN_BACK = 16
"""Probes of which it is kept in mind that Redis may still think them out. There is one at most, but
while Redis refuses our script, and nothing else, nobody knows which of those asked for it is."""

_LETTERS = {BreakerOutcome.SUCCESS: b"s", BreakerOutcome.FAILURE: b"f", IGNORED: b"i"}


class Exchange(Protocol):
    """What a breaker needs of those who carry its words to Redis."""

    @property
    def is_up(self) -> bool:
        """Whether Redis is there."""

    def changed(self, breaker: SharedBreaker, *, is_urgent: bool) -> None:
        """It has something to tell: at once, or by and by."""

    async def ask(self, breaker: SharedBreaker, token: bytes) -> Seen:
        """Tell what there is to tell, and ask for the probe.

        Raises:
            StateUnavailable: Redis is away.
        """


class SharedPermit:
    """The right to a call of one period; the calls of a closed period have one in common."""

    __slots__ = ("_breaker", "_epoch")

    def __init__(self, breaker: SharedBreaker, epoch: int) -> None:
        self._breaker = breaker
        self._epoch = epoch

    def end(self, outcome: BreakerOutcome) -> None:
        """Say how the call ended."""
        self._breaker._end(self._epoch, outcome)


class SharedProbe:
    """The one probe that all instances have; its lease is renewed until it has ended."""

    __slots__ = ("_breaker", "_token")

    def __init__(self, breaker: SharedBreaker, token: bytes) -> None:
        self._breaker = breaker
        self._token = token

    def end(self, outcome: BreakerOutcome) -> None:
        """Say how it ended."""
        self._breaker._end_probe(self._token, outcome)


class SharedBreaker:
    """A circuit breaker with the rules of `bulkhead_trio.policies.CircuitBreaker`, for many.

    Made by `SharedBreakers.breaker`.

    Attributes:
        is_closed: whether every call is let in.
        key: in Redis.
        name: for messages.
        limits: its rules.
        report: what Redis has not been told.
    """

    def __init__(
        self,
        key: bytes,
        name: str,
        limits: Limits,
        exchange: Exchange,
        new_token: Callable[[], bytes],
    ) -> None:
        self.key = key
        self.name = name
        self.is_closed = True
        self.report = Report()
        self.limits = limits
        self._exchange = exchange
        self._new_token = new_token
        self._rules = told_rules(limits)
        self._counts_all = not isinstance(limits.window, Consecutive)
        self._state: State = closed_at(trio.current_time(), limits)
        self._permit = SharedPermit(self, self._state.epoch)
        self._epoch = 0  # Redis's number of this period; 0 until that is known
        self._version = 0
        self._taken_until = 0.0  # by whoever has the probe
        self._is_asking = False
        self._probe: bytes | None = None
        self._ended_probes: list[tuple[bytes, bytes]] = []  # each with the letter of how it ended
        self._told_probes: list[tuple[bytes, bytes]] = []  # of those, what was told and not heard
        self._given_back: deque[bytes] = deque(maxlen=MOST_GIVEN_BACK)
        self._in_flight = 0
        self._published: Seen | None = None
        self._opened = self._refused = 0
        self._outcomes = dict.fromkeys(BreakerOutcome, 0)

    # --- the way in ------------------------------------------------------------------------------

    def refusal(self) -> float | None:
        """Seconds after which a call may be let in; 0 while the probe is out, ``None`` for now."""
        if self.is_closed:
            return None
        now = trio.current_time()
        if has_room(self._state, self.limits, now) and not self._is_taken(now):
            return None
        return seconds_left(self._state, now)

    def admit_nowait(self) -> SharedPermit | None:
        """Let a call in; ``None`` where it may probe, if `admit` gets it the probe.

        Raises:
            CircuitOpen: no call may start now.
        """
        if self.is_closed:
            return self._permit
        now = trio.current_time()
        if not has_room(self._state, self.limits, now) or self._is_taken(now):
            raise self._refuse(now)
        if self._exchange.is_up:
            return None
        self._move(admitted(self._state, self.limits, now))
        return SharedPermit(self, self._state.epoch)

    async def admit(self) -> SharedPermit | SharedProbe:
        """Let a call in; waits for Redis's word where it would be a probe, and not for longer.

        Raises:
            CircuitOpen: no call may start now.
        """
        permit = self.admit_nowait()
        if permit is not None:
            await trio.lowlevel.checkpoint()
            return permit
        token, self._is_asking = self._new_token(), True
        try:
            seen = await self._exchange.ask(self, token)
        except BaseException as error:
            self._given_back.append(token)  # it may have been granted, and the answer lost
            if not isinstance(error, StateUnavailable):
                raise
            seen = None
        finally:
            self._is_asking = False
        if seen is not None and seen.granted == GRANTED:
            self._probe = token
            return SharedProbe(self, token)
        permit = self.admit_nowait() if seen is None or seen.granted == PASSES else None
        if permit is None:
            raise self._refuse(trio.current_time())
        return permit

    def _is_taken(self, now: float) -> bool:
        """Whether somebody is known to have the probe, or is just asking for it."""
        return self._is_asking or (now < self._taken_until and self._exchange.is_up)

    def _refuse(self, now: float) -> CircuitOpen:
        self._refused += 1
        wait = seconds_left(self._state, now)
        why = "is open" if wait else "is half open, and its probe is out"
        return CircuitOpen(f"{self.name} {why}", retry_after=wait)

    # --- how calls end ---------------------------------------------------------------------------

    def _end(self, epoch: int, outcome: BreakerOutcome) -> None:
        self._outcomes[outcome] += 1
        state = self._state
        is_closed = type(state) is Closed
        if outcome is IGNORED and is_closed:
            return
        now = trio.current_time()
        after = ended(state, epoch, outcome, False, self.limits, now)
        counts = is_closed and epoch == state.epoch and (after is not state or self._counts_all)
        if counts and self._exchange.is_up:
            self.report.add(outcome)
            is_urgent = outcome is BreakerOutcome.FAILURE or not self._counts_all
            self._exchange.changed(self, is_urgent=is_urgent)
        if after is not state:
            self._move(after)

    def _end_probe(self, token: bytes, outcome: BreakerOutcome) -> None:
        self._outcomes[outcome] += 1
        if self._probe == token:
            self._probe, self._taken_until = None, 0.0
        if self._exchange.is_up:
            self._ended_probes.append((token, _LETTERS[outcome]))
            self._exchange.changed(self, is_urgent=True)
        else:
            self._given_back.append(token)

    # --- what Redis is told and says -------------------------------------------------------------

    def words(self, token: bytes = b"") -> tuple[bytes | int, ...]:
        """What the script is told: all that was not told yet, and who asks for the probe.

        `heard` or `not_heard` follows; what others publish has to wait until then.
        """
        self._in_flight += 1
        epoch, outcomes = self._epoch, self.report.take()
        self._told_probes += self._ended_probes
        self._told_probes += [(each, _LETTERS[IGNORED]) for each in self._given_back]
        self._ended_probes.clear()
        self._given_back.clear()
        # What is under way is told again: the script heeds the first word of a probe's end only.
        probes = [b"%b=%b" % ended for ended in self._told_probes]
        if self._probe is not None:
            probes.append(self._probe + b"=r")
        return (epoch, outcomes, b" ".join(probes), token, *self._rules)

    def heard(self, seen: Seen) -> None:
        """The script's answer to `words`."""
        self._in_flight -= 1
        if not self._in_flight:
            self._told_probes.clear()
        self._apply(seen)
        self._apply_published()

    def not_heard(self) -> None:
        """There was none: what was told may be lost."""
        self._in_flight -= 1
        self._given_back.extend(token for token, _ in self._told_probes)
        self._told_probes.clear()
        self._apply_published()

    def published(self, seen: Seen) -> None:
        """Somebody has changed it; it may have been us."""
        if self._published is None or seen.version >= self._published.version:
            self._published = seen
        self._apply_published()

    def _apply_published(self) -> None:
        # With an answer under way it is not known which of the two is newer, nor whether what was
        # told is in it already.
        if self._published is not None and not self._in_flight:
            seen, self._published = self._published, None
            if seen.version > self._version:
                self._apply(seen)

    def went_away(self) -> None:
        """Redis has gone: it will not be told what it has not been told, but whose probe ended."""
        self.report.take()
        self._given_back.extend(token for token, _ in self._ended_probes)
        self._ended_probes.clear()

    def came_back(self) -> None:
        """Redis is there again, perhaps another one: whatever it says now is news."""
        self._epoch, self._version, self._published = 0, 0, None
        self._taken_until = 0.0

    def _apply(self, seen: Seen) -> None:
        if seen.version < self._version and seen.version:
            return  # overtaken by what came another way
        now = trio.current_time()
        # Before anything was heard, this period may be any closed one.
        is_same = seen.epoch == self._epoch or (not self._epoch and seen.state == "c")
        if not is_same:
            self.report.take()
        after = state_after(
            self._state, seen, self.limits, now, is_same_epoch=is_same, report=self.report
        )
        self._epoch, self._version = seen.epoch, seen.version
        self._taken_until = now + seen.lease if seen.state == "h" else 0.0
        self._move(after)

    def _move(self, after: State) -> None:
        before, self._state = self._state, after
        self.is_closed = type(after) is Closed
        if after.epoch != before.epoch:
            self._permit = SharedPermit(self, after.epoch)
        if isinstance(after, Open) and not isinstance(before, Open):
            self._opened += 1

    # --- what it is ------------------------------------------------------------------------------

    @property
    def needs_looking_after(self) -> bool:
        """Whether Redis is to be asked from time to time, should a message have been lost."""
        return not self.is_closed or self._probe is not None or bool(self._given_back)

    def statistics(self) -> BreakerStatistics:
        """What it knows now; the calls are this instance's."""
        now, state = trio.current_time(), self._state
        tally: Any = state.tally.at(now) if isinstance(state, Closed) else state.tally
        calls = tally.calls
        has_rates = calls > 0 and self._counts_all
        probes = state.probes if isinstance(state, HalfOpen) else int(self._probe is not None)
        return BreakerStatistics(
            name=self.name,
            state=shown(state, now) if not isinstance(state, Closed) else BreakerState.CLOSED,
            failures=tally.failures if isinstance(state, Closed) else failures_of(state),
            calls=calls,
            failure_rate=tally.failures / calls if has_rates else None,
            slow_rate=0.0 if has_rates else None,
            retry_after=seconds_left(state, now),
            probes=probes,
            opened=self._opened,
            refused=self._refused,
            succeeded=self._outcomes[BreakerOutcome.SUCCESS],
            failed=self._outcomes[BreakerOutcome.FAILURE],
            ignored=self._outcomes[IGNORED],
            metrics_only=False,
        )
