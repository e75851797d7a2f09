"""A function that its own bulkhead runs: the worker imports both."""

from __future__ import annotations

from bulkhead_trio.policies.bulkhead.processes import ProcessBulkhead

decorating = ProcessBulkhead("decorating", 1)


@decorating
def power(base: int, *, exponent: int = 2) -> int:
    return int(base**exponent)
