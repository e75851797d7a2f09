"""The deliveries in Prometheus's text format."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from bulkhead_trio.observe.delivery_metrics import delivery_exposition
from bulkhead_trio.observe.delivery_snapshots import (
    DeliverySnapshot,
    IntakeSnapshot,
    PipelineSnapshot,
)

from .test_delivery_totals_rules import a_snapshot


def samples(*parts: DeliverySnapshot) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by its name and labels."""
    text = delivery_exposition(parts).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_pipelines_are_told_with_all_their_numbers() -> None:
    """Gauges, counters by outcome, breakers by state, and how long tries took."""
    found = samples(a_snapshot(), a_snapshot(2))
    of = (("pipeline", "webhooks"),)
    assert found["bulkhead_delivery_max_parallel", of] == 20
    assert found["bulkhead_delivery_queued", of] == 49
    assert found["bulkhead_delivery_dead_lettered", of] == 5
    assert found["bulkhead_delivery_ended_total", (("outcome", "delivered"), *of)] == 300
    assert found["bulkhead_delivery_breakers", (*of, ("state", "open"))] == 2
    assert found["bulkhead_delivery_breakers", (*of, ("state", "half_open"))] == 0
    assert found["bulkhead_delivery_try_duration_seconds_count", of] == 33
    assert found["bulkhead_delivery_try_duration_seconds_sum", of] == 1.5
    assert found["bulkhead_delivery_try_duration_seconds_bucket", (("le", "0.005"), *of)] == 3


def test_what_should_not_happen_is_told_by_names_that_are_known() -> None:
    """As counters; what a process of another version says beside them makes no series."""
    incidents = {"crashes": 2, "leases_lost": 1, "something new": 7}
    one = DeliverySnapshot({"webhooks": PipelineSnapshot(incidents=incidents)})
    found = samples(one, one)
    of = ("pipeline", "webhooks")
    told = {
        labels: value
        for (name, labels), value in found.items()
        if name == "bulkhead_delivery_incidents_total"
    }
    assert told == {
        (("incident", "crashes"), of): 4,
        (("incident", "leases_lost"), of): 2,
    }


def test_services_that_all_share_are_told_by_name() -> None:
    """One that is down is another thing than a tenant's dead server."""
    pipeline = PipelineSnapshot(breakers={"CLOSED": 1, "OPEN": 3}, troubled={"smtp": "CLOSED"})
    found = samples(DeliverySnapshot({"notifications": pipeline}))
    name = "bulkhead_delivery_shared_breaker_state"
    of = (("breaker", "smtp"), ("pipeline", "notifications"))
    assert found[name, (*of, ("state", "closed"))] == 1
    assert found[name, (*of, ("state", "open"))] == 0


def test_intake_is_told_too() -> None:
    """What comes in, and its breaker."""
    found = samples(DeliverySnapshot(intake=IntakeSnapshot(workers=8, refused=3, breaker="OPEN")))
    assert found["bulkhead_delivery_intake_workers", ()] == 8
    assert found["bulkhead_delivery_intake_refused_total", ()] == 3
    assert found["bulkhead_delivery_intake_breaker_state", (("state", "open"),)] == 1
    assert found["bulkhead_delivery_intake_breaker_state", (("state", "closed"),)] == 0
