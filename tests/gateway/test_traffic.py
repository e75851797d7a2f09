"""What has gone where: counted by route and upstream, with a bound on the names."""

from __future__ import annotations

import pytest
import trio

from bulkhead_trio.gateway._health_rules import EjectionLimits
from bulkhead_trio.gateway.group_of_spec import fallback_id
from bulkhead_trio.gateway.group_settings import BreakerSettings
from bulkhead_trio.gateway.groups import Groups
from bulkhead_trio.gateway.numbers import _label_of, routes_now
from bulkhead_trio.gateway.traffic import Traffic
from bulkhead_trio.observe.gateway_snapshots import BUCKETS, NO_ROUTE, OTHERS, RouteSnapshot
from bulkhead_trio.policies.breaker import Consecutive

from .upstreams import fail, settings_of

A, B = _label_of("http://u0"), _label_of("http://u1")


async def well(url: str, timeout: float) -> bool | None:
    await trio.lowlevel.checkpoint()
    return True


def some_groups() -> Groups:
    return Groups(check=well, random=lambda: 0.0)


def use(traffic: Traffic, *route_ids: str, upstream: str = A) -> None:
    """One request to each, and its try."""
    for route_id in route_ids:
        route = traffic.route(route_id)
        route.add("2xx", 0.001)
        traffic.upstream(route, upstream).add("2xx", 0.01)


def counts(found: dict[str, RouteSnapshot]) -> dict[str, int]:
    return {name: sum(route.outcomes.values()) for name, route in found.items()}


def test_traffic_is_counted_by_route_upstream_and_outcome() -> None:
    """Each where it belongs, with its time in the bucket that Prometheus means."""
    traffic = Traffic()
    route = traffic.route("r1")
    for outcome, seconds in (("2xx", 0.001), ("2xx", 0.0011), ("rate_limited", 31.0)):
        route.add(outcome, seconds)
    traffic.upstream(route, A).add("5xx", 0.25)
    use(traffic, "r2")
    found = traffic.statistics()
    assert found["r1"].outcomes == {"2xx": 2, "rate_limited": 1}
    assert found["r1"].times.counts == (1, 1, *[0] * (len(BUCKETS) - 2), 1)
    assert found["r1"].times.seconds == pytest.approx(31.0021)
    assert found["r1"].upstreams[A].outcomes == {"5xx": 1}
    assert counts(found) == {"r1": 3, "r2": 1}


def test_statistics_are_as_of_then() -> None:
    """What is counted later is not in them."""
    traffic = Traffic()
    use(traffic, "r1")
    found = traffic.statistics()
    use(traffic, "r1")
    assert counts(found) == {"r1": 1}
    assert found["r1"].upstreams[A].outcomes == {"2xx": 1}


def test_routes_beyond_the_bound_are_counted_together() -> None:
    """The first are told apart, the sum is right, and the name for no route is always there."""
    traffic = Traffic(most_routes=2)
    use(traffic, *(f"r{number}" for number in range(10)), "r0", NO_ROUTE)
    found = traffic.statistics()
    assert counts(found) == {"r0": 2, "r1": 1, OTHERS: 8, NO_ROUTE: 1}
    assert found[OTHERS].upstreams.keys() == {OTHERS}, "nobody could tell whose they are"


def test_upstreams_beyond_the_bound_are_counted_together() -> None:
    """By route; what is beyond it for one is not for all."""
    traffic = Traffic(most_upstreams=3)
    for upstream in ("a", "b", "c", "d", "e"):
        use(traffic, "r1", upstream=upstream)
    use(traffic, "r2", upstream="a")
    found = traffic.statistics()
    assert found["r1"].upstreams.keys() == {"a", "b", "c", OTHERS}
    assert found["r1"].upstreams[OTHERS].outcomes == {"2xx": 2}
    assert found["r2"].upstreams.keys() == {OTHERS}


def test_what_is_no_more_is_forgotten_and_makes_room() -> None:
    """Routes and upstreams; the others' numbers are nobody's and stay."""
    traffic = Traffic(most_routes=2, most_upstreams=2)
    use(traffic, "r1", "r2", "r3")
    use(traffic, "r1", upstream=B)
    traffic.keep_only({"r1": [B]})
    assert counts(traffic.statistics()) == {"r1": 2, OTHERS: 1}
    assert traffic.statistics()["r1"].upstreams.keys() == {OTHERS}
    use(traffic, "r4")
    use(traffic, "r1", upstream=B)
    assert counts(traffic.statistics()) == {"r1": 3, OTHERS: 1, "r4": 1}
    assert traffic.statistics()["r1"].upstreams.keys() == {OTHERS, B}
    assert traffic.statistics()["r4"].upstreams.keys() == {A}


# --- with how upstreams are -----------------------------------------------------------------------


async def test_routes_now_say_how_their_upstreams_are() -> None:
    """Also those that have had no request, and the one that a route falls back to."""
    groups, traffic = some_groups(), Traffic()
    breaker = BreakerSettings(window=Consecutive(1))
    group = groups.put(settings_of(1, 1, route_id="r1", breaker=breaker))
    spare = settings_of(1, 1, 1, route_id=fallback_id("r1"))
    groups.put(spare)
    use(traffic, "r1")
    fail(group.upstreams[0])
    with group.upstreams[1].enter_nowait():
        found = routes_now(traffic, ["r1"], groups)["r1"].upstreams
    assert found.keys() == {A, B, _label_of("http://u2")}
    assert (found[A].breaker, found[A].outcomes) == ("OPEN", {"2xx": 1})
    assert (found[B].breaker, found[B].in_flight, found[B].outcomes) == ("CLOSED", 1, {})
    assert found[_label_of("http://u2")].breaker is None
    assert all(each.is_up for each in found.values())


async def test_routes_now_notice_the_end_of_an_ejection(autojump_clock: object) -> None:
    """Even where no request has come by to notice it."""
    groups, traffic = some_groups(), Traffic()
    ejection = EjectionLimits(failures=1, base=10.0)
    group = groups.put(settings_of(1, 1, route_id="r1", ejection=ejection))
    fail(group.upstreams[0])

    def first() -> tuple[bool | None, int]:
        now = routes_now(traffic, ["r1"], groups)["r1"].upstreams[A]
        return now.is_up, now.ejections

    assert first() == (False, 1)
    await trio.sleep(11)
    assert first() == (True, 1)


async def test_routes_now_forget_what_is_gone() -> None:
    """A route that was deleted, and an upstream that its route no longer has."""
    groups, traffic = some_groups(), Traffic()
    groups.put(settings_of(1, 1, route_id="r1"))
    use(traffic, "r1", "gone")
    use(traffic, "r1", upstream=B)
    groups.put(settings_of(1, route_id="r1"))
    found = routes_now(traffic, ["r1"], groups)
    assert found.keys() == {"r1"}
    assert found["r1"].upstreams.keys() == {A}
    assert traffic.names() == ["r1"]


async def test_routes_now_tell_no_more_apart_than_they_may() -> None:
    """Those with requests first, then the same of the others each time."""
    groups, traffic = some_groups(), Traffic(most_routes=3)
    names = [f"r{number}" for number in range(6)]
    for name in names:
        groups.put(settings_of(1, route_id=name))
    use(traffic, "r5")
    assert routes_now(traffic, frozenset(names), groups).keys() == {"r5", "r0", "r1"}
    use(traffic, "r4", "r3", "r2")
    assert routes_now(traffic, frozenset(names), groups).keys() == {"r5", "r4", "r3", OTHERS}


async def test_routes_now_tell_no_more_upstreams_apart_than_they_may() -> None:
    """Of routes beyond that, what was counted, and nothing of their health."""
    groups, traffic = some_groups(), Traffic()
    for name in ("r1", "r2"):
        groups.put(settings_of(1, 1, route_id=name))
    use(traffic, "r1", "r2")
    found = routes_now(traffic, ["r1", "r2"], groups, most_upstreams=3)
    assert found["r1"].upstreams[A].is_up is True
    assert found["r2"].upstreams[A].is_up is None
    assert found["r2"].upstreams[A].outcomes == {"2xx": 1}
