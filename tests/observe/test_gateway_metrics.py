"""The gateway's numbers as Prometheus reads them."""

from __future__ import annotations

from itertools import accumulate

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from bulkhead_trio.observe import gateway_metrics
from bulkhead_trio.observe.gateway_metrics import gateway_exposition
from bulkhead_trio.observe.gateway_snapshots import (
    BUCKETS,
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

ROUTE, UPSTREAM = "6f1b2a80-0000-4000-8000-000000000001", "1a2b3c4d"
COUNTS = (1, 2, 0, 0, 3, 0, 0, 0, 4)
GATEWAY = GatewaySnapshot(
    routes={
        ROUTE: RouteSnapshot(
            {"2xx": 7, "upstream_error": 1},
            TimesSnapshot(COUNTS, 12.5),
            2,
            {"answer": 1},
            {
                UPSTREAM: UpstreamSnapshot(
                    {"2xx": 7, "5xx": 2}, TimesSnapshot(COUNTS, 3.25), 4, False, 5, "HALF_OPEN"
                )
            },
        )
    },
    route_count=9,
    upstreams_up=10,
    upstreams_down=1,
    tunnels={'a "tier"': 3},
    limits=LimitsSnapshot(1, 20, 3, 2, 1),
    keys=KeysSnapshot(4, 1, 100, 5, 6, 7),
    changes=ChangesSnapshot(True, 0.75, 2, 8),
    redis=RedisSnapshot(True, 3, 2, 1, 50, 40, 4, 2, 6, 1),
    client=ClientSnapshot(5, 6, 1),
)


def families(*parts: GatewaySnapshot) -> dict[str, Metric]:
    text = b"".join(gateway_exposition(parts)).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def samples(*parts: GatewaySnapshot) -> dict[tuple[str, ...], float]:
    """By name, and the labels' values in the order of their names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families(*parts).values()
        for sample in family.samples
    }


def test_exposition_of_a_route() -> None:
    """How its requests ended, what of their time was ours, and what was done about failures."""
    found = samples(GATEWAY)
    name = "bulkhead_gateway_"
    assert found[name + "requests_total", "2xx", ROUTE] == 7
    assert found[name + "requests_total", "upstream_error", ROUTE] == 1
    assert found[name + "retries_total", ROUTE] == 2
    assert found[name + "fallbacks_total", "answer", ROUTE] == 1
    assert found[name + "own_duration_seconds_sum", ROUTE] == 12.5
    assert found[name + "own_duration_seconds_count", ROUTE] == sum(COUNTS)
    bounds = [*map(str, BUCKETS), "+Inf"]
    for bound, count in zip(bounds, accumulate(COUNTS), strict=True):
        assert found[name + "own_duration_seconds_bucket", bound, ROUTE] == count


def test_exposition_of_an_upstream() -> None:
    """Its tries and their time, and how it is."""
    found = samples(GATEWAY)
    name = "bulkhead_gateway_upstream_"
    assert found[name + "requests_total", "5xx", ROUTE, UPSTREAM] == 2
    assert found[name + "duration_seconds_sum", ROUTE, UPSTREAM] == 3.25
    assert found[name + "up", ROUTE, UPSTREAM] == 0
    assert found[name + "in_flight", ROUTE, UPSTREAM] == 4
    assert found[name + "ejections_total", ROUTE, UPSTREAM] == 5
    states = {s: found[name + "breaker_state", ROUTE, s, UPSTREAM] for s in _STATES}
    assert states == {"closed": 0, "open": 0, "half_open": 1}


_STATES = ("closed", "open", "half_open")


@pytest.mark.parametrize(
    ("name", "labels", "number"),
    [
        ("routes", (), 9),
        ("upstreams", ("up",), 10),
        ("upstreams", ("down",), 1),
        ("tunnels", ('a "tier"',), 3),
        ("tenants", (), 1),
        ("tenant_limit_decisions_total", ("allowed",), 20),
        ("tenant_limit_decisions_total", ("refused",), 3),
        ("tenant_limit_without_redis_total", (), 2),
        ("tenant_limit_denied_total", (), 1),
        ("keys", (), 4),
        ("keys_unwritten", (), 1),
        ("key_lookups_total", ("remembered",), 100),
        ("key_lookups_total", ("asked",), 5),
        ("key_lookups_total", ("shared",), 6),
        ("key_lookups_total", ("invented",), 7),
        ("changes_listening", (), 1),
        ("changes_age_seconds", (), 0.75),
        ("changes_connected_total", (), 2),
        ("changes_total", (), 8),
        ("client_connections", ("active",), 5),
        ("client_connections", ("idle",), 6),
        ("client_waiting", (), 1),
        ("redis_up", (), 1),
        ("instances", (), 3),
        ("redis_connections", (), 2),
        ("redis_in_flight", (), 1),
        ("redis_calls_total", (), 50),
        ("redis_round_trips_total", (), 40),
        ("redis_failures_total", ("failed",), 4),
        ("redis_failures_total", ("refused",), 6),
        ("redis_late_total", (), 2),
        ("redis_sessions_total", (), 1),
    ],
)
def test_exposition_of_the_whole_gateway(name: str, labels: tuple[str, ...], number: float) -> None:
    """Each number under its name, once."""
    assert samples(GATEWAY)["bulkhead_gateway_" + name, *labels] == number


def test_exposition_adds_processes_up() -> None:
    """Two that have counted the same have counted twice as much."""
    one, two = samples(GATEWAY), samples(GATEWAY, GATEWAY)
    assert one.keys() == two.keys()
    requests = ("bulkhead_gateway_requests_total", "2xx", ROUTE)
    assert two[requests] == 2 * one[requests]
    assert two["bulkhead_gateway_redis_up",] == 1


def test_exposition_of_what_is_not_known_is_nothing() -> None:
    """No Redis, no breaker, no health, no word of changes yet: no samples that look like some."""
    route = RouteSnapshot(upstreams={UPSTREAM: UpstreamSnapshot({"2xx": 1})})
    found = families(GatewaySnapshot(routes={ROUTE: route}))
    assert not any(name.startswith("bulkhead_gateway_redis") for name in found)
    assert "bulkhead_gateway_changes_age_seconds" not in found
    for name in ("up", "breaker_state", "in_flight", "ejections"):
        assert found[f"bulkhead_gateway_upstream_{name}"].samples == []


def test_exposition_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the pieces; no line is cut in two."""
    routes = {f"r{number}": GATEWAY.routes[ROUTE] for number in range(10)}
    gateway = GatewaySnapshot(routes=routes)
    whole = b"".join(gateway_exposition([gateway]))
    monkeypatch.setattr(gateway_metrics, "PIECE_LINES", 7)
    monkeypatch.setattr(gateway_metrics, "PIECE_ROUTES", 3)
    pieces = list(gateway_exposition([gateway]))
    assert b"".join(pieces) == whole
    assert all(piece.endswith(b"\n") for piece in pieces if piece)
    assert len(pieces) > 20
    assert max(piece.count(b"\n") for piece in pieces) <= 2 * 7  # a head is two
