"""The tries of one request after its first: whether there may be another, and when."""

from __future__ import annotations

from collections.abc import Callable

import trio

from bulkhead_trio.errors import (
    AddressForbidden,
    NoUpstream,
    UpstreamBodyTooLarge,
    UpstreamError,
    UpstreamUnreachable,
)
from bulkhead_trio.gateway.exchange import Body
from bulkhead_trio.gateway.route import IDEMPOTENT, Retrying
from bulkhead_trio.policies.retry import Reason


class NotGoodEnough(UpstreamError):
    """An answer that is the upstream's failure, where something better may be had."""


class Retries:
    """Plans a request's further tries; each is granted by the route's budget.

    Args:
        retrying: when the route sends again.
        method: of the request.
        deadline: on Trio's clock; what would begin later is not planned.
        random: gives numbers from 0 up to but not including 1, for jitter.

    Attributes:
        tries: that have begun.
    """

    __slots__ = ("_deadline", "_method", "_planned", "_random", "_retrying", "tries")

    def __init__(
        self, retrying: Retrying, method: str, deadline: float, random: Callable[[], float]
    ) -> None:
        self.tries = 0
        self._retrying = retrying
        self._method = method
        self._deadline = deadline
        self._random = random
        self._planned: tuple[float, int] | None = None
        retrying.budget.count_call()

    def replace(self, status: int, body: Body | bytes | None) -> bool:
        """Whether an answer with this status is to make way for another try, which is planned then.

        Decided while the answer is still there: where no other try may be made, it is passed on.
        """
        return status in self._retrying.statuses and self._may_repeat(body) and self._plan()

    def give_back(self) -> None:
        """What was planned when an answer came does not happen: something else went wrong."""
        if self._planned is not None:
            (_, grant), self._planned = self._planned, None
            self._retrying.budget.give_back(grant)

    async def wait(self, error: Exception, body: Body | bytes | None) -> bool:
        """Wait for the try after one that ended with ``error``; whether there is to be one."""
        if self._planned is None and not (self._is_worth_another(error, body) and self._plan()):
            return False
        assert self._planned is not None  # noqa: S101  it was just made
        (seconds, grant), self._planned = self._planned, None
        try:
            await trio.sleep(seconds)
        except BaseException:
            self._retrying.budget.give_back(grant)
            raise
        return True

    def _plan(self) -> bool:
        """Whether there is to be another try; it is granted then, and counted."""
        schedule = self._retrying.schedule
        seconds = schedule.wait(
            self.tries,
            delay=schedule.delay(self.tries, previous=0.0, random=self._random()),
            retry_after=None,
            now=trio.current_time(),
            deadline=self._deadline,
        )
        if isinstance(seconds, Reason):
            return False
        grant = self._retrying.budget.take_nowait()
        if grant is None:
            return False
        self._planned = (seconds, grant)
        return True

    def _is_worth_another(self, error: Exception, body: Body | bytes | None) -> bool:
        if isinstance(error, AddressForbidden | NoUpstream | UpstreamBodyTooLarge | NotGoodEnough):
            return False
        if isinstance(error, UpstreamUnreachable):
            return True  # nobody has seen it
        return isinstance(error, UpstreamError) and self._may_repeat(body)

    def _may_repeat(self, body: Body | bytes | None) -> bool:
        if self._method not in IDEMPOTENT and not self._retrying.non_idempotent:
            return False
        if isinstance(body, Body):
            return body.can_be_sent_again
        return body is None or len(body) <= self._retrying.keeps
