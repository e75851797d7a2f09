"""Whether the server is as it was. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

MEGABYTE = 1_000_000

AT_REST = (
    ("connectionPool", "active"),
    ("connectionPool", "pending"),
    ("threadPool", "active"),
    ("threadPool", "queued"),
    ("circuitBreaker", "failures"),
)
"""The members of a tier in ``/metrics/bulkheads`` that are 0 when nothing goes on and nothing has
failed. A client that goes away is no failure."""


def restless(bulkheads: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What in ``/metrics/bulkheads`` is not at rest, as ``tier.group.member = value``; best: []."""
    found = [
        f"{tier}.{group}.{member} = {state[group][member]}"
        for tier, state in bulkheads.items()
        for group, member in AT_REST
        if state[group][member] != 0
    ]
    found += [
        f"{tier}.circuitBreaker.state = {state['circuitBreaker']['state']}"
        for tier, state in bulkheads.items()
        if state["circuitBreaker"]["state"] != "CLOSED"
    ]
    return found


def capacity(state: Mapping[str, Any]) -> int:
    """How many requests a tier takes at once, running and waiting, by ``/metrics/bulkheads``."""
    pool = state["threadPool"]
    return int(pool["poolSize"]) + int(pool["queueSize"])


@attrs.frozen
class MemorySample:
    """The server's resident memory after so many requests."""

    requests: int
    resident_bytes: int


def growth_bytes(samples: Sequence[MemorySample], warm_up: int) -> int:
    """How much memory the server has gained since the first sample after ``warm_up`` requests.

    Raises:
        ValueError: there are not two samples after the warm-up.
    """
    counted = [sample for sample in samples if sample.requests >= warm_up]
    if len(counted) < 2:
        raise ValueError("two samples after the warm-up are needed")
    return counted[-1].resident_bytes - counted[0].resident_bytes
