"""Looks now and then how much work there is in the database, for those who ask for numbers."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import trio

from bulkhead_trio.database.work_records import Backlog
from bulkhead_trio.delivery.backoff import STORE_SECONDS, Backoff, is_outage
from bulkhead_trio.delivery.supervision import Supervisor
from bulkhead_trio.policies.deadline import deadline

EVERY_SECONDS: Final = 2.0
"""Between two looks; numbers are never older by much than that, while the database is there."""

SHARE: Final = 0.05
"""Of one connection's time that looking may take: where it is dear, it is done less often."""

UNKNOWN: Final = Backlog(pending=0, retrying=0, dead=0, leased=0)
"""Before anybody has looked."""


class BacklogWatch:
    """Keeps the last numbers of each kind of work; `run` renews them.

    Args:
        looks: how each kind is looked at.
        every_seconds: between two looks at least.
        uniform: a source of numbers in [0, 1).
    """

    def __init__(
        self,
        looks: Mapping[str, Callable[[], Awaitable[Backlog]]],
        *,
        every_seconds: float = EVERY_SECONDS,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._looks = dict(looks)
        self._every_seconds = every_seconds
        self._uniform = uniform
        self._seen = dict.fromkeys(looks, UNKNOWN)
        self._backoff = Backoff("counting deliveries", uniform=uniform)
        self._supervisor = Supervisor("the count of deliveries")

    def __getitem__(self, kind: str) -> Backlog:
        """What was there at the last look."""
        return self._seen[kind]

    @property
    def crashes(self) -> int:
        """How often its task had to be started again."""
        return self._supervisor.crashes

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled."""
        task_status.started()
        await self._supervisor.run(self._look_always)

    async def _look_always(self) -> None:
        while True:
            began = trio.current_time()
            try:
                await self._look()
            except Exception as error:
                if not is_outage(error):
                    raise
                await self._backoff.wait_after(error)
            else:
                took = trio.current_time() - began
                pause = max(self._every_seconds, took / SHARE)
                await trio.sleep(pause * (0.75 + self._uniform() / 2))

    async def _look(self) -> None:
        for kind, look in self._looks.items():
            with deadline(STORE_SECONDS):
                self._seen[kind] = await look()
        self._backoff.succeeded()
