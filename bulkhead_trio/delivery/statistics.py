"""What the stages hold and have counted, and the same in the form that is sent and added up."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence

import attrs

from bulkhead_trio.database.work_records import Backlog, Finished
from bulkhead_trio.delivery.backlog import UNKNOWN
from bulkhead_trio.delivery.domain import SubscriberStatistics
from bulkhead_trio.delivery.events import EventWriterStatistics
from bulkhead_trio.delivery.fan_out import FanOutStatistics
from bulkhead_trio.delivery.prune import PruneStatistics
from bulkhead_trio.observe.delivery_snapshots import (
    BUCKETS,
    INCIDENTS,
    SEVERITY,
    DeliverySnapshot,
    IntakeSnapshot,
    PipelineSnapshot,
    TriesSnapshot,
)


class Tally:
    """Counts what became of tries, and how long they took."""

    def __init__(self) -> None:
        self._outcomes = Counter[str]()
        self._counts = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0

    def ended(self, result: Finished, seconds: float) -> None:
        """A send has ended; what was deferred was none, and took no time that says anything."""
        self._outcomes[result.outcome] += 1
        if result.attempt is not None:
            self._counts[bisect_left(BUCKETS, seconds)] += 1
            self._seconds += seconds

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How many ended how."""
        return dict(self._outcomes)

    @property
    def tries(self) -> TriesSnapshot:
        """How long they took."""
        return TriesSnapshot(tuple(self._counts), self._seconds)


@attrs.frozen(kw_only=True)
class PipelineStatistics:
    """What a delivery pipeline holds at one moment, and has counted since it was made.

    Attributes:
        max_parallel: how many are sent at once at most.
        active: sends under way.
        most_active: the most that ever were.
        waiting: claimed, and not begun.
        held: claimed, and not written: those that wait, those under way, and those below.
        unwritten: results that are not written yet.
        claims: claims made.
        claimed: what they have brought.
        written: results that counted.
        outdated: results that came too late, somebody else having had the work.
        unwritable: results that the database refused; their work comes again.
        leases_lost: leases that ended or were another's before their work was done.
        leases_swept: leases, of any instance, that had run out and that this one gave back.
        mistakes: sends that raised, or had to be cut off.
        crashes: how often a stage had to be started again.
        is_database_away: whether the database was away at the last claim.
        outcomes: how many sends ended how.
        tries: how long they took.
    """

    name: str
    max_parallel: int
    active: int
    most_active: int
    waiting: int
    held: int
    unwritten: int
    claims: int
    claimed: int
    written: int
    outdated: int
    unwritable: int
    leases_lost: int
    leases_swept: int
    mistakes: int
    crashes: int
    is_database_away: bool
    outcomes: Mapping[str, int]
    tries: TriesSnapshot


@attrs.frozen(kw_only=True)
class DeliveryStatistics:
    """What all stages hold at one moment, and have counted since they were made.

    Attributes:
        domain: the subscribers of domain events.
        events: the writer of events.
        outbox_waiting: events that are not fanned out, in the database, when somebody last looked.
        webhooks_waiting: the same for the work; so for the notifications.
        webhook_breakers: how many endpoints' breakers are in which state.
        channel_breakers: the same for the services behind the channels.
        shared_breakers: the state by channel, of those behind which is one service for all tenants.
        count_crashes: how often what counts what waits had to be started again.
    """

    domain: Sequence[SubscriberStatistics]
    events: EventWriterStatistics
    fan_out: FanOutStatistics
    outbox_waiting: int = 0
    webhooks: PipelineStatistics
    webhooks_waiting: Backlog = UNKNOWN
    webhook_breakers: Mapping[str, int] = attrs.field(factory=dict)
    notifications: PipelineStatistics
    notifications_waiting: Backlog = UNKNOWN
    channel_breakers: Mapping[str, int] = attrs.field(factory=dict)
    shared_breakers: Mapping[str, str] = attrs.field(factory=dict)
    pruning: PruneStatistics
    count_crashes: int = 0


def snapshot_of(statistics: DeliveryStatistics) -> DeliverySnapshot:
    """The same, as it is sent and added up; the intake's own numbers are not known here."""
    return DeliverySnapshot(
        {
            "domainEvents": _of_domain(statistics.domain),
            "webhookFanOut": _of_fan_out(statistics.fan_out, statistics.outbox_waiting),
            "webhooks": _of_pipeline(
                statistics.webhooks,
                statistics.webhooks_waiting,
                states=statistics.webhook_breakers,
                named={},
            ),
            "notifications": _of_pipeline(
                statistics.notifications,
                statistics.notifications_waiting,
                states=statistics.channel_breakers,
                named=statistics.shared_breakers,
            ),
        },
        _of_writer(statistics),
    )


def _of_writer(statistics: DeliveryStatistics) -> IntakeSnapshot:
    events = statistics.events
    return IntakeSnapshot(
        refused=events.refused,
        accepted=events.accepted,
        batches=events.batches,
        failed=events.failed,
        crashes=events.crashes + statistics.pruning.crashes + statistics.count_crashes,
    )


def _of_domain(subscribers: Sequence[SubscriberStatistics]) -> PipelineSnapshot:
    failed = sum(each.failed for each in subscribers)
    return PipelineSnapshot(
        max_parallel=len(subscribers),
        active=sum(each.active for each in subscribers),
        held=sum(each.queued for each in subscribers),
        outcomes={
            "delivered": sum(each.taken for each in subscribers) - failed,
            "failed": failed,
            "dropped": sum(each.dropped for each in subscribers),
        },
        incidents={"crashes": sum(each.crashes for each in subscribers)},
    )


def _of_fan_out(fan_out: FanOutStatistics, waiting: int) -> PipelineSnapshot:
    return PipelineSnapshot(
        max_parallel=1,
        active=int(fan_out.active),
        waiting=waiting,
        outcomes={"events": fan_out.events, "deliveries": fan_out.deliveries},
        incidents={"crashes": fan_out.crashes},
    )


def _of_pipeline(
    pipeline: PipelineStatistics,
    backlog: Backlog,
    *,
    states: Mapping[str, int],
    named: Mapping[str, str],
) -> PipelineSnapshot:
    # What is held is in the database too, leased: it is counted there, once.
    waiting = backlog.pending + backlog.retrying - backlog.leased
    return PipelineSnapshot(
        max_parallel=pipeline.max_parallel,
        active=pipeline.active,
        held=pipeline.waiting,
        waiting=max(0, waiting),
        retrying=backlog.retrying,
        dead_lettered=backlog.dead,
        outcomes=pipeline.outcomes,
        tries=pipeline.tries,
        breakers={state: states.get(state, 0) for state in SEVERITY},
        troubled=named,
        incidents={name: getattr(pipeline, name) for name in INCIDENTS},
    )
