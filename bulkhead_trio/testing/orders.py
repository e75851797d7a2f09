"""A store of orders in memory, which fails and dawdles as it is told."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence

import attrs
import trio

from bulkhead_trio.database.orders import EndedAttempt, OpenOrder, Order, OrderRecord
from bulkhead_trio.errors import DatabaseUnavailable

_EPOCH = datetime.datetime(2026, 2, 11, 12, 0, tzinfo=datetime.UTC)


class ScriptedOrderStore:
    """Behaves as `bulkhead_trio.database.orders.PostgresOrderStore` does.

    What it holds outlives whoever uses it, as a database does: give it to a second desk to see what
    a restart would find.

    Attributes:
        records: the orders, in the order of their arrival.
        ledger: the ids of completed orders, in the order of their completion.
        failures: how many attempts of each have failed with the store there.
        seconds: what each call takes.
        complete_seconds: what a completion takes beyond that.
        is_away: whether every call fails.
        broken: ids of orders whose completion fails, with the database there.
        commits_when_cancelled: whether a call that was cancelled has its effect all the same.
    """

    def __init__(self, *, seconds: float = 0.0) -> None:
        self.records: dict[str, OrderRecord] = {}
        self.ledger: list[str] = []
        self.failures: Counter[str] = Counter()
        self.seconds = seconds
        self.complete_seconds = 0.0
        self.is_away = False
        self.broken: set[str] = set()
        self.commits_when_cancelled = False

    async def insert(self, order: Order) -> OrderRecord | None:
        """Keep a new order; the one that is there already, if there is one."""
        if (present := self.records.get(order.order_id)) is not None:
            await self._answer()
            return present
        now = self._now()
        new = OrderRecord(order, "queued", 0, now, now)
        try:
            await self._answer()
        except trio.Cancelled:
            if self.commits_when_cancelled:
                self.records.setdefault(order.order_id, new)
            raise
        kept = self.records.setdefault(order.order_id, new)
        return None if kept is new else kept

    async def find(self, order_id: str) -> OrderRecord | None:
        """The order of that id."""
        await self._answer()
        return self.records.get(order_id)

    async def open_orders(
        self, *, limit: int, idle_seconds: float, excluding: Sequence[str]
    ) -> list[OpenOrder]:
        """What is still to be done, most urgent first."""
        await self._answer()
        before = self._now() - datetime.timedelta(seconds=idle_seconds)
        found = [
            record.order
            for record in self._open()
            if record.order.order_id not in excluding and record.updated_at <= before
        ]
        found.sort(key=lambda order: order.priority)
        return [OpenOrder(order.order_id, order.priority) for order in found[:limit]]

    async def count_open(self, *, excluding: Sequence[str]) -> int:
        """How many are still to be done, besides some."""
        await self._answer()
        return sum(record.order.order_id not in excluding for record in self._open())

    async def begin(self, order_id: str) -> int | None:
        """Say that an attempt begins."""
        await self._answer()
        record = self.records[order_id]
        if record.status not in ("queued", "processing"):
            return None
        self._move(record, status="processing", attempts=record.attempts + 1)
        return record.attempts + 1

    async def complete(self, order_id: str) -> bool:
        """Book the order and mark it completed.

        Raises:
            RuntimeError: it is one of the ``broken``.
        """
        await trio.sleep(self.complete_seconds)
        await self._answer()
        if order_id in self.broken:
            raise RuntimeError("scripted: this order cannot be completed")
        record = self.records[order_id]
        if record.status != "processing":
            return False
        self._move(record, status="completed", attempts=record.attempts)
        self.ledger.append(order_id)
        return True

    async def end_attempt(self, order_id: str, *, most_failures: int) -> EndedAttempt | None:
        """Put an order whose attempt failed back, or give it up."""
        await self._answer()
        record = self.records[order_id]
        if record.status != "processing":
            return None
        self.failures[order_id] += 1
        is_last = self.failures[order_id] >= most_failures
        self._move(record, status="failed" if is_last else "queued", attempts=record.attempts)
        return EndedAttempt(self.failures[order_id], is_last)

    def _open(self) -> list[OrderRecord]:
        return [each for each in self.records.values() if each.status in ("queued", "processing")]

    def _move(self, record: OrderRecord, *, status: str, attempts: int) -> None:
        self.records[record.order.order_id] = attrs.evolve(
            record, status=status, attempts=attempts, updated_at=self._now()
        )

    def _now(self) -> datetime.datetime:
        return _EPOCH + datetime.timedelta(seconds=trio.current_time())

    async def _answer(self) -> None:
        await trio.sleep(self.seconds)
        if self.is_away:
            raise DatabaseUnavailable("scripted: away")
