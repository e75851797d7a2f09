"""Bulkheads: limits on how many calls run at once, and on what each may use."""

from bulkhead_trio.policies.bulkhead.bulkhead import (
    Bulkhead,
    BulkheadEntered,
    BulkheadEvent,
    BulkheadLeft,
    BulkheadRefused,
    BulkheadResized,
    BulkheadStatistics,
    Permit,
)

__all__ = [
    "Bulkhead",
    "BulkheadEntered",
    "BulkheadEvent",
    "BulkheadLeft",
    "BulkheadRefused",
    "BulkheadResized",
    "BulkheadStatistics",
    "Permit",
]
