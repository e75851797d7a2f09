"""Work for retries to try, and a short look at what they gave up."""

from __future__ import annotations

import trio

from bulkhead_trio.policies.retry import Reason, Retry


class Script:
    """Work that raises or returns, one after the other, what it is told, and notes when."""

    def __init__(self, *outcomes: object, takes: float = 0.0) -> None:
        self._outcomes = list(outcomes)
        self._takes = takes
        self.begun: list[float] = []

    async def __call__(self) -> object:
        self.begun.append(trio.current_time())
        await trio.sleep(self._takes)
        outcome = self._outcomes[min(len(self.begun), len(self._outcomes)) - 1]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def given_up(retry: Retry) -> dict[Reason, int]:
    return {reason: count for reason, count in retry.statistics().gave_up.items() if count}
