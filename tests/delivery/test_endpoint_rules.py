"""What a try changes about its endpoint."""

from __future__ import annotations

import pytest

from bulkhead_trio.delivery._endpoint_rules import (
    DISABLE_AFTER_SECONDS,
    FAILING,
    LONGEST_SLOW_SECONDS,
    SLOW_SECONDS,
    change_of,
    slow_seconds,
)
from bulkhead_trio.delivery._verdict_rules import GONE, Failure, verdict_of

NOW = 1_770_000_000.0
DAY = 86_400.0


def change(
    result: int | Failure, *, failing_for: float | None = None, slow: float | None = None
) -> tuple[bool, str | None, float | None] | None:
    """Whether it is failing, why it is disabled, and for how long it is slowed down."""
    found = change_of(
        verdict_of(result),
        failing_since=None if failing_for is None else NOW - failing_for,
        now=NOW,
        slow=slow,
    )
    if found is None:
        return None
    return found.is_failing, found.disable_reason, found.slow_seconds


def test_success_of_a_good_endpoint_changes_nothing() -> None:
    """Nothing is written for what goes well."""
    assert change(200) is None


def test_success_of_a_failing_endpoint_makes_it_good() -> None:
    """However long it was failing."""
    assert change(200, failing_for=1) == (False, None, None)
    assert change(204, failing_for=100 * DAY) == (False, None, None)


def test_first_failure_makes_an_endpoint_failing() -> None:
    """Since when, the one who writes it knows."""
    assert change(500) == (True, None, None)
    assert change(404) == (True, None, None)
    assert change(Failure.TIMEOUT) == (True, None, None)


def test_further_failures_change_nothing() -> None:
    """The first of them counts."""
    assert change(500, failing_for=DAY) is None


def test_five_days_of_nothing_but_failures_disable() -> None:
    """Not a second earlier."""
    assert DISABLE_AFTER_SECONDS == 5 * DAY
    assert change(500, failing_for=5 * DAY - 1) is None
    assert change(500, failing_for=5 * DAY) == (True, FAILING, None)
    assert change(Failure.REFUSED_ADDRESS, failing_for=6 * DAY) == (True, FAILING, None)


def test_days_of_failures_that_disable_can_be_configured() -> None:
    """In seconds."""
    verdict = verdict_of(500)
    for failing_for, reason in ((9.0, None), (10.0, FAILING)):
        found = change_of(verdict, failing_since=NOW - failing_for, now=NOW, disable_after=10)
        assert (found and found.disable_reason) == reason


def test_410_disables_at_once() -> None:
    """And says why, whatever was before."""
    assert change(410) == (True, GONE, None)
    assert change(410, failing_for=9 * DAY) == (True, GONE, None)


def test_slowing_down_is_written_each_time() -> None:
    """Also where it is known already that the endpoint is failing."""
    assert change(429, slow=7.0) == (True, None, 7.0)
    assert change(429, slow=7.0, failing_for=DAY) == (True, None, 7.0)


@pytest.mark.parametrize("failing_for", [None, 9 * DAY])
def test_mistake_of_ours_changes_nothing(failing_for: float | None) -> None:
    """An endpoint is not failing because we cannot sign."""
    assert change(Failure.NO_SECRET, failing_for=failing_for) is None


@pytest.mark.parametrize("status", [429, 502, 504])
@pytest.mark.parametrize(
    ("asked", "wait", "seconds"),
    [
        (None, None, SLOW_SECONDS),
        (None, 300.0, SLOW_SECONDS),
        (None, 5.0, 5.0),
        (None, 0.1, 1.0),
        (0.0, 5.0, 1.0),
        (7.0, 5.0, 7.0),
        (700.0, None, 700.0),
        (1e9, 5.0, LONGEST_SLOW_SECONDS),
    ],
)
def test_overload_slows_the_endpoint_down(
    status: int, asked: float | None, wait: float | None, seconds: float
) -> None:
    """For as long as it asks for; else until its delivery comes again, half a minute at most."""
    assert slow_seconds(verdict_of(status), asked=asked, wait=wait) == seconds


@pytest.mark.parametrize("status", [200, 302, 404, 500, 503])
def test_nothing_else_slows_the_endpoint_down(status: int) -> None:
    """Though it asks for time: then its own delivery waits, and the others do not."""
    assert slow_seconds(verdict_of(status), asked=120.0, wait=120.0) is None


def test_endpoint_that_is_left_alone_gets_nothing_meanwhile() -> None:
    """On no instance, for as long as the breaker says, or longer where it has asked for it."""
    down = verdict_of(Failure.TIMEOUT)
    assert slow_seconds(down, asked=None, wait=300.0, left_alone=20.0) == 20
    assert slow_seconds(verdict_of(504), asked=60.0, wait=300.0, left_alone=20.0) == 60
