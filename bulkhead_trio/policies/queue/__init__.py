"""Bounded waiting lines."""

from bulkhead_trio.policies.queue.bounded import BoundedQueue, QueueStatistics

__all__ = ["BoundedQueue", "QueueStatistics"]
