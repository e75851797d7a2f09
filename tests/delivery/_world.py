"""A receiver that does as it is told, and pipelines that send to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import attrs
import trio
import trio.testing

from bulkhead_trio.database.delivery_records import AttemptRecord
from bulkhead_trio.database.work_records import Finished, NotificationWork, WebhookWork
from bulkhead_trio.delivery._schedule_rules import RetrySchedule
from bulkhead_trio.delivery.pipeline import DeliveryPipeline

from ._memory_store import MemoryDatabase, moment

AnyWork = WebhookWork | NotificationWork
SCHEDULE = RetrySchedule((5.0, 300.0))


@attrs.define(eq=False)
class Receiver:
    """Where sends end up.

    Attributes:
        seconds: what a send takes; by queue, where that differs.
        fails: queues whose sends fail.
        stuck: queues whose sends never end.
        defers: seconds that queues are put off, instead of being sent to.
        raises: what a send of these items raises.
        begun: the items whose sends began, in order.
        ended: those that ended, in order.
        cut_off: those whose sends were cancelled.
    """

    seconds: float = 0.01
    seconds_of: dict[UUID, float] = attrs.field(factory=dict)
    fails: set[UUID] = attrs.field(factory=set)
    stuck: set[UUID] = attrs.field(factory=set)
    defers: dict[UUID, float] = attrs.field(factory=dict)
    raises: dict[UUID, Exception] = attrs.field(factory=dict)
    responses: dict[UUID, str] = attrs.field(factory=dict)
    schedule: RetrySchedule = SCHEDULE
    begun: list[UUID] = attrs.field(factory=list)
    ended: list[UUID] = attrs.field(factory=list)
    cut_off: list[UUID] = attrs.field(factory=list)
    cut_off_at: list[float] = attrs.field(factory=list)
    at: list[float] = attrs.field(factory=list)
    running: Counter[UUID] = attrs.field(factory=Counter)
    most_running: int = 0

    async def send(self, work: AnyWork) -> Finished:
        """Take one, as the script says."""
        queue = work.queue_id
        if (seconds := self.defers.get(queue)) is not None:
            await trio.lowlevel.checkpoint()
            return Finished(work.item_id, work.attempts, None, "deferred", seconds)
        self.begun.append(work.item_id)
        self.at.append(trio.current_time())
        self.running[queue] += 1
        self.most_running = max(self.most_running, self.running.total())
        try:
            if queue in self.stuck:
                await trio.sleep_forever()
            await trio.sleep(self.seconds_of.get(queue, self.seconds))
        except trio.Cancelled:
            self.cut_off.append(work.item_id)
            self.cut_off_at.append(trio.current_time())
            raise
        finally:
            self.running[queue] -= 1
        if (error := self.raises.get(work.item_id)) is not None:
            raise error
        self.ended.append(work.item_id)
        return self._result(work)

    def _result(self, work: AnyWork) -> Finished:
        is_good = work.queue_id not in self.fails
        attempt = AttemptRecord(
            number=work.attempts + 1,
            at=moment(),
            status=204 if is_good else 500,
            error=None,
            duration_ms=1.0,
            response=self.responses.get(work.item_id),
        )
        if is_good:
            return Finished(work.item_id, work.attempts, attempt, "delivered")
        wait = self.schedule.wait(work.attempts + 1, random=0.5)
        outcome = "dead" if wait is None else "retry"
        return Finished(work.item_id, work.attempts, attempt, outcome, wait)  # type: ignore[arg-type]


def pipeline_of(
    database: MemoryDatabase, receiver: Receiver, **options: Any
) -> DeliveryPipeline[WebhookWork]:
    """A pipeline of webhooks whose chances all come out in the middle."""
    defaults: dict[str, Any] = {
        "parallel": 8,
        "grace_seconds": 30.0,
        "schedule": SCHEDULE,
        "uniform": lambda: 0.5,
        "wall_clock": moment,
    }
    return DeliveryPipeline("webhooks", database.webhooks, receiver.send, **{**defaults, **options})


@asynccontextmanager
async def running(*stages: Any) -> AsyncIterator[trio.Nursery]:
    """The stages run for a block; none of them ends by itself or with an error."""
    async with trio.open_nursery() as nursery:
        for stage in stages:
            await nursery.start(stage.run)
        yield nursery
        nursery.cancel_scope.cancel()


async def until(
    condition: Callable[[], bool], *, within: float = 60.0, every: float = 0.01
) -> None:
    """Wait until something holds.

    Raises:
        trio.TooSlowError: it does not, for so long.
    """
    with trio.fail_after(within):
        while not condition():
            await trio.sleep(every)


def states(items: Iterable[Any]) -> Counter[str]:
    return Counter(item.state for item in items)


def world(items: int = 0, **receiver: Any) -> tuple[MemoryDatabase, Receiver]:
    """A database with one endpoint, so many deliveries to it, and a receiver as told."""
    database = MemoryDatabase()
    endpoint = database.endpoint(database.tenant())
    for _ in range(items):
        database.delivery(endpoint)
    return database, Receiver(**receiver)
