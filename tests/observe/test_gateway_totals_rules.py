"""The numbers of several gateways: added up as if one process had counted it all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead_trio.observe._gateway_totals_rules import (
    added_upstreams,
    continued_gateway,
    gateway_counters,
    total_gateway,
)
from bulkhead_trio.observe._totals_rules import continued, counters
from bulkhead_trio.observe.gateway_snapshots import (
    BUCKETS,
    NO_ROUTE,
    OTHERS,
    ChangesSnapshot,
    ClientSnapshot,
    GatewaySnapshot,
    KeysSnapshot,
    LimitsSnapshot,
    RedisSnapshot,
    RouteSnapshot,
    TimesSnapshot,
    UpstreamSnapshot,
)
from bulkhead_trio.observe.snapshots import ProcessSnapshot
from bulkhead_trio.workers.snapshots import decode, encode

COUNT = st.integers(0, 1000)
OUTCOMES = st.dictionaries(st.sampled_from(["2xx", "5xx", "upstream_error"]), COUNT)
TIMES = st.builds(
    lambda first, last, seconds: TimesSnapshot(
        (first, *[0] * (len(BUCKETS) - 1), last), float(seconds)
    ),
    COUNT,
    COUNT,
    COUNT,
)
UPSTREAMS = st.builds(
    UpstreamSnapshot,
    OUTCOMES,
    TIMES,
    COUNT,
    st.sampled_from([None, True, False]),
    COUNT,
    st.sampled_from([None, "CLOSED", "HALF_OPEN", "OPEN"]),
)
ROUTES = st.builds(
    RouteSnapshot,
    OUTCOMES,
    TIMES,
    COUNT,
    st.dictionaries(st.sampled_from(["upstream", "answer"]), COUNT),
    st.dictionaries(st.sampled_from(["aaaaaaaa", "bbbbbbbb", OTHERS]), UPSTREAMS),
)
ROUTE_IDS = st.sampled_from(["r1", "r2", "r3", "r4", OTHERS, NO_ROUTE])
GATEWAYS = st.builds(
    GatewaySnapshot,
    routes=st.dictionaries(ROUTE_IDS, ROUTES),
    route_count=COUNT,
    upstreams_up=COUNT,
    upstreams_down=COUNT,
    tunnels=st.dictionaries(st.sampled_from(["free", "pro"]), COUNT),
    limits=st.builds(LimitsSnapshot, *[COUNT] * 5),
    keys=st.builds(KeysSnapshot, *[COUNT] * 6),
    changes=st.builds(ChangesSnapshot, st.booleans(), st.none() | COUNT.map(float), COUNT, COUNT),
    redis=st.builds(RedisSnapshot, st.booleans(), *[COUNT] * 9),
    client=st.builds(ClientSnapshot, *[COUNT] * 3),
)


def outcomes_of(parts: Sequence[GatewaySnapshot]) -> Counter[tuple[str, str]]:
    """How many requests of which route ended how."""
    found: Counter[tuple[str, str]] = Counter()
    for part in parts:
        for route_id, route in part.routes.items():
            found.update({(route_id, outcome): n for outcome, n in route.outcomes.items()})
    return found


def tries_of(part: GatewaySnapshot) -> int:
    """How many tries there were, wherever."""
    upstreams = (each for route in part.routes.values() for each in route.upstreams.values())
    return sum(sum(each.outcomes.values()) for each in upstreams)


def seconds_of(routes: Mapping[str, RouteSnapshot]) -> float:
    """All time that is in histograms."""
    return sum(
        route.times.seconds + sum(each.times.seconds for each in route.upstreams.values())
        for route in routes.values()
    )


@settings(max_examples=20)
@given(st.lists(GATEWAYS, min_size=1, max_size=4))
def test_total_gateway_is_the_sum_of_its_parts(parts: list[GatewaySnapshot]) -> None:
    """Every counter, gauge and histogram; nothing is lost and nothing counted twice."""
    whole = total_gateway(parts)
    assert outcomes_of([whole]) == outcomes_of(parts)
    assert tries_of(whole) == sum(map(tries_of, parts))
    assert seconds_of(whole.routes) == sum(seconds_of(part.routes) for part in parts)
    for route_id, route in whole.routes.items():
        found = [part.routes[route_id] for part in parts if route_id in part.routes]
        assert route.retries == sum(each.retries for each in found)
        assert route.times.counts == tuple(
            map(sum, zip(*(each.times.counts for each in found), strict=True))
        )
        for name, upstream in route.upstreams.items():
            theirs = [each.upstreams[name] for each in found if name in each.upstreams]
            assert upstream.in_flight == sum(each.in_flight for each in theirs)
            assert upstream.ejections == sum(each.ejections for each in theirs)
    assert whole.limits.allowed == sum(part.limits.allowed for part in parts)
    assert whole.keys.lookups == sum(part.keys.lookups for part in parts)
    assert whole.client.idle == sum(part.client.idle for part in parts)
    assert whole.redis is not None
    assert whole.redis.calls == sum(part.redis.calls for part in parts if part.redis is not None)
    assert sum(whole.tunnels.values()) == sum(sum(part.tunnels.values()) for part in parts)


@settings(max_examples=20)
@given(st.lists(GATEWAYS, min_size=2, max_size=4), st.integers(1, 3))
def test_total_gateway_does_not_depend_on_who_is_added_to_whom(
    parts: list[GatewaySnapshot], cut: int
) -> None:
    """In any order, and in two steps as in one."""
    whole = total_gateway(parts)
    assert total_gateway(parts[::-1]) == whole
    cut = min(cut, len(parts) - 1)
    assert total_gateway([total_gateway(parts[:cut]), total_gateway(parts[cut:])]) == whole


@settings(max_examples=20)
@given(GATEWAYS)
def test_total_gateway_of_one_part_is_that_part(part: GatewaySnapshot) -> None:
    """A server that is one process says what it has counted."""
    assert total_gateway([part]) == part


@settings(max_examples=20)
@given(st.lists(GATEWAYS, min_size=2, max_size=4))
def test_total_gateway_is_as_well_as_its_worst_part(parts: list[GatewaySnapshot]) -> None:
    """Redis is up, and changes are heard, where that is so in all processes."""
    whole = total_gateway(parts)
    redis = [part.redis for part in parts if part.redis is not None]
    assert whole.redis is not None
    assert whole.redis.is_up is all(each.is_up for each in redis)
    assert whole.redis.instances == max(each.instances for each in redis)
    assert whole.changes.is_listening is all(part.changes.is_listening for part in parts)
    ages = [part.changes.age for part in parts]
    assert whole.changes.age == (None if None in ages else max(each or 0.0 for each in ages))
    assert whole.route_count == max(part.route_count for part in parts)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [(True, True, True), (True, False, False), (None, False, False), (None, True, True),
     (None, None, None)],
)  # fmt: skip
def test_upstream_is_up_where_all_that_know_have_it_up(
    one: bool | None, other: bool | None, both: bool | None
) -> None:
    """One process that has it down is enough, whoever is asked first."""
    first, second = UpstreamSnapshot(is_up=one), UpstreamSnapshot(is_up=other)
    assert added_upstreams(first, second).is_up is both
    assert added_upstreams(second, first).is_up is both


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("CLOSED", "OPEN", "OPEN"),
        ("HALF_OPEN", "OPEN", "OPEN"),
        ("CLOSED", "HALF_OPEN", "HALF_OPEN"),
        (None, "CLOSED", "CLOSED"),
        (None, None, None),
    ],
)
def test_breaker_of_an_upstream_is_the_worst(
    one: str | None, other: str | None, both: str | None
) -> None:
    """Open before half open before closed."""
    first, second = UpstreamSnapshot(breaker=one), UpstreamSnapshot(breaker=other)
    assert added_upstreams(first, second).breaker == both
    assert added_upstreams(second, first).breaker == both


@settings(max_examples=20)
@given(GATEWAYS, GATEWAYS, GATEWAYS)
def test_gateway_counters_outlive_the_processes_that_counted(
    before: GatewaySnapshot, now: GatewaySnapshot, last: GatewaySnapshot
) -> None:
    """Through any number of replacements counters go on; gauges are the living process's alone."""
    past: ProcessSnapshot | None = None
    for gateway in (before, now, last):
        current = continued(ProcessSnapshot(tiers={}, gateway=gateway), past)
        past = decode(encode(counters(current)))
    found = current.gateway
    assert found is not None
    assert +outcomes_of([found]) == +outcomes_of([before, now, last])
    assert tries_of(found) == sum(map(tries_of, (before, now, last)))
    assert found.limits.refused == sum(each.limits.refused for each in (before, now, last))
    assert found.changes.changes == sum(each.changes.changes for each in (before, now, last))
    assert found.redis is not None
    assert last.redis is not None
    assert (found.redis.is_up, found.redis.connections) == (
        last.redis.is_up,
        last.redis.connections,
    )
    assert (found.tunnels, found.client, found.route_count) == (
        last.tunnels,
        last.client,
        last.route_count,
    )
    assert (found.keys.known, found.limits.tenants) == (last.keys.known, last.limits.tenants)
    for route_id, route in last.routes.items():
        for name, upstream in route.upstreams.items():
            stands = found.routes[route_id].upstreams[name]
            assert (stands.is_up, stands.in_flight) == (upstream.is_up, upstream.in_flight)


def routes(*names: str) -> dict[str, RouteSnapshot]:
    upstreams = {"aaaaaaaa": UpstreamSnapshot({"2xx": 1}, is_up=True)}
    return {name: RouteSnapshot({"2xx": 1}, upstreams=upstreams) for name in names}


def test_continued_gateway_tells_no_more_routes_apart_than_one_process() -> None:
    """The predecessors' come first; what is beyond is among the others, and nothing is lost."""
    past = gateway_counters(GatewaySnapshot(routes=routes("a", "b", OTHERS)))
    now = GatewaySnapshot(routes=routes("c", "b", "d", NO_ROUTE))
    found = continued_gateway(now, past, most_routes=3).routes
    assert {name: route.outcomes["2xx"] for name, route in found.items()} == {
        "a": 1, "b": 2, "c": 1, OTHERS: 2, NO_ROUTE: 1,
    }  # fmt: skip
    assert found[OTHERS].upstreams[OTHERS].outcomes == {"2xx": 1}
    assert found[OTHERS].upstreams[OTHERS].is_up is None


def test_route_that_was_told_apart_stays_so() -> None:
    """However many routes come into use after it."""
    past = gateway_counters(GatewaySnapshot(routes=routes("a")))
    for names in (["c"], ["c", "d"], ["c", "d", "e"]):
        found = continued_gateway(GatewaySnapshot(routes=routes(*names)), past, most_routes=2)
        assert {"a", "c"} <= found.routes.keys()


def test_counters_of_routes_without_requests_are_none() -> None:
    """What only stands there outlives nobody."""
    standing = RouteSnapshot(upstreams={"aaaaaaaa": UpstreamSnapshot(is_up=True, breaker="OPEN")})
    assert gateway_counters(GatewaySnapshot(routes={"a": standing})).routes == {}


@settings(max_examples=20)
@given(GATEWAYS)
def test_gateway_travels_between_processes(gateway: GatewaySnapshot) -> None:
    """What is decoded is what was encoded, ``None`` included."""
    for each in (gateway, msgspec.structs.replace(gateway, redis=None)):
        process = ProcessSnapshot(tiers={}, gateway=each)
        assert decode(encode(process)) == process
