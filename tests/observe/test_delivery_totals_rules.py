"""Deliveries of several processes added up."""

from __future__ import annotations

import msgspec

from bulkhead_trio.observe._delivery_totals_rules import (
    continued_deliveries,
    delivery_counters,
    total_deliveries,
    worst_state,
)
from bulkhead_trio.observe._totals_rules import continued, counters
from bulkhead_trio.observe.delivery_snapshots import (
    BUCKETS,
    MOST_BREAKERS,
    DeliverySnapshot,
    IntakeSnapshot,
    PipelineSnapshot,
    TriesSnapshot,
)
from bulkhead_trio.observe.snapshots import ProcessSnapshot


def a_snapshot(scale: int = 1) -> DeliverySnapshot:
    tries = TriesSnapshot((scale,) * (len(BUCKETS) + 1), 0.5 * scale)
    return DeliverySnapshot(
        {
            "webhooks": PipelineSnapshot(
                max_parallel=10,
                active=2 * scale,
                held=3 * scale,
                waiting=40,
                retrying=7 * scale,
                dead_lettered=5,
                outcomes={"delivered": 100 * scale, "dead": 1},
                tries=tries,
                breakers={"CLOSED": 4, "OPEN": 1},
                troubled={"wh_1": "OPEN"},
                incidents={"crashes": scale},
            )
        },
        IntakeSnapshot(
            workers=4, active=1, places=8, queued=2, refused=3 * scale, breaker="CLOSED",
            opened=1, accepted=50 * scale, batches=10 * scale, failed=scale, crashes=scale,
        ),
    )  # fmt: skip


def test_total_adds_what_is_a_processs_own_and_takes_the_most_of_what_all_see() -> None:
    """Places and work in hand are sums; what waits in the one database is not counted twice."""
    whole = total_deliveries([a_snapshot(), a_snapshot(2)])
    webhooks = whole.pipelines["webhooks"]
    assert (webhooks.max_parallel, webhooks.active, webhooks.held) == (20, 6, 9)
    assert (webhooks.waiting, webhooks.retrying, webhooks.dead_lettered) == (40, 14, 5)
    assert webhooks.queued == 49
    assert webhooks.outcomes == {"delivered": 300, "dead": 2}
    assert (webhooks.tries.counts[0], webhooks.tries.seconds) == (3, 1.5)
    assert webhooks.breakers == {"CLOSED": 8, "OPEN": 2}
    assert webhooks.incidents == {"crashes": 3}
    assert (whole.intake.accepted, whole.intake.failed, whole.intake.crashes) == (150, 3, 3)
    assert (whole.intake.workers, whole.intake.places, whole.intake.queued) == (8, 16, 4)


def test_total_of_one_is_that_one_and_of_none_nothing() -> None:
    """Adding changes nothing where there is nothing to add."""
    assert total_deliveries([a_snapshot()]) == a_snapshot()
    assert total_deliveries([]) == DeliverySnapshot()


def test_total_has_the_pipelines_of_every_process() -> None:
    """One that only some have is not lost."""
    other = DeliverySnapshot({"notifications": PipelineSnapshot(active=1)})
    assert set(total_deliveries([a_snapshot(), other]).pipelines) == {"webhooks", "notifications"}


def test_breakers_of_one_name_count_as_their_worst() -> None:
    """Those worst off are told first, and no more than may be told."""
    states = {f"wh_{number:03}": "HALF_OPEN" for number in range(MOST_BREAKERS)}
    one = DeliverySnapshot({"webhooks": PipelineSnapshot(troubled={"a": "HALF_OPEN", **states})})
    other = DeliverySnapshot({"webhooks": PipelineSnapshot(troubled={"a": "OPEN", "z": "CLOSED"})})
    troubled = total_deliveries([one, other]).pipelines["webhooks"].troubled
    assert len(troubled) == MOST_BREAKERS
    assert next(iter(troubled.items())) == ("a", "OPEN")
    assert "z" not in troubled


def test_intakes_breaker_is_the_worst_one() -> None:
    """The server is as bad off as its worst part."""
    states = [DeliverySnapshot(intake=IntakeSnapshot(breaker=each)) for each in ("OPEN", "CLOSED")]
    assert total_deliveries(states).intake.breaker == "OPEN"
    assert total_deliveries(states[::-1]).intake.breaker == "OPEN"


def test_worst_state_ignores_states_that_no_breaker_is_in() -> None:
    """A count of nought says nothing."""
    assert worst_state(PipelineSnapshot(breakers={"OPEN": 0, "HALF_OPEN": 1})) == "HALF_OPEN"
    assert worst_state(PipelineSnapshot()) == "CLOSED"


def test_worst_state_is_that_of_what_all_share_where_there_is_such_a_thing() -> None:
    """A tenant's dead server does not look like a mail server that is down."""
    pipeline = PipelineSnapshot(breakers={"CLOSED": 1, "OPEN": 3}, troubled={"smtp": "CLOSED"})
    assert worst_state(pipeline) == "CLOSED"


def test_counters_outlive_a_process_and_what_it_held_does_not() -> None:
    """A successor goes on counting, with its own places."""
    past = delivery_counters(a_snapshot())
    webhooks = past.pipelines["webhooks"]
    assert (webhooks.max_parallel, webhooks.active, webhooks.waiting) == (0, 0, 0)
    now = continued_deliveries(a_snapshot(2), past)
    webhooks = now.pipelines["webhooks"]
    assert (webhooks.max_parallel, webhooks.active, webhooks.held) == (10, 4, 6)
    assert webhooks.outcomes == {"delivered": 300, "dead": 2}
    assert webhooks.incidents == {"crashes": 3}
    assert (now.intake.accepted, now.intake.refused, now.intake.workers) == (150, 9, 4)
    assert (now.intake.failed, now.intake.crashes) == (3, 3)


def test_processes_carry_their_deliveries_over() -> None:
    """What a whole process leaves behind has them too, also where one of both has none."""
    process = ProcessSnapshot(tiers={}, deliveries=a_snapshot())
    past = counters(process)
    assert past.deliveries == delivery_counters(a_snapshot())
    assert continued(process, past).deliveries == continued_deliveries(
        a_snapshot(), delivery_counters(a_snapshot())
    )
    assert continued(ProcessSnapshot(tiers={}), past).deliveries is None
    assert continued(process, counters(ProcessSnapshot(tiers={}))).deliveries == a_snapshot()


def test_snapshot_travels_between_processes() -> None:
    """It comes back as it was."""
    process = ProcessSnapshot(tiers={}, deliveries=a_snapshot())
    data = msgspec.msgpack.encode(process)
    assert msgspec.msgpack.decode(data, type=ProcessSnapshot) == process
