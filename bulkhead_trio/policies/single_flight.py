"""Single flight: at most one call a key at any moment; whoever asks meanwhile shares its result."""

from __future__ import annotations

import functools
import math
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable
from types import TracebackType
from typing import Any, ParamSpec, TypeAlias, TypeVar, TypeVarTuple, cast

import attrs
import trio

from bulkhead_trio.errors import DeadlineExceeded, DeadlineUnreachable
from bulkhead_trio.policies._arguments import innermost_arguments
from bulkhead_trio.policies._checks import check_duration, check_seconds, check_whole
from bulkhead_trio.policies._single_flight_rules import (
    Age,
    Lifetime,
    Shelf,
    may_still_make_it,
)
from bulkhead_trio.policies.listeners import tell
from bulkhead_trio.policies.policy import Kind, Policy, check_async

P = ParamSpec("P")
T = TypeVar("T")
Args = TypeVarTuple("Args")

MOST_KEYS_UNLESS_SAID = 10_000
"""Results kept by a flight with a ``ttl`` that was given no ``max_keys``: no cache is unbounded."""


@attrs.frozen
class SingleFlightStatistics:
    """What a single flight holds at one moment, and has counted since it was made.

    Attributes:
        in_flight: calls under way.
        waiting: callers that wait for one of those.
        led: calls that were run, those of new leaders included.
        shared: callers that were served by a call of somebody else, with a result or an error.
        handed_over: times that a waiter had to take a call over.
        hits: callers that were served a fresh kept result.
        stale_hits: callers that were served a stale one while somebody got a new one.
        entries: results kept.
    """

    name: str
    in_flight: int
    waiting: int
    led: int
    shared: int
    handed_over: int
    hits: int
    stale_hits: int
    entries: int


@attrs.frozen
class FlightLanded:
    """A call has ended and served ``shared`` callers besides its own.

    Attributes:
        error: what it ended with, if anything.
    """

    flight: str
    key: Hashable
    shared: int
    error: Exception | None
    at: float


@attrs.frozen
class FlightHandedOver:
    """A leader has gone without an end, and the waiter who was there first runs its own call."""

    flight: str
    key: Hashable
    waiting: int
    at: float


SingleFlightEvent: TypeAlias = FlightLanded | FlightHandedOver


@attrs.define(eq=False)
class _Waiter:
    """A caller that waits; whoever wakes it has set what it wakes to."""

    task: trio.lowlevel.Task
    deadline: float
    is_leader: bool = False
    value: Any = None
    error: Exception | None = None
    traceback: TracebackType | None = None


class _Flight:
    """One key's call under way, and those who wait for it, in the order they came."""

    __slots__ = ("leader", "waiters")

    def __init__(self, leader: trio.lowlevel.Task) -> None:
        self.leader = leader
        self.waiters: dict[_Waiter, None] = {}


class SingleFlight:
    """Runs at most one call a key at any moment, and gives its result to all who ask meanwhile.

    The first to ask leads: it runs its call in its own task, under its own deadline. The others
    wait, each under its own.

    * A leader that is cancelled, or whose deadline passes, hands over to whoever has waited
      longest, who runs its own function. The others go on waiting.
    * A waiter that is cancelled goes, and nobody notices.
    * An error is shared, like a result: the same exception object is raised in each caller, its
      traceback beginning anew each time with the leader's.
    * But where the leader's own time was too short (`DeadlineUnreachable`, or `DeadlineExceeded` at
      its deadline), the error is not shared with waiters who have more: their first takes over.

    With a ``ttl`` results are kept. A fresh one is returned at once. While it is stale, the first
    caller who asks gets a new one, in its own task, and waits for that; everybody else is returned
    the old one at once meanwhile. Errors are not kept: where getting a new one fails, its caller
    has the error, the old one stays for as long as it would have, and the next to ask tries again.

    Args:
        ttl: seconds a result is fresh; ``None`` keeps nothing.
        stale: seconds after these in which an old result is returned while one caller gets a new
            one.
        max_keys: results kept; the one kept longest ago makes room. Calls under way have no part
            in this.
        name: for statistics and listeners.
        listeners: told of `FlightLanded` and `FlightHandedOver`.

    Raises:
        ValueError: a number makes no sense; it is named.
    """

    def __init__(
        self,
        *,
        ttl: float | None = None,
        stale: float = 0.0,
        max_keys: int = MOST_KEYS_UNLESS_SAID,
        name: str = "",
        listeners: Iterable[Callable[[SingleFlightEvent], None]] = (),
    ) -> None:
        check_seconds("stale", stale)
        check_whole("max_keys", max_keys, minimum=1)
        self._shelf: Shelf[Any] | None = None
        if ttl is not None:
            check_duration("ttl", ttl)
            self._shelf = Shelf(max_keys, Lifetime(ttl, stale))
        elif stale:
            raise ValueError("stale must be 0 where there is no ttl: nothing is kept")
        self.name = name
        self._listeners = tuple(listeners)
        self._flights: dict[Hashable, _Flight] = {}
        self._in_flight = 0
        self._waiting = 0
        self._led = 0
        self._shared = 0
        self._handed_over = 0
        self._hits = 0
        self._stale_hits = 0

    async def call(self, key: Hashable, work: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """The result of ``await work(*args)``, run here or by whoever leads for ``key`` now.

        ``key`` has to hold all that the result depends on, the tenant first of all: everybody who
        asks with an equal key gets the very same object.

        Raises:
            Exception: what the leader's ``work`` raised.
            RuntimeError: the task leads for ``key`` already, and would wait for itself.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        flight = self._flights.get(key)
        if self._shelf is not None:
            age, kept = self._shelf.look(key, trio.current_time())
            if kept is not None and (age is Age.FRESH or flight is not None):
                if age is Age.FRESH:
                    self._hits += 1
                else:
                    self._stale_hits += 1
                await trio.lowlevel.cancel_shielded_checkpoint()
                return cast("T", kept.value)
        task = trio.lowlevel.current_task()
        if flight is None:
            flight = self._flights[key] = _Flight(task)
            self._in_flight += 1
        else:
            waiter = await self._wait(flight, task)
            if not waiter.is_leader:
                return cast("T", _unpacked(waiter))
        return await self._lead(key, flight, work, args)

    def keyed(self, key_function: Callable[..., Hashable]) -> KeyedSingleFlight:
        """This flight as a policy, for a `Pipeline` or as a decorator.

        Args:
            key_function: makes the key of a call's own arguments, those that the innermost
                function is called with.
        """
        return KeyedSingleFlight(self, key_function)

    def forget(self, key: Hashable) -> None:
        """Drop what is known of ``key``: the next to ask gets a new result.

        A call under way still serves those who wait for it, and is not kept: it may have read what
        is out of date by now.
        """
        self._flights.pop(key, None)
        if self._shelf is not None:
            self._shelf.drop(key)

    def statistics(self) -> SingleFlightStatistics:
        """What the single flight holds now."""
        return SingleFlightStatistics(
            name=self.name,
            in_flight=self._in_flight,
            waiting=self._waiting,
            led=self._led,
            shared=self._shared,
            handed_over=self._handed_over,
            hits=self._hits,
            stale_hits=self._stale_hits,
            entries=0 if self._shelf is None else len(self._shelf),
        )

    # --- inside ----------------------------------------------------------------------------------

    async def _wait(self, flight: _Flight, task: trio.lowlevel.Task) -> _Waiter:
        if flight.leader is task:
            raise RuntimeError("a call inside its own flight would wait for itself")
        waiter = _Waiter(task, trio.current_effective_deadline())
        flight.waiters[waiter] = None
        self._waiting += 1

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            del flight.waiters[waiter]
            self._waiting -= 1
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        return waiter

    async def _lead(
        self,
        key: Hashable,
        flight: _Flight,
        work: Callable[[*Args], Awaitable[T]],
        args: tuple[*Args],
    ) -> T:
        self._led += 1
        try:
            result = await work(*args)
        except (DeadlineExceeded, DeadlineUnreachable) as error:
            self._out_of_time(key, flight, error)
            raise
        except Exception as error:
            self._land(key, flight, error=error)
            raise
        except BaseException:
            # Cancelled, alone or in a group, or the end of the program: it is about this caller.
            self._hand_over(key, flight)
            raise
        self._land(key, flight, result)
        return result

    def _out_of_time(self, key: Hashable, flight: _Flight, error: Exception) -> None:
        """Share ``error`` with whom it is true of; the others still have a call to come."""
        own, now = trio.current_effective_deadline(), trio.current_time()
        was_refused = isinstance(error, DeadlineUnreachable)
        may_still = {
            waiter
            for waiter in flight.waiters
            if may_still_make_it(
                waiter_deadline=waiter.deadline,
                leader_deadline=own,
                now=now,
                was_refused=was_refused,
            )
        }
        if not may_still:
            self._land(key, flight, error=error)
            return
        for waiter in [waiter for waiter in flight.waiters if waiter not in may_still]:
            self._serve(flight, waiter, None, error)
        self._hand_over(key, flight)

    def _hand_over(self, key: Hashable, flight: _Flight) -> None:
        waiter = next(iter(flight.waiters), None)
        if waiter is None:
            self._remove(key, flight)
            return
        waiter.is_leader = True
        flight.leader = waiter.task
        self._handed_over += 1
        self._wake(flight, waiter)
        if self._listeners:
            now = trio.current_time()
            tell(self._listeners, FlightHandedOver(self.name, key, len(flight.waiters), now))

    def _land(
        self, key: Hashable, flight: _Flight, result: Any = None, error: Exception | None = None
    ) -> None:
        is_known = self._remove(key, flight)
        if error is None and is_known and self._shelf is not None:
            self._shelf.keep(key, result, trio.current_time())
        served = len(flight.waiters)
        for waiter in list(flight.waiters):
            self._serve(flight, waiter, result, error)
        if self._listeners:
            now = trio.current_time()
            tell(self._listeners, FlightLanded(self.name, key, served, error, now))

    def _remove(self, key: Hashable, flight: _Flight) -> bool:
        """End a flight; says whether it was still the one of its key."""
        self._in_flight -= 1
        if self._flights.get(key) is not flight:
            return False
        del self._flights[key]
        return True

    def _serve(
        self, flight: _Flight, waiter: _Waiter, result: Any, error: Exception | None
    ) -> None:
        waiter.value = result
        if error is not None:
            waiter.error = error
            waiter.traceback = error.__traceback__
        self._shared += 1
        self._wake(flight, waiter)

    def _wake(self, flight: _Flight, waiter: _Waiter) -> None:
        """From here on the waiter cannot be cancelled out of its wait: it goes on, as told."""
        del flight.waiters[waiter]
        self._waiting -= 1
        trio.lowlevel.reschedule(waiter.task)


class KeyedSingleFlight(Policy):
    """A `SingleFlight` that knows how to make the key: made by `SingleFlight.keyed`.

    In a `Pipeline` the key is made of the arguments of the innermost function, whatever policies
    are between.
    """

    kind = Kind.SINGLE_FLIGHT
    max_wait = math.inf

    def __init__(self, flight: SingleFlight, key_function: Callable[..., Hashable]) -> None:
        self.name = flight.name
        self._flight = flight
        self._key_function = key_function

    async def call(self, work: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Run ``await work(*args)``, or share the result of who runs it; see `SingleFlight.call`.

        Raises:
            Exception: what the leader's ``work`` raised, or the key function.
        """
        positional, keywords = innermost_arguments(work, args)
        key = self._key_function(*positional, **keywords)
        return await self._flight.call(key, work, *args)

    def __call__(self, function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        """Decorate an async function: calls of it with an equal key at one time are one call.

        Raises:
            TypeError: it is no function, or one that nobody can await.
        """
        check_async(function)

        @functools.wraps(function)
        async def shared(*args: P.args, **kwargs: P.kwargs) -> T:
            key = self._key_function(*args, **kwargs)
            return await self._flight.call(key, functools.partial(function, *args, **kwargs))

        return shared

    def statistics(self) -> SingleFlightStatistics:
        """What the single flight holds now."""
        return self._flight.statistics()


def _unpacked(waiter: _Waiter) -> Any:
    """What a waiter was served with, returned or raised."""
    error, waiter.error = waiter.error, None
    if error is None:
        return waiter.value
    # One object is raised in many tasks. Each raise begins with the leader's traceback, as
    # asyncio's futures do it, or it would grow with every waiter and keep all their frames. What
    # is in a frame of that traceback must not hold the error: that would be a cycle.
    start, waiter.traceback = waiter.traceback, None
    try:
        raise error.with_traceback(start)
    finally:
        del error, start
