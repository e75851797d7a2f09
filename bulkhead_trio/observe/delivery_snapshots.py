"""What one process's deliveries hold and have counted, in a form that can be sent and added up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

PIPELINES: Final = ("domainEvents", "webhookFanOut", "webhooks", "notifications")
"""Their names, in the order of an event's way."""

MOST_BREAKERS: Final = 100
"""Breakers of a pipeline that are told by name."""

SEVERITY: Final = ("CLOSED", "HALF_OPEN", "OPEN")

INCIDENTS: Final = (
    "crashes", "mistakes", "leases_lost", "leases_swept", "outdated", "unwritable",
)  # fmt: skip
"""What should not happen, or not often: a stage that had to be started again; sends that raised or
had to be cut off; leases that were lost with work still to be done; those of anybody that had run
out and were given back; results that came too late; those that the database refused."""

BUCKETS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0)
"""Seconds: from a receiver next door to the longest that one is waited for."""


class TriesSnapshot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How long tries took, counted by `BUCKETS`.

    Attributes:
        counts: for each bucket, those that are in it and in none before it; the last one has no
            upper bound.
        seconds: all of them together.
    """

    counts: tuple[int, ...] = (0,) * (len(BUCKETS) + 1)
    seconds: float = 0.0


class PipelineSnapshot(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The numbers of one pipeline, as one process sees them.

    What is this process's own adds up over processes. What it has seen in the database, which they
    have in common, does not: each has looked at another time.

    Attributes:
        max_parallel: how many it works on at once at most; its own.
        active: that it works on; its own.
        held: that wait in its memory; its own.
        waiting: that wait in the database, first tries and retries; seen there.
        retrying: of those, what has been tried before; seen there.
        dead_lettered: that were given up and are still kept; seen there.
        outcomes: how many ended how, such as ``delivered``, ``retry``, ``dead``, ``dropped``.
        tries: how long they took.
        breakers: how many of its breakers are in which state.
        troubled: states by name of the breakers of services that all tenants share, such as the
            mail server, closed ones too; none of a tenant's own. `MOST_BREAKERS` at most.
        incidents: how often what should not happen has; by names of `INCIDENTS`.
    """

    max_parallel: int = 0
    active: int = 0
    held: int = 0
    waiting: int = 0
    retrying: int = 0
    dead_lettered: int = 0
    outcomes: Mapping[str, int] = {}
    tries: TriesSnapshot = TriesSnapshot()
    breakers: Mapping[str, int] = {}
    troubled: Mapping[str, str] = {}
    incidents: Mapping[str, int] = {}

    @property
    def queued(self) -> int:
        """All that waits: in memory, and in the database."""
        return self.held + self.waiting


class IntakeSnapshot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The compartment of the requests that come for events, webhooks and notifications.

    Attributes:
        workers: requests that may run at once.
        active: that run.
        places: that may wait.
        queued: that wait.
        refused: that could not even wait; events for which the writer had no place among them.
        breaker: ``CLOSED``, ``OPEN`` or ``HALF_OPEN``.
        opened: how often that has opened.
        accepted: events that were committed; one that had been before is not counted again.
        batches: commits that they took.
        failed: events whose commit failed.
        crashes: how often what is no pipeline's had to be started again: the writer of events, the
            pruner, and what counts what waits.
    """

    workers: int = 0
    active: int = 0
    places: int = 0
    queued: int = 0
    refused: int = 0
    breaker: str = "CLOSED"
    opened: int = 0
    accepted: int = 0
    batches: int = 0
    failed: int = 0
    crashes: int = 0


class DeliverySnapshot(msgspec.Struct, frozen=True, array_like=True):
    """The numbers of one process's deliveries.

    Attributes:
        pipelines: by name: those of `PIPELINES`.
        intake: of requests.
    """

    pipelines: Mapping[str, PipelineSnapshot] = {}
    intake: IntakeSnapshot = IntakeSnapshot()
