"""A route's upstreams: who is picked, who is out, who comes back and how."""

from __future__ import annotations

import datetime
import random
from collections import Counter

import msgspec
import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.errors import CircuitOpen, NoUpstream, UpstreamError
from bulkhead_trio.gateway._balance_rules import Balancing
from bulkhead_trio.gateway._health_rules import CheckLimits, EjectionLimits
from bulkhead_trio.gateway.group import UpstreamGroup
from bulkhead_trio.gateway.group_settings import (
    BreakerSettings,
    CheckSettings,
    GroupSettings,
    LimitSettings,
    UpstreamSettings,
)
from bulkhead_trio.gateway.reports import UpstreamHealthChanged
from bulkhead_trio.gateway.upstream import Upstream, upstream_of

from .upstreams import fail, group_of, send, settings_of

CHECKS = CheckSettings(limits=CheckLimits(2, 2))
EJECTION = EjectionLimits(failures=3, base=10.0)


def picks(group: UpstreamGroup, times: int, exclude: tuple[Upstream, ...] = ()) -> str:
    """The numbers of those that are picked."""
    return "".join(group.pick(exclude).url[-1] for _ in range(times))


def take_out(group: UpstreamGroup, *numbers: int) -> None:
    for number in numbers:
        group.checked(group.upstreams[number], passed=False)


# --- balancing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("balancing", "expected"),
    [
        (Balancing.ROUND_ROBIN, "01201201"),
        (Balancing.WEIGHTED, "01200120"),
    ],
)
async def test_group_takes_turns(balancing: Balancing, expected: str) -> None:
    """Round robin asks all alike, whatever they weigh; weighted asks as they weigh, spread out."""
    assert picks(group_of(2, 1, 1, balancing=balancing), 8) == expected


async def test_group_picks_at_random_by_weight() -> None:
    """The given randomness decides, in proportion to the weights."""
    settings = settings_of(3, 1, balancing=Balancing.RANDOM)
    upstreams = [upstream_of(settings, each) for each in settings.upstreams]
    group = UpstreamGroup(settings, upstreams, random=random.Random(1).random)
    counts = Counter(picks(group, 4_000))
    assert counts["0"] == pytest.approx(3_000, rel=0.05)


async def test_group_picks_who_has_the_fewest_requests() -> None:
    """Requests under way count, those of a heavier upstream for less."""
    group = group_of(1, 2, balancing=Balancing.LEAST_CONNECTIONS)
    light, heavy = group.upstreams
    with light.enter_nowait(), heavy.enter_nowait():
        assert group.pick() is heavy
        with heavy.enter_nowait():
            assert picks(group, 6).count("1") == 4
            with heavy.enter_nowait():
                assert group.pick() is light


async def test_group_avoids_who_was_tried_as_long_as_there_is_another() -> None:
    """A retry goes elsewhere; where there is nowhere else, to the same one again."""
    group = group_of(1, 1, 1)
    first, second, third = group.upstreams
    assert {group.pick((first,)) for _ in range(4)} == {second, third}
    assert {group.pick((first, third)) for _ in range(3)} == {second}
    assert {group.pick(group.upstreams) for _ in range(3)} == set(group.upstreams)
    alone = group_of(1)
    assert alone.pick(alone.upstreams) is alone.upstreams[0]


# --- who is out ----------------------------------------------------------------------------------


async def test_group_passes_over_who_fails_its_checks() -> None:
    """Unknown is asked; unhealthy is not, and all the others are; healthy again is."""
    group = group_of(1, 1, 1, checks=CHECKS)
    assert picks(group, 3) == "012"
    take_out(group, 1)
    assert picks(group, 4) == "0202"
    group.checked(group.upstreams[1], passed=True)
    assert picks(group, 2) == "02"
    assert group.checked(group.upstreams[1], passed=True)
    assert Counter(picks(group, 6)) == {"0": 2, "1": 2, "2": 2}


async def test_group_whose_upstreams_are_all_down_says_so() -> None:
    """It guesses nothing, and the message tells no host; it is an upstream's error to callers."""
    group = group_of(1, 1, checks=CHECKS)
    take_out(group, 0, 1)
    with pytest.raises(NoUpstream, match="every upstream of this route is down") as error:
        group.pick()
    assert isinstance(error.value, UpstreamError)
    assert (error.value.code, error.value.origin) == ("upstream_error", "")
    assert error.value.retry_after is None
    assert (group.statistics().down, group.statistics().picked) == (1, 0)


async def test_group_ejects_at_most_half(autojump_clock: MockClock) -> None:
    """However many fail, requests alone take out half of them, rounded down."""
    group = group_of(1, 1, 1, 1, 1, ejection=EJECTION)
    for upstream in group.upstreams:
        fail(upstream, 9)
    assert [each.is_up for each in group.upstreams] == [False, False, True, True, True]
    assert set(picks(group, 6)) == {"2", "3", "4"}


@pytest.mark.parametrize(("count", "out"), [(1, 0), (2, 1), (3, 1), (4, 2)])
async def test_group_never_ejects_its_last(count: int, out: int) -> None:
    """A single upstream stays in, whatever it does; of two, one does."""
    group = group_of(*[1] * count, ejection=EJECTION)
    for upstream in group.upstreams:
        fail(upstream, 3)
    assert sum(not each.is_up for each in group.upstreams) == out


async def test_group_counts_what_checks_took_out_before_it_ejects() -> None:
    """Where checks have taken half out already, requests take nobody."""
    group = group_of(1, 1, 1, 1, checks=CHECKS, ejection=EJECTION)
    take_out(group, 0)
    fail(group.upstreams[1], 3)
    fail(group.upstreams[2], 3)
    assert [each.health for each in group.upstreams] == [
        "unhealthy", "ejected", "unknown", "unknown",
    ]  # fmt: skip


async def test_group_lets_the_ejected_in_again(autojump_clock: MockClock) -> None:
    """After its time, which grows; failures in a row count, and a success between ends the row."""
    heard: list[UpstreamHealthChanged] = []
    group = group_of(1, 1, ejection=EJECTION, heard=heard)
    bad = group.upstreams[0]
    began = trio.current_time()
    fail(bad, 2)
    send(bad)
    fail(bad, 2)
    assert bad.is_up
    send(bad, 503)
    assert not bad.is_up
    await trio.sleep(9)
    assert picks(group, 3) == "111"
    await trio.sleep(1)
    assert set(picks(group, 2)) == {"0", "1"}
    fail(bad, 3)
    await trio.sleep(19)
    assert picks(group, 3) == "111"
    await trio.sleep(1)
    assert set(picks(group, 2)) == {"0", "1"}
    assert [(each.before, each.after, each.at - began) for each in heard] == [
        ("unknown", "ejected", 0.0),
        ("ejected", "unknown", 10.0),
        ("unknown", "ejected", 10.0),
        ("ejected", "unknown", 30.0),
    ]
    assert heard[0].url == "http://u0"
    assert group.statistics().upstreams[0].ejections == 2


async def test_group_of_which_the_rest_is_ejected_says_when_it_is_over(
    autojump_clock: MockClock,
) -> None:
    """When one is ejected and checks take out the other, all are down, until the ejection ends."""
    group = group_of(1, 1, checks=CHECKS, ejection=EJECTION)
    fail(group.upstreams[0], 3)
    take_out(group, 1)
    await trio.sleep(4)
    with pytest.raises(NoUpstream) as error:
        group.pick()
    assert error.value.retry_after == pytest.approx(6.0)
    await trio.sleep(6)
    assert group.pick() is group.upstreams[0]


async def test_group_requests_without_ejection_take_nobody_out() -> None:
    """What was not asked for is off."""
    group = group_of(1, 1)
    fail(group.upstreams[0], 50)
    assert picks(group, 4) == "0101"


# --- breakers ------------------------------------------------------------------------------------


async def test_group_passes_over_open_breakers(autojump_clock: MockClock) -> None:
    """An upstream whose breaker is open gets nothing; after the cooldown one probe."""
    group = group_of(1, 1, breaker=BreakerSettings(cooldown=10.0))
    bad = group.upstreams[0]
    fail(bad, 5)
    assert picks(group, 3) == "111"
    await trio.sleep(10)
    assert set(picks(group, 2)) == {"0", "1"}
    with bad.enter_nowait():
        assert picks(group, 3) == "111"
    assert set(picks(group, 2)) == {"0", "1"}


async def test_group_whose_breakers_are_all_open_says_when_to_come_again(
    autojump_clock: MockClock,
) -> None:
    """The smallest wait of those that are up counts; who is down says nothing."""
    group = group_of(1, 1, 1, breaker=BreakerSettings(cooldown=10.0), checks=CHECKS)
    for number in (1, 0, 2):
        fail(group.upstreams[number], 5)
        await trio.sleep(2)
    for out, wait in ((None, 4.0), (1, 6.0), (0, 8.0)):
        if out is not None:
            take_out(group, out)
        with pytest.raises(CircuitOpen) as error:
            group.pick()
        assert error.value.retry_after == pytest.approx(wait)
        assert "http" not in error.value.message
    take_out(group, 2)
    with pytest.raises(NoUpstream):
        group.pick()
    statistics = group.statistics()
    assert (statistics.open, statistics.down) == (3, 1)


# --- slow start ----------------------------------------------------------------------------------


async def test_group_gives_who_came_back_its_weight_by_and_by(autojump_clock: MockClock) -> None:
    """Little at first, its part in the end, linearly between; the others keep their proportions."""
    group = group_of(1, 1, checks=CHECKS, slow_start=100.0)
    take_out(group, 0)
    for _ in range(2):
        group.checked(group.upstreams[0], passed=True)
    assert Counter(picks(group, 110))["0"] == 10
    await trio.sleep(50)
    assert Counter(picks(group, 300))["0"] == 100
    await trio.sleep(50)
    assert Counter(picks(group, 100))["0"] == 50
    assert group.upstreams[0].slow_since is None


async def test_group_starts_slowly_after_an_ejection(autojump_clock: MockClock) -> None:
    """Who was ejected is not flooded at once either."""
    group = group_of(1, 1, ejection=EJECTION, slow_start=100.0)
    fail(group.upstreams[0], 3)
    await trio.sleep(10)
    assert Counter(picks(group, 22))["0"] == 2
    await trio.sleep(100)
    assert Counter(picks(group, 20))["0"] == 10


async def test_group_starts_slowly_after_an_open_breaker(autojump_clock: MockClock) -> None:
    """Nor is one whose breaker was open: from when it is seen closed."""
    group = group_of(1, 1, breaker=BreakerSettings(cooldown=10.0), slow_start=100.0)
    bad = group.upstreams[0]
    fail(bad, 5)
    assert picks(group, 2) == "11"
    await trio.sleep(10)
    send(bad)
    assert Counter(picks(group, 22))["0"] == 2
    await trio.sleep(100)
    assert Counter(picks(group, 20))["0"] == 10


async def test_group_begins_a_slow_start_once(autojump_clock: MockClock) -> None:
    """Who comes back from two things at once starts slowly from then on, and not again later."""
    group = group_of(1, 1, breaker=BreakerSettings(cooldown=10.0), checks=CHECKS, slow_start=100.0)
    bad = group.upstreams[0]
    fail(bad, 5)
    await trio.sleep(10)
    group.pick()
    with bad.enter_nowait():
        take_out(group, 0)
    assert bad.breaker is not None
    assert bad.breaker.is_closed
    for _ in range(2):
        group.checked(bad, passed=True)
    came_back = trio.current_time()
    await trio.sleep(50)
    group.pick()
    assert bad.slow_since == came_back


async def test_group_starts_at_once_where_nothing_is_said() -> None:
    """Without a slow start who comes back has its part at once."""
    group = group_of(1, 1, checks=CHECKS)
    take_out(group, 0)
    for _ in range(2):
        group.checked(group.upstreams[0], passed=True)
    assert Counter(picks(group, 10))["0"] == 5


# --- what it says of itself ----------------------------------------------------------------------


async def test_group_health_report_has_all_there_is_to_know(autojump_clock: MockClock) -> None:
    """In JSON, with names in camelCase and times of day; moments of Trio's clock are told in it."""
    group = group_of(3, 1, checks=CHECKS, ejection=EJECTION, breaker=BreakerSettings(cooldown=30.0))
    day = datetime.datetime(2026, 2, 11, 12, tzinfo=datetime.UTC)
    group.checked(group.upstreams[1], passed=True)
    await trio.sleep(2)
    fail(group.upstreams[0], 5)
    await trio.sleep(1)
    report = msgspec.to_builtins(group.health_report(day))
    assert report == {
        "routeId": "r1",
        "healthy": True,
        "upstreams": (
            {
                "url": "http://u0", "weight": 1.0, "healthy": False, "state": "ejected",
                "lastCheck": None, "consecutiveSuccesses": 0, "consecutiveFailures": 0,
                "failedRequests": 3, "ejectedUntil": "2026-02-11T12:00:09Z", "ejections": 1,
                "inFlight": 0,
                "circuitBreaker": {"state": "OPEN", "failures": 5, "retryAfter": 29.0},
            },
            {
                "url": "http://u1", "weight": 1.0, "healthy": True, "state": "healthy",
                "lastCheck": "2026-02-11T11:59:57Z", "consecutiveSuccesses": 1,
                "consecutiveFailures": 0, "failedRequests": 0, "ejectedUntil": None,
                "ejections": 0, "inFlight": 0,
                "circuitBreaker": {"state": "CLOSED", "failures": 0, "retryAfter": 0.0},
            },
        ),
    }  # fmt: skip


async def test_group_statistics_are_a_snapshot() -> None:
    """What was taken stays as it was."""
    group = group_of(1, 2, balancing=Balancing.WEIGHTED, bulkhead=LimitSettings(2))
    before = group.statistics()
    send(group.pick())
    after = group.statistics()
    assert (before.picked, after.picked) == (0, 1)
    assert [each.weight for each in after.upstreams] == [1.0, 2.0]
    assert [each.succeeded for each in before.upstreams] == [0, 0]
    assert [each.succeeded for each in after.upstreams] == [0, 1]
    assert after.upstreams[0].breaker is None
    assert after.upstreams[0].bulkhead is not None


async def test_group_listener_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The upstream is out all the same, and the trouble is logged."""
    settings = settings_of(1, 1, checks=CHECKS)

    def raises(record: UpstreamHealthChanged) -> None:
        raise ValueError(record.after)

    upstreams = [upstream_of(settings, each) for each in settings.upstreams]
    group = UpstreamGroup(settings, upstreams, random=lambda: 0.0, listeners=(raises,))
    take_out(group, 0)
    assert group.pick() is group.upstreams[1]
    assert "a listener raised" in caplog.text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: settings_of(), "upstreams"),
        (lambda: settings_of(0), "weight"),
        (lambda: settings_of(-1), "weight"),
        (lambda: settings_of(1, slow_start=-1), "slow_start"),
        (
            lambda: GroupSettings(
                tenant_id="t", route_id="r", upstreams=(UpstreamSettings("http://u"),) * 2
            ),
            "twice",
        ),
        (lambda: LimitSettings(0), "max_concurrent"),
        (lambda: LimitSettings(1, -1), "queue_size"),
        (lambda: CheckSettings(interval=0), "interval"),
        (lambda: CheckSettings(timeout=-1), "timeout"),
        (lambda: CheckSettings(endpoint="health"), "endpoint"),
    ],
)
def test_group_settings_refuse_nonsense(make: type, message: str) -> None:
    """By name, and before anything is made of them."""
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://u", "http://u/health?deep=1"),
        ("http://u/", "http://u/health?deep=1"),
        ("http://u:8080/base/", "http://u:8080/base/health?deep=1"),
        ("http://u/base?key=1", "http://u/base/health?deep=1"),
    ],
)
def test_check_url_is_behind_the_base_path(url: str, expected: str) -> None:
    """Checks go where requests go."""
    assert CheckSettings(endpoint="/health?deep=1").url(url) == expected
