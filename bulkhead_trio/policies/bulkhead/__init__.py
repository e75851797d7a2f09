"""Bulkheads: limits on how many calls run at once, and on what each may use."""

from bulkhead_trio.policies.bulkhead._adaptive_rules import (
    AIMD,
    LimitRule,
    LimitSample,
    UtilisationTarget,
)
from bulkhead_trio.policies.bulkhead._latency_rules import Gradient2, Vegas
from bulkhead_trio.policies.bulkhead.adaptive import (
    AdaptiveBulkhead,
    AdaptiveBulkheadStatistics,
    is_overload,
)
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
from bulkhead_trio.policies.bulkhead.containers import (
    ContainerBulkhead,
    ContainerBulkheadStatistics,
    ContainerEnded,
    ContainerResult,
    ContainerStarted,
)
from bulkhead_trio.policies.bulkhead.processes import (
    CommandResult,
    ProcessBulkhead,
    ProcessBulkheadStatistics,
    WorkerEnded,
    WorkerStarted,
)
from bulkhead_trio.policies.bulkhead.registry import BulkheadRegistry, BulkheadSettings
from bulkhead_trio.policies.bulkhead.threads import (
    ThreadAbandoned,
    ThreadBulkhead,
    ThreadBulkheadStatistics,
)

__all__ = [
    "AIMD",
    "AdaptiveBulkhead",
    "AdaptiveBulkheadStatistics",
    "Bulkhead",
    "BulkheadEntered",
    "BulkheadEvent",
    "BulkheadLeft",
    "BulkheadRefused",
    "BulkheadRegistry",
    "BulkheadResized",
    "BulkheadSettings",
    "BulkheadStatistics",
    "CommandResult",
    "ContainerBulkhead",
    "ContainerBulkheadStatistics",
    "ContainerEnded",
    "ContainerResult",
    "ContainerStarted",
    "Gradient2",
    "LimitRule",
    "LimitSample",
    "Permit",
    "ProcessBulkhead",
    "ProcessBulkheadStatistics",
    "ThreadAbandoned",
    "ThreadBulkhead",
    "ThreadBulkheadStatistics",
    "UtilisationTarget",
    "Vegas",
    "WorkerEnded",
    "WorkerStarted",
    "is_overload",
]
