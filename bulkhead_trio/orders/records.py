"""What the order desk says: its answers, its statistics, and what its listeners are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import attrs

from bulkhead_trio.policies.breaker import BreakerStatistics
from bulkhead_trio.policies.bulkhead import BulkheadStatistics
from bulkhead_trio.policies.worker_pool import WorkerPoolStatistics


@attrs.frozen
class Accepted:
    """What became of an order that was sent.

    Attributes:
        is_new: whether it was not there before.
        waiting: orders that wait, this one perhaps among them.
    """

    is_new: bool
    waiting: int


@attrs.frozen
class OrderDeskStatistics:
    """What the desk holds at one moment.

    Attributes:
        waiting: accepted orders that no worker has taken yet.
        is_full: whether the queue in memory has no place left.
    """

    waiting: int
    is_full: bool
    workers: WorkerPoolStatistics
    intake: BulkheadStatistics
    breaker: BreakerStatistics


@attrs.frozen
class OrderEnded:
    """What a listener is told when an order has come to its end here.

    A process that goes down between the commit and this tells nobody: what must not be missed is
    what the database says.

    Attributes:
        status: ``completed``, or ``failed`` for one that was given up.
        attempts: how often its processing had begun.
    """

    order_id: str
    status: Literal["completed", "failed"]
    attempts: int


OrderListener: TypeAlias = Callable[[OrderEnded], None]
