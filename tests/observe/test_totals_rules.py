"""Numbers of several processes: added up as if one process had counted it all."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from bulkhead_trio.observe._totals_rules import (
    SEVERITY,
    continued,
    counters,
    total,
    total_orders,
    total_serving,
    total_tier,
    worst_breaker,
)
from bulkhead_trio.observe.latency import bucket_of, quantiles
from bulkhead_trio.observe.metrics import LATENCY_BUCKETS, Durations, exposition
from bulkhead_trio.observe.snapshots import (
    BreakerSnapshot,
    Census,
    DeskSnapshot,
    DurationsSnapshot,
    ProcessSnapshot,
    RateLimitSnapshot,
    ServingSnapshot,
    TierSnapshot,
)

COUNT = st.integers(0, 10_000)
BREAKERS = st.builds(
    BreakerSnapshot, st.sampled_from(SEVERITY), COUNT, st.integers(0, 15).map(float), COUNT
)
OUTCOMES = st.dictionaries(st.sampled_from(["ok", "rate_limited", "circuit_open"]), COUNT)
BUCKETS = len(LATENCY_BUCKETS) + 1
DURATIONS = st.dictionaries(
    st.sampled_from(["ok", "error"]),
    st.builds(
        DurationsSnapshot,
        st.lists(COUNT, min_size=BUCKETS, max_size=BUCKETS).map(tuple),
        COUNT.map(float),
    ),
)
GAUGES = (
    "workers", "active", "places", "queued", "crashes",
    "connections_max", "connections_active", "connections_idle", "connections_pending",
)  # fmt: skip


def tiers(*, has_limit: bool = True) -> st.SearchStrategy[TierSnapshot]:
    limits = st.builds(RateLimitSnapshot, COUNT, COUNT, st.just(60.0))
    return st.builds(
        TierSnapshot,
        **dict.fromkeys(GAUGES, COUNT),
        breaker=BREAKERS,
        rate_limit=limits if has_limit else st.none(),
        outcomes=OUTCOMES,
        latency=st.dictionaries(st.integers(0, 300), COUNT),
        durations=DURATIONS,
    )


@given(st.lists(tiers(), min_size=1, max_size=5))
def test_total_tier_is_the_sum_of_its_parts(parts: list[TierSnapshot]) -> None:
    """Every gauge, counter and histogram; nothing is lost and nothing counted twice."""
    whole = total_tier(parts)
    for name in GAUGES:
        assert getattr(whole, name) == sum(getattr(part, name) for part in parts)
    for name in ("outcomes", "latency"):
        expected: Counter[Any] = Counter()
        for part in parts:
            expected.update(getattr(part, name))
        assert getattr(whole, name) == expected
    assert whole.rate_limit is not None
    limits = [part.rate_limit for part in parts if part.rate_limit is not None]
    assert whole.rate_limit.limit == sum(limit.limit for limit in limits)
    assert whole.rate_limit.remaining == sum(limit.remaining for limit in limits)
    assert whole.rate_limit.window == 60.0
    for outcome in ("ok", "error"):
        found = [part.durations[outcome] for part in parts if outcome in part.durations]
        if found:
            assert sum(whole.durations[outcome].counts) == sum(sum(each.counts) for each in found)
            assert whole.durations[outcome].seconds == sum(each.seconds for each in found)


@given(st.lists(tiers(), min_size=2, max_size=5), st.integers(1, 4))
def test_total_does_not_depend_on_who_is_added_to_whom(parts: list[TierSnapshot], cut: int) -> None:
    """In any order, and in two steps as in one."""
    whole = total_tier(parts)
    assert total_tier(parts[::-1]) == whole
    cut = min(cut, len(parts) - 1)
    assert total_tier([total_tier(parts[:cut]), total_tier(parts[cut:])]) == whole


@given(tiers(has_limit=False))
def test_total_of_one_part_is_that_part(part: TierSnapshot) -> None:
    """A server that is one process says what it always said."""
    assert total_tier([part]) == part


@given(st.lists(st.floats(1e-4, 100), min_size=1, max_size=50), st.integers(1, 5))
def test_quantiles_of_all_are_those_of_one_who_had_seen_all(
    seconds: list[float], workers: int
) -> None:
    """Quantiles are read from the sum of the counts, however the requests were spread."""
    shares = [Counter(map(bucket_of, seconds[number::workers])) for number in range(workers)]
    whole = total_tier([TierSnapshot(latency=dict(share)) for share in shares])
    assert quantiles(whole.latency) == quantiles(Counter(map(bucket_of, seconds)))


@given(st.lists(BREAKERS, min_size=1, max_size=5))
def test_worst_breaker_is_open_if_any_is(parts: list[BreakerSnapshot]) -> None:
    """Else half open if any is; and its openings are those of all."""
    worst = worst_breaker(parts)
    assert SEVERITY.index(worst.state) == max(SEVERITY.index(part.state) for part in parts)
    assert worst.opened == sum(part.opened for part in parts)
    assert (worst.state, worst.failures) in [(part.state, part.failures) for part in parts]


@pytest.mark.parametrize(
    ("parts", "waiting"),
    [
        ([], 0),
        ([DeskSnapshot(queued=3, elsewhere=4)], 7),
        # The first has seen the two of the second in the database, and one that nobody has.
        ([DeskSnapshot(queued=1, elsewhere=3), DeskSnapshot(queued=1, active=1)], 3),
        # Neither has looked since the other took orders in.
        ([DeskSnapshot(queued=5), DeskSnapshot(queued=6, active=1)], 11),
        # Both have just looked at the same twenty, of which each has some in memory.
        ([DeskSnapshot(queued=5, elsewhere=15), DeskSnapshot(queued=5, elsewhere=15)], 20),
    ],
)
def test_total_orders_counts_each_order_once(parts: list[DeskSnapshot], waiting: int) -> None:
    """What one desk sees in the database and another has in memory is one order."""
    whole = total_orders(parts)
    assert whole.queued + whole.elsewhere == waiting


def test_total_orders_is_full_when_no_desk_has_room() -> None:
    """One with room is enough to be not full; none at all are not full either."""
    full, free = DeskSnapshot(is_full=True), DeskSnapshot(is_full=False)
    assert total_orders([full, full]).is_full
    assert not total_orders([full, free]).is_full
    assert not total_orders([]).is_full


def test_total_serving_has_the_worst_lag() -> None:
    """Connections and loop time add up; lag does not."""
    parts = [
        ServingSnapshot(
            connections={"idle": 2}, parked=1, loop_seconds={"": 1.5, "free": 2.0}, loop_lag=0.1
        ),
        ServingSnapshot(connections={"idle": 1, "head": 1}, loop_seconds={"free": 1.0}),
    ]
    assert total_serving(parts) == ServingSnapshot(
        connections={"idle": 3, "head": 1},
        parked=1,
        loop_seconds={"": 1.5, "free": 3.0},
        loop_lag=0.1,
    )


@given(before=tiers(), now=tiers(), last=tiers())
def test_counters_outlive_the_processes_that_counted(
    before: TierSnapshot, now: TierSnapshot, last: TierSnapshot
) -> None:
    """Through any number of replacements counters go on; gauges are the living process's alone."""
    past: ProcessSnapshot | None = None
    for tier in (before, now, last):
        current = continued(ProcessSnapshot(tiers={"free": tier}), past)
        past = counters(current)
    found = current.tiers["free"]
    for name in ("ok", "rate_limited"):
        expected = sum(tier.outcomes.get(name, 0) for tier in (before, now, last))
        assert found.outcomes.get(name, 0) == expected
    assert found.breaker.opened == sum(tier.breaker.opened for tier in (before, now, last))
    assert found.breaker.state == last.breaker.state
    assert (found.active, found.connections_max) == (last.active, last.connections_max)
    assert found.rate_limit == last.rate_limit
    assert quantiles(found.latency) == quantiles(last.latency)


def test_durations_are_counted_in_the_bucket_that_prometheus_means() -> None:
    """A bound belongs to its bucket; what is longer than all bounds is in the last one."""
    durations = Durations()
    for seconds in (0.0005, 0.001, 0.0011, 11.0):
        durations.observe("free", "ok", seconds)
    durations.observe("free", "internal", 1.0)
    durations.observe("free", "rate_limited", 1.0)
    durations.observe("pro", "ok", 1.0)
    found = durations.snapshot("free")
    assert found["ok"].counts == (2, 1, *[0] * (BUCKETS - 3), 1)
    assert found["ok"].seconds == pytest.approx(11.0026)
    assert sum(found["error"].counts) == 1
    assert set(found) == {"ok", "error"}


@given(st.lists(tiers(), min_size=2, max_size=4), st.integers(0, 2))
def test_exposition_says_what_all_have_counted(parts: list[TierSnapshot], absent: int) -> None:
    """Prometheus reads sums, cumulative buckets, and how many processes they are of."""
    processes = [
        ProcessSnapshot(worker=number, tiers={"free": part}) for number, part in enumerate(parts)
    ]
    census = Census(len(parts) + absent, tuple(processes))
    text = exposition(census, reasons=["rate_limited"]).decode()
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    whole = total(census).tiers["free"]
    free = ("tier", "free")
    assert samples["bulkhead_active", free] == whole.active
    for outcome, number in whole.outcomes.items():
        assert samples["bulkhead_requests_total", ("outcome", outcome), free] == number
    assert samples["bulkhead_processes",] == census.workers
    assert samples["bulkhead_processes_answered",] == len(parts)
    assert len(census.missing) == absent
    for outcome, durations in whole.durations.items():
        label = ("outcome", outcome)
        *below, everything = accumulate(durations.counts)
        name = "bulkhead_request_duration_seconds"
        assert samples[f"{name}_count", label, free] == everything
        assert samples[f"{name}_bucket", ("le", "0.001"), label, free] == below[0]
        assert samples[f"{name}_bucket", ("le", "10.0"), label, free] == below[-1]
    for state in SEVERITY:
        is_in = samples["bulkhead_breaker_state", ("state", state.lower()), free]
        assert is_in == (whole.breaker.state == state)
        for process in processes:
            key = (("state", state.lower()), free, ("worker", str(process.worker)))
            own = process.tiers["free"].breaker.state == state
            assert samples["bulkhead_worker_breaker_state", *key] == own


def test_tier_snapshot_starts_with_nothing() -> None:
    """A tier without traffic adds nothing to the others."""
    busy = attrs.evolve(TierSnapshot(), workers=3, outcomes={"ok": 4})
    assert total_tier([busy, TierSnapshot()]) == busy


def test_dropped_log_lines_are_counted_over_all_processes_and_successors() -> None:
    """A sum, which a process that is replaced does not take with it."""
    parts = [ServingSnapshot(log_lines_dropped=count) for count in (2, 0, 5)]
    assert total_serving(parts).log_lines_dropped == 7
    past = counters(ProcessSnapshot(tiers={}, serving=parts[2]))
    now = ProcessSnapshot(tiers={}, serving=parts[0])
    assert continued(now, past).serving.log_lines_dropped == 7
