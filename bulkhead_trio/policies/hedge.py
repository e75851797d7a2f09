"""Hedging: a second try while the first is late, and the first answer wins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Generic, TypeAlias, TypeVar, TypeVarTuple

import attrs
import trio

from bulkhead_trio.errors import CallerError, Rejected
from bulkhead_trio.policies._checks import check_seconds, check_share, check_whole
from bulkhead_trio.policies._hedge_rules import LEAST_SAMPLES, SAMPLES_KEPT, Latencies, Race
from bulkhead_trio.policies.listeners import tell
from bulkhead_trio.policies.policy import Kind, Policy

T = TypeVar("T")
Args = TypeVarTuple("Args")


@attrs.frozen
class HedgeStatistics:
    """What a hedge holds at one moment, and has counted since it was made.

    Attributes:
        active: calls under way.
        calls: calls that came in.
        hedges: tries beyond each call's first.
        wins: calls won by the first try, the second, and so on.
        failed: calls of which every try failed or was refused.
        cancelled: tries that were cut off because another had won.
        samples: latencies that the quantile is taken of.
        delay: seconds after which a hedge would start now.
    """

    name: str
    active: int
    calls: int
    hedges: int
    wins: tuple[int, ...]
    failed: int
    cancelled: int
    samples: int
    delay: float


@attrs.frozen
class HedgeStarted:
    """A further try of a call has started, ``after`` seconds; the first hedge is number 1."""

    hedge: str
    number: int
    after: float
    at: float


@attrs.frozen
class HedgeEnded:
    """A call that was hedged has ended, and nothing of it runs any more.

    Attributes:
        winner: the number of the try that won, 0 for the first; ``None`` where all failed.
        tries: how many were started.
        seconds: how long the call took.
    """

    hedge: str
    winner: int | None
    tries: int
    seconds: float
    at: float


HedgeEvent: TypeAlias = HedgeStarted | HedgeEnded


class Hedge(Policy):
    """Tries again while a try is late; the first success wins, the others are cancelled and gone.

    When `call` returns or raises, no try is running any more. The tries are tasks of a nursery
    inside the call, so its deadline, its cancellation and its context hold for each of them.

    * A try that fails starts the next at once, while there are some left; while others run, the
      call waits for them.
    * A refusal (`Rejected`) or the caller's own mistake (`CallerError`) starts nothing: more load
      is no answer to something that protects itself, and the same request would be as wrong again.
    * Where all have failed, the first failure is raised, as it is and in no group; a refusal only
      where every try was refused.
    * What a try raises while it is being cut off is dropped: the call has its result.

    Args:
        delay: seconds a try may take before the next one starts.
        max_hedges: tries beyond the first; 1 or more.
        quantile: start a hedge after this quantile of the observed latencies instead, such as 0.95;
            ``delay`` counts until there are ``minimum_samples``. What is observed is the first try
            of each call, up to its success, or for as long as it ran before it was cut off.
        minimum_samples: how many latencies make a quantile.
        window: how many latencies are kept, the newest.
        name: for statistics and listeners.
        listeners: told of `HedgeStarted` and `HedgeEnded`, of calls with more than one try.

    Raises:
        ValueError: a number makes no sense; it is named.
    """

    kind = Kind.HEDGE

    def __init__(
        self,
        delay: float,
        max_hedges: int = 1,
        *,
        quantile: float | None = None,
        minimum_samples: int = LEAST_SAMPLES,
        window: int = SAMPLES_KEPT,
        name: str = "",
        listeners: Iterable[Callable[[HedgeEvent], None]] = (),
    ) -> None:
        check_seconds("delay", delay)
        check_whole("max_hedges", max_hedges, minimum=1)
        if quantile is not None:
            check_share("quantile", quantile)
        check_whole("minimum_samples", minimum_samples, minimum=1)
        check_whole("window", window, minimum=1)
        if window < minimum_samples:
            raise ValueError(f"window must be minimum_samples or more, not {window!r}")
        self.name = name
        self._delay = delay
        self._most = 1 + max_hedges
        self._quantile = quantile
        self._minimum_samples = minimum_samples
        self._latencies = Latencies(window)
        self._listeners = tuple(listeners)
        self._active = 0
        self._calls = 0
        self._hedges = 0
        self._wins = [0] * self._most
        self._failed = 0
        self._cancelled = 0

    async def call(self, work: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Run ``await work(*args)``, a few times over where it is late or fails.

        ``work`` has to stand being run several times at once, and being cut off.

        Raises:
            Exception: the first that a try raised, where all of them failed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._calls += 1
        self._active += 1
        tries = _Tries[T](self, self._most)
        try:
            await tries.run(work, args)
        finally:
            self._active -= 1
        return self._conclude(tries)

    def current_delay(self) -> float:
        """Seconds after which a hedge would start now."""
        if self._quantile is None or len(self._latencies) < self._minimum_samples:
            return self._delay
        return self._latencies.quantile(self._quantile)

    def statistics(self) -> HedgeStatistics:
        """What the hedge holds now."""
        return HedgeStatistics(
            name=self.name,
            active=self._active,
            calls=self._calls,
            hedges=self._hedges,
            wins=tuple(self._wins),
            failed=self._failed,
            cancelled=self._cancelled,
            samples=len(self._latencies),
            delay=self.current_delay(),
        )

    def _conclude(self, tries: _Tries[T]) -> T:
        winner = tries.winner
        if winner is None:
            self._failed += 1
        else:
            self._wins[winner.number] += 1
        if self._listeners and tries.race.started > 1:
            now = trio.current_time()
            ended = HedgeEnded(
                self.name,
                None if winner is None else winner.number,
                tries.race.started,
                now - tries.began,
                now,
            )
            tell(self._listeners, ended)
        if winner is None:
            raise tries.error()
        return winner.result

    # --- called by tries -------------------------------------------------------------------------

    def _started(self, number: int, after: float, now: float) -> None:
        if number == 0:
            return
        self._hedges += 1
        if self._listeners:
            tell(self._listeners, HedgeStarted(self.name, number, after, now))

    def _observed(self, seconds: float) -> None:
        if self._quantile is not None:
            self._latencies.add(seconds)

    def _cut_off(self) -> None:
        self._cancelled += 1


@attrs.frozen
class _Winner(Generic[T]):
    number: int
    result: T


class _Tries(Generic[T]):
    """The tries of one call, from the first start until none of them runs."""

    def __init__(self, hedge: Hedge, most: int) -> None:
        self.race = Race(most)
        self.winner: _Winner[T] | None = None
        self.began = trio.current_time()
        self._hedge = hedge
        self._errors: list[Exception] = []
        self._scopes: list[trio.CancelScope] = []
        self._news = trio.lowlevel.ParkingLot()

    async def run(self, work: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> None:
        """Start tries as they become due, until one has won or all are lost."""
        try:
            async with trio.open_nursery() as nursery:
                while self.winner is None and not self.race.is_lost():
                    now = trio.current_time()
                    due = self.race.due()
                    if due <= now:
                        self._start(nursery, now, work, args)
                        continue
                    with trio.CancelScope(deadline=due):
                        await self._news.park()
        except BaseExceptionGroup as group:
            raise _without_nursery(group) from None

    def error(self) -> Exception:
        """What to raise where all tries failed: the first failure, or else the first refusal."""
        for error in self._errors:
            if not isinstance(error, Rejected):
                return error
        return self._errors[0]

    def _start(
        self,
        nursery: trio.Nursery,
        now: float,
        work: Callable[..., Awaitable[T]],
        args: tuple[Any, ...],
    ) -> None:
        number = self.race.started
        self.race = self.race.after_start(now, self._hedge.current_delay())
        scope = trio.CancelScope()
        self._scopes.append(scope)
        nursery.start_soon(self._try, number, scope, now, work, args)
        self._hedge._started(number, now - self.began, now)

    async def _try(
        self,
        number: int,
        scope: trio.CancelScope,
        began: float,
        work: Callable[..., Awaitable[T]],
        args: tuple[Any, ...],
    ) -> None:
        try:
            with scope:
                result = await work(*args)
                self._succeeded(number, result, began)
        except Exception as error:  # noqa: BLE001  kept, and raised by the call if none succeeds
            self._failed(error)
        if scope.cancelled_caught:
            self._hedge._cut_off()
            if number == 0:
                # It would have taken longer still. Left out, the window would hold quick calls
                # only, and its quantile would fall and fall.
                self._hedge._observed(trio.current_time() - began)

    def _succeeded(self, number: int, result: T, began: float) -> None:
        if number == 0:
            self._hedge._observed(trio.current_time() - began)
        if self.winner is None:
            self.winner = _Winner(number, result)
            for other, scope in enumerate(self._scopes):
                if other != number:
                    scope.cancel()
            self._news.unpark_all()

    def _failed(self, error: Exception) -> None:
        self._errors.append(error)
        self.race = self.race.after_failure(is_final=isinstance(error, Rejected | CallerError))
        self._news.unpark_all()


def _without_nursery(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What came through the nursery, without the group that the nursery made of it.

    That is Cancelled once for each task, or with it what ends a program, such as an interrupt.
    """
    others = [error for error in group.exceptions if not isinstance(error, trio.Cancelled)]
    if not others:
        return group.exceptions[0]
    return others[0] if len(others) == 1 else group
