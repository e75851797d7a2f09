"""Route documents as settings of groups: every number arrives, in seconds."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.gateway._balance_rules import Balancing
from bulkhead_trio.gateway._health_rules import CheckLimits, EjectionLimits
from bulkhead_trio.gateway.breaker import LocalBreaker
from bulkhead_trio.gateway.group_of_spec import fallback_settings, group_settings
from bulkhead_trio.gateway.group_settings import (
    BreakerSettings,
    CheckSettings,
    LimitSettings,
    UpstreamSettings,
)
from bulkhead_trio.gateway.spec import RouteSpec, read_spec
from bulkhead_trio.policies.breaker import Consecutive, CountWindow

TENANT = "7b0c2a52-6f2e-4d43-9a0b-0f9f3c1d2e4f"


def spec_with(**members: Any) -> RouteSpec:
    document = {
        "tenantId": TENANT,
        "path": "/api",
        "upstreams": [
            {"url": "http://127.0.0.1:3001", "weight": 3},
            {"url": "http://127.0.0.1:3002"},
        ],
        **members,
    }
    return read_spec(msgspec.json.encode(document))


def test_group_settings_have_every_number_in_seconds() -> None:
    """Milliseconds of the document become seconds, and percents shares."""
    settings = group_settings(
        "r1",
        spec_with(
            loadBalancing="least-connections",
            slowStartMs=2500,
            resilience={
                "circuitBreaker": {"failureThreshold": 4, "successThreshold": 3, "timeout": 15000},
                "healthCheck": {
                    "endpoint": "/up", "intervalMs": 1500, "timeoutMs": 250,
                    "healthyThreshold": 4, "unhealthyThreshold": 6,
                },
                "ejection": {"consecutiveFailures": 7, "baseMs": 5000, "maxMs": 60000},
                "bulkhead": {"maxConcurrent": 9, "queueSize": 11},
            },
        ),
    )  # fmt: skip
    assert (settings.tenant_id, settings.route_id) == (TENANT, "r1")
    assert settings.upstreams == (
        UpstreamSettings("http://127.0.0.1:3001", 3.0),
        UpstreamSettings("http://127.0.0.1:3002", 1.0),
    )
    assert (settings.balancing, settings.slow_start) == (Balancing.LEAST_CONNECTIONS, 2.5)
    assert settings.breaker == BreakerSettings(window=Consecutive(4), cooldown=15.0, successes=3)
    assert settings.checks == CheckSettings(
        endpoint="/up", interval=1.5, timeout=0.25, limits=CheckLimits(4, 6)
    )
    assert settings.ejection == EjectionLimits(7, 5.0, 60.0)
    assert settings.bulkhead == LimitSettings(9, 11)


def test_group_settings_leave_off_what_was_not_asked_for() -> None:
    """Absent and switched off are the same: nothing."""
    names = ("circuitBreaker", "healthCheck", "ejection", "bulkhead")
    off = {name: {"enabled": False} for name in names}
    for spec in (spec_with(), spec_with(resilience=off)):
        settings = group_settings("r1", spec)
        assert settings.balancing is Balancing.ROUND_ROBIN
        assert settings.slow_start == 0.0
        assert (settings.breaker, settings.checks, settings.ejection, settings.bulkhead) == (
            None, None, None, None,
        )  # fmt: skip
        assert fallback_settings("r1", spec) is None


@given(
    size=st.integers(1, 10_000),
    rate=st.floats(0.01, 100),
    minimum=st.none() | st.integers(1, 10_000),
)
def test_group_settings_of_a_rate_make_a_breaker(
    size: int, rate: float, minimum: int | None
) -> None:
    """Whatever rate, window and minimum a document may have, the breaker takes them."""
    circuit = {"failureRateThreshold": rate, "slidingWindowSize": size}
    if minimum is not None:
        circuit["minimumCalls"] = min(minimum, size)
    breaker = group_settings("r1", spec_with(resilience={"circuitBreaker": circuit})).breaker
    assert breaker is not None
    assert breaker.window == CountWindow(size)
    assert breaker.failure_rate == pytest.approx(rate / 100)
    LocalBreaker("b", breaker)


def test_fallback_settings_are_of_a_group_of_its_own() -> None:
    """Another upstream, protected as the route's own are, under an id that no route has."""
    resilience: dict[str, Any] = {
        "circuitBreaker": {"failureThreshold": 2},
        "fallback": {"upstream": "http://127.0.0.1:3009/spare"},
    }
    settings = fallback_settings("r1", spec_with(resilience=resilience))
    assert settings is not None
    assert settings.route_id == "r1.fallback"
    assert settings.upstreams == (UpstreamSettings("http://127.0.0.1:3009/spare"),)
    assert settings.breaker is not None
    assert settings.breaker.window == Consecutive(2)
    resilience["fallback"]["enabled"] = False
    assert fallback_settings("r1", spec_with(resilience=resilience)) is None


def test_fallback_settings_need_another_upstream() -> None:
    """A fixed answer alone is no upstream."""
    assert fallback_settings("r1", spec_with(resilience={"fallback": {"body": "{}"}})) is None
