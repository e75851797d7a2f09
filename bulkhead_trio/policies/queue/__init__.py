"""Bounded waiting lines: who may wait, and who is next."""

from bulkhead_trio.policies.queue.bounded import BoundedQueue
from bulkhead_trio.policies.queue.fair import FairQueue
from bulkhead_trio.policies.queue.line import (
    Priority,
    QueueStatistics,
    Ticket,
    TicketLine,
    WaitingLine,
)
from bulkhead_trio.policies.queue.priority import PriorityQueue

__all__ = [
    "BoundedQueue",
    "FairQueue",
    "Priority",
    "PriorityQueue",
    "QueueStatistics",
    "Ticket",
    "TicketLine",
    "WaitingLine",
]
