"""The retry budget: what keeps many small retries from becoming one large storm."""

from __future__ import annotations

import attrs
import trio

from bulkhead_trio.policies.retry._rules import Budget


@attrs.frozen
class RetryBudgetStatistics:
    """What a retry budget holds at one moment, and has counted since it was made.

    Attributes:
        calls: first tries in the window.
        retries: retries granted in the window.
        allowed: how many there may be now.
        granted: retries granted so far, without those given back.
        refused: retries refused so far.
    """

    name: str
    calls: int
    retries: int
    allowed: int
    granted: int
    refused: int


class RetryBudget:
    """Lets retries be a share of the calls, shared by every `Retry` that is given it.

    In each ``window`` seconds, at most ``ratio`` times as many retries are granted as calls were
    begun, but always ``min_retries``: the larger of the two, not their sum. While all is well there
    is enough for everyone; when everything fails, the load grows by a fifth and not threefold.

    The share and the window of ten seconds are those of Finagle's ``RetryBudget``
    (https://finagle.github.io/blog/2016/02/08/retry-budgets), which adds its minimum on top. The
    minimum of 3, taken instead of a share that would be less, is that of Envoy's ``retry_budget``
    and failsafe-go's ``budget``; those count what is under way, this one what was begun, so that
    quick failures are held back like slow ones.

    A retry counts when it is granted, before its wait. One that never begins, because its caller is
    cancelled while it waits, is given back.

    Args:
        ratio: retries a call; above 0, at most 1.
        min_retries: retries a window that are granted however few calls there are; 0 or more.
        window: seconds.
        name: for statistics.

    Raises:
        ValueError: a number makes no sense; it is named.
    """

    def __init__(
        self,
        ratio: float = 0.2,
        *,
        min_retries: int = 3,
        window: float = 10.0,
        name: str = "",
    ) -> None:
        self.name = name
        self._budget = Budget(ratio=ratio, min_retries=min_retries, window=window)
        self._granted = 0
        self._refused = 0

    def count_call(self) -> None:
        """Count a call's first try."""
        self._budget.called(trio.current_time())

    def take_nowait(self) -> int | None:
        """Grant a retry; what is returned is for `give_back`. ``None``: there is none left."""
        grant = self._budget.take(trio.current_time())
        if grant is None:
            self._refused += 1
        else:
            self._granted += 1
        return grant

    def give_back(self, grant: int) -> None:
        """Undo what `take_nowait` granted: the retry was not made."""
        self._budget.give_back(grant, trio.current_time())
        self._granted -= 1

    def statistics(self) -> RetryBudgetStatistics:
        """What the budget holds now."""
        now = trio.current_time()
        return RetryBudgetStatistics(
            name=self.name,
            calls=self._budget.calls(now),
            retries=self._budget.retries(now),
            allowed=int(self._budget.allowed(now)),
            granted=self._granted,
            refused=self._refused,
        )
