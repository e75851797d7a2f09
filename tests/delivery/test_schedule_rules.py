"""When a delivery is tried again."""

from __future__ import annotations

import math
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.delivery._schedule_rules import (
    DEFAULT_WAITS,
    JITTER,
    RetrySchedule,
    read_retry_after,
)

DAY = 86_400.0
NOW = 1_770_000_000.0

randoms = st.floats(0, 1, exclude_max=True)
waits = st.lists(st.floats(0, 30 * DAY), max_size=12).map(tuple)


def test_schedule_unless_said_is_the_specifications() -> None:
    """Ten tries; with chance in the middle, at the times of Standard Webhooks' own table."""
    schedule = RetrySchedule()
    assert schedule.tries == 10
    at, times = 0.0, []
    for tries in range(1, 10):
        wait = schedule.wait(tries, random=0.5)
        assert wait is not None
        at += wait
        times.append(round(at))
    assert times == [
        5,
        305,
        35 * 60 + 5,
        (2 * 60 + 35) * 60 + 5,
        (7 * 60 + 35) * 60 + 5,
        (17 * 60 + 35) * 60 + 5,
        (31 * 60 + 35) * 60 + 5,
        (51 * 60 + 35) * 60 + 5,
        (75 * 60 + 35) * 60 + 5,
    ]
    assert schedule.wait(10, random=0.5) is None
    assert schedule.wait(11, random=0.5) is None


@given(waits, randoms)
def test_waits_stay_within_a_tenth_of_the_schedule(waits: tuple[float, ...], random: float) -> None:
    """Chance makes each wait up to 10 % shorter or longer; after the last there is none."""
    schedule = RetrySchedule(waits)
    for tries, wait in enumerate(waits, start=1):
        found = schedule.wait(tries, random=random)
        assert found is not None
        assert wait * (1 - JITTER) - 1e-6 <= found <= wait * (1 + JITTER) + 1e-6
    assert schedule.wait(len(waits) + 1, random=random) is None


def test_jitter_reaches_both_ends() -> None:
    """It is a tenth, in both directions."""
    schedule = RetrySchedule((100.0,))
    assert schedule.wait(1, random=0.0) == pytest.approx(90)
    assert schedule.wait(1, random=math.nextafter(1, 0)) == pytest.approx(110)


def test_schedule_without_waits_tries_once() -> None:
    """Empty means no further try."""
    assert RetrySchedule(()).tries == 1
    assert RetrySchedule(()).wait(1, random=0.5) is None


def test_span_is_all_of_the_schedules_time() -> None:
    """The longest waits that chance gives, and every try to its last second."""
    assert RetrySchedule((10.0, 20.0)).span(15.0) == pytest.approx(33 + 45)
    assert RetrySchedule(()).span(15.0) == 15


@pytest.mark.parametrize("wait", [-1.0, math.nan, math.inf])
def test_schedule_with_nonsense_is_refused(wait: float) -> None:
    """A wait is a number of seconds."""
    with pytest.raises(ValueError, match="waits"):
        RetrySchedule((1.0, wait))


def test_wait_before_any_try_is_refused() -> None:
    """The first try waits for nothing."""
    with pytest.raises(ValueError, match="tries"):
        RetrySchedule().wait(0, random=0.5)


def test_asked_wait_is_honoured_where_it_is_longer() -> None:
    """An endpoint that asks for 20 minutes after the first try gets them, and no less."""
    schedule = RetrySchedule()
    assert schedule.wait(1, random=0.0, asked=1200.0) == pytest.approx(1200)
    assert schedule.wait(1, random=0.9, asked=1200.0) == pytest.approx(1200 * 1.09)


def test_asked_wait_that_is_shorter_changes_nothing() -> None:
    """Nobody makes us come sooner than the schedule says."""
    schedule = RetrySchedule()
    for asked in (0.0, 1.0, 200.0):
        assert schedule.wait(2, random=0.5, asked=asked) == pytest.approx(300)


def test_asked_wait_is_at_most_a_day_or_the_schedules_longest() -> None:
    """Nobody parks deliveries for years."""
    assert RetrySchedule((1.0,)).wait(1, random=0.0, asked=1e10) == pytest.approx(DAY)
    assert RetrySchedule((1.0, 2 * DAY)).wait(1, random=0.0, asked=1e10) == pytest.approx(2 * DAY)


def test_asked_wait_gives_no_try_after_the_last() -> None:
    """Asking for time is not asking for more tries."""
    assert RetrySchedule((1.0,)).wait(2, random=0.5, asked=5.0) is None


@given(waits.filter(bool), st.floats(0, 1e12), randoms, st.data())
def test_asked_wait_stays_within_its_bounds(
    waits: tuple[float, ...], asked: float, random: float, data: st.DataObject
) -> None:
    """Never shorter than the schedule's own, never more than a tenth above the longest."""
    schedule = RetrySchedule(waits)
    tries = data.draw(st.integers(1, len(waits)))
    own = schedule.wait(tries, random=random)
    found = schedule.wait(tries, random=random, asked=asked)
    assert own is not None
    assert found is not None
    assert own <= found <= max(DAY, *waits) * (1 + JITTER)
    assert found >= min(asked, DAY)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("9999999999", 9_999_999_999.0),
        ("10000000001", 1e10),
        ("9" * 400, 1e10),
        ("0" * 100_000 + "7", 7.0),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0.0),
        ("Sun Nov  6 08:49:37 1994", 0.0),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 4_133_980_799.0 - NOW),
    ],
)
def test_retry_after_is_read(value: str, seconds: float) -> None:
    """Seconds, or a date in each of HTTP's three forms; a past one asks for nothing."""
    assert read_retry_after(value, now=NOW) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "soon",
        "-5",
        "1.5",
        "1e3",
        "+5",
        "٣",
        "Fri, 99 Foo 2100 99:99:99 GMT",
        "Fri, 31 Dec 99999999 23:59:59 GMT",
        "Fri, 31 Dec 2100 23:59:59 GMT" + " " + "x" * 100,
        "Fri, " * 10_000,
    ],
)
def test_retry_after_that_is_none_is_passed_over(value: str | None) -> None:
    """Nonsense in a header says nothing, and costs nothing."""
    assert read_retry_after(value, now=NOW) is None


@given(st.text(max_size=80))
def test_retry_after_of_any_text_is_a_number_or_nothing(value: str) -> None:
    """Whatever an endpoint sends, it is read without an accident."""
    found = read_retry_after(value, now=NOW)
    assert found is None or found >= 0
    assert found is None or math.isfinite(found)


def test_default_waits_are_those_of_the_configuration() -> None:
    """What is documented as the default is the default."""
    assert DEFAULT_WAITS == (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
