"""The client-side throttle: spares an overloaded backend the work of refusing."""

from __future__ import annotations

import random as _random
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Self, TypeVar, TypeVarTuple

import attrs
import trio

from bulkhead_trio.errors import Rejected, Throttled
from bulkhead_trio.policies._matching import Errors, leaves, matcher
from bulkhead_trio.policies.listeners import tell
from bulkhead_trio.policies.policy import Kind, Policy
from bulkhead_trio.policies.throttle._rules import Acceptance

T = TypeVar("T")
Args = TypeVarTuple("Args")


@attrs.frozen
class ThrottleStatistics:
    """What a throttle knows at one moment, and has counted since it was made.

    Attributes:
        requests: calls wanted in the window, those refused here included.
        accepts: those of them that were accepted.
        refusal_probability: how likely the next call is to be refused here.
        accepted: calls accepted so far.
        rejected: calls sent and not accepted so far.
        refused: calls refused here so far.
    """

    name: str
    requests: int
    accepts: int
    refusal_probability: float
    accepted: int
    rejected: int
    refused: int


@attrs.frozen
class ThrottleRefused:
    """A call was refused here, as was likely by ``probability``."""

    throttle: str
    probability: float
    at: float


class Throttle(Policy):
    """Refuses calls here with the probability with which the backend has refused lately.

    While the backend accepts at least one call in ``k``, nothing is refused. Beyond that, each call
    is refused with the probability ``(requests - k * accepts) / (requests + 1)`` of the last
    ``window`` seconds. Calls refused here count as requests too; so when the backend accepts
    nothing, fewer and fewer are sent, but never none, and when it accepts again, they grow again.

    A call that ends with an error of ``rejected_on`` was not accepted; of a group of errors one is
    enough. Every other result and error was accepted: the backend did the work. A call that is
    cancelled, here or by a deadline further out, counts neither way.

    Args:
        k: calls that may be wanted for each one accepted; 1 or more. Less spares the backend more,
            more finds out sooner that it is well again.
        window: seconds that are looked back on.
        min_requests: calls in the window below which nothing is refused; 0 as published, where one
            refusal alone already makes the next call's chances even.
        rejected_on: which errors say that the backend did not accept: types, or a function that
            gets one; by default what is `Rejected`.
        random: gives numbers in [0, 1).
        name: for statistics, listeners and messages.
        listeners: told of `ThrottleRefused`.

    Raises:
        ValueError: a parameter makes no sense; it is named.
    """

    kind = Kind.THROTTLE

    def __init__(
        self,
        k: float = 2.0,
        window: float = 120.0,
        *,
        min_requests: int = 0,
        rejected_on: Errors = Rejected,
        random: Callable[[], float] = _random.random,
        name: str = "",
        listeners: Iterable[Callable[[ThrottleRefused], None]] = (),
    ) -> None:
        self._acceptance = Acceptance(k=k, window=window, min_requests=min_requests)
        self.name = name
        self._is_rejection = matcher("rejected_on", rejected_on)
        self._random = random
        self._listeners = tuple(listeners)
        self._accepted = 0
        self._rejected = 0
        self._refused = 0

    async def call(self, work: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Run ``await work(*args)``, or refuse to.

        Raises:
            Throttled: refused here; there is no time to come back that would be better than others.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._admit()
        try:
            result = await work(*args)
        except Exception as error:
            self._count(error)
            raise
        self._count(None)
        return result

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        self._admit()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None or isinstance(exc, Exception):
            self._count(exc)

    def statistics(self) -> ThrottleStatistics:
        """What the throttle knows now."""
        now = trio.current_time()
        return ThrottleStatistics(
            name=self.name,
            requests=self._acceptance.requests(now),
            accepts=self._acceptance.accepts(now),
            refusal_probability=self._acceptance.probability(now),
            accepted=self._accepted,
            rejected=self._rejected,
            refused=self._refused,
        )

    def _admit(self) -> None:
        now = trio.current_time()
        probability = self._acceptance.refusal(now, self._random())
        if not probability:
            return
        self._refused += 1
        if self._listeners:
            tell(self._listeners, ThrottleRefused(self.name, probability, now))
        raise Throttled(f"{self.name or 'throttle'}: too many calls have been refused lately")

    def _count(self, error: Exception | None) -> None:
        now = trio.current_time()
        if error is not None and any(self._is_rejection(leaf) for leaf in leaves(error)):
            self._rejected += 1
            self._acceptance.rejected(now)
        else:
            self._accepted += 1
            self._acceptance.accepted(now)
