"""Active checks: when, how many at once, what counts, and that they end with their group."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.errors import BulkheadFull, InvalidRequest, UpstreamError
from bulkhead_trio.gateway._health_rules import CheckLimits, Verdict
from bulkhead_trio.gateway.group_settings import CheckSettings, UpstreamKey
from bulkhead_trio.gateway.groups import Groups
from bulkhead_trio.gateway.health import JITTER, HealthBoard, LocalHealthBoard
from bulkhead_trio.gateway.reports import UpstreamHealthChanged
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations

from .upstreams import settings_of

CHECKS = CheckSettings(interval=10.0, timeout=2.0, limits=CheckLimits(2, 3))

Answer = Callable[[], Awaitable[bool | None]]


async def well() -> bool | None:
    await trio.sleep(0.1)
    return True


@attrs.define
class Script:
    """Stands for the upstreams: answers each check as it is told to, and notes when it was asked.

    Attributes:
        answers: by URL; whoever is not there is well.
        at: the times at which each URL was asked.
        at_once: the most that ever ran at the same time.
    """

    answers: dict[str, Answer] = attrs.Factory(dict)
    at: dict[str, list[float]] = attrs.Factory(dict)
    running: int = 0
    at_once: int = 0

    async def check(self, url: str, timeout: float) -> bool | None:  # noqa: ARG002
        self.at.setdefault(url, []).append(trio.current_time())
        self.running += 1
        self.at_once = max(self.at_once, self.running)
        try:
            return await self.answers.get(url, well)()
        finally:
            self.running -= 1

    @property
    def asked(self) -> int:
        return sum(map(len, self.at.values()))


def answering(*answers: object) -> Answer:
    """Gives or raises one after the other, the last for ever."""
    left = list(answers)

    async def answer() -> bool | None:
        await trio.lowlevel.checkpoint()
        now = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(now, Exception):
            raise now
        assert now is None or isinstance(now, bool)
        return now

    return answer


@asynccontextmanager
async def running(
    script: Script, board: HealthBoard | None = None, **options: Any
) -> AsyncIterator[Groups]:
    groups = Groups(check=script.check, random=random.Random(7).random, board=board, **options)
    async with trio.open_nursery() as nursery:
        await nursery.start(groups.run)
        yield groups
        nursery.cancel_scope.cancel()


async def test_checker_keeps_to_its_jittered_intervals(autojump_clock: MockClock) -> None:
    """First within a second, then every interval, a tenth more or less; and not in step."""
    script = Script()
    async with running(script) as groups:
        began = trio.current_time()
        groups.put(settings_of(*[1] * 20, checks=CHECKS))
        await trio.sleep(200)
    assert set(script.at) == {f"http://u{number}/health" for number in range(20)}
    gaps = []
    for times in script.at.values():
        assert 0 <= times[0] - began <= 1
        gaps += [after - before for before, after in itertools.pairwise(times)]
    assert all(10 * (1 - JITTER) <= gap <= 10 * (1 + JITTER) + 1e-9 for gap in gaps)
    assert len({times[5] for times in script.at.values()}) == 20
    assert max(gaps) - min(gaps) > 1, "they are spread over the jitter"


async def test_checker_takes_out_and_brings_back(autojump_clock: MockClock) -> None:
    """What fails its checks gets no requests until it has passed enough of them again."""
    heard: list[UpstreamHealthChanged] = []
    answer = answering(True, False, UpstreamError("", origin=""), OSError(), True, True)
    script = Script({"http://u0/health": answer})
    async with running(script, listeners=[heard.append]) as groups:
        group = groups.put(settings_of(1, 1, checks=CHECKS))
        bad = group.upstreams[0]
        await trio.sleep(2)
        assert [each.checked.kind for each in group.upstreams] == [Verdict.HEALTHY] * 2
        while bad.is_up:
            assert len(script.at["http://u0/health"]) <= 4
            await trio.sleep(0.5)
        assert len(script.at["http://u0/health"]) == 4
        assert group.pick() is group.upstreams[1]
        while not bad.is_up:
            await trio.sleep(0.5)
        assert len(script.at["http://u0/health"]) == 6
    assert [(each.url[-1], each.before, each.after) for each in heard if each.url[-1] == "0"] == [
        ("0", "unknown", "healthy"),
        ("0", "healthy", "unhealthy"),
        ("0", "unhealthy", "healthy"),
    ]


async def test_checker_first_check_decides_alone(autojump_clock: MockClock) -> None:
    """Who is found down at first is out at once."""
    script = Script({"http://u0/health": answering(UpstreamError("", origin=""))})
    async with running(script) as groups:
        group = groups.put(settings_of(1, 1, checks=CHECKS))
        assert group.upstreams[0].is_up
        await trio.sleep(1.1)
        assert not group.upstreams[0].is_up


async def test_checker_counts_a_check_that_takes_too_long_as_failed(
    autojump_clock: MockClock,
) -> None:
    """A check has its timeout and no longer; what it held is given back."""
    script = Script({"http://u0/health": trio.sleep_forever})
    async with running(script) as groups:
        group = groups.put(settings_of(1, 1, checks=CHECKS))
        await trio.sleep(1 + CHECKS.timeout + 0.1)
        assert not group.upstreams[0].is_up
        assert script.running == 0


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (answering(None), Verdict.UNKNOWN),
        (answering(BulkheadFull("")), Verdict.UNKNOWN),
        (answering(InvalidRequest("")), Verdict.UNHEALTHY),
        (answering(False), Verdict.UNHEALTHY),
    ],
)
async def test_checker_knows_what_says_nothing(
    autojump_clock: MockClock, answer: Answer, verdict: Verdict
) -> None:
    """A check that could not even be made is no verdict on the upstream."""
    script = Script({"http://u0/health": answer})
    async with running(script) as groups:
        group = groups.put(settings_of(1, checks=CHECKS))
        await trio.sleep(30)
        assert group.upstreams[0].checked.kind is verdict
        assert script.asked > 2


async def test_checker_outlives_a_check_that_is_broken(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake in a check is logged, takes nobody out, and the other checks go on."""
    script = Script({"http://u0/health": answering(TypeError("a mistake"))})
    async with running(script) as groups:
        group = groups.put(settings_of(1, 1, checks=CHECKS))
        await trio.sleep(30)
        assert [each.checked.kind for each in group.upstreams] == [
            Verdict.UNKNOWN, Verdict.HEALTHY,
        ]  # fmt: skip
    assert "a mistake" in caplog.text


async def test_checker_bounds_how_many_run_at_once(autojump_clock: MockClock) -> None:
    """Thousands of upstreams are checked a few at a time, each in its turn and none left out."""

    async def slow() -> bool | None:
        await trio.sleep(0.01)
        return True

    checks = CheckSettings(interval=30.0, timeout=5.0)
    urls = [f"http://u{number}/health" for number in range(10)]
    script = Script(dict.fromkeys(urls, slow))
    async with running(script, most_checks=8) as groups:
        groups.replace(
            settings_of(*[1] * 10, route_id=f"r{number}", checks=checks) for number in range(200)
        )
        await trio.sleep(10)
        assert script.asked == 2_000
        await trio.sleep(30)
        assert script.asked >= 4_000
    assert script.at_once == 8


async def test_checker_stops_when_its_group_goes(autojump_clock: MockClock) -> None:
    """A check under way is cancelled, and none follows; the others' go on."""
    script = Script({"http://u0/health": trio.sleep_forever})
    slow = CheckSettings(interval=10.0, timeout=9.0)
    async with running(script) as groups:
        group = groups.put(settings_of(1, route_id="goes", checks=slow))
        await trio.sleep(2)
        assert script.running == 1
        groups.discard("goes")
        await trio.sleep(0.1)
        assert script.running == 0
        groups.put(settings_of(1, 1, route_id="stays", checks=slow))
        await trio.sleep(50)
        assert len(script.at["http://u0/health"]) > 2
        groups.replace([])
        asked = script.asked
        await trio.sleep(100)
        assert script.asked == asked
        assert len(groups._checker) == 0
    assert group.upstreams[0].checked.kind is Verdict.UNKNOWN, "cut off is no verdict"


async def test_checker_forgets_what_goes_before_its_turn(autojump_clock: MockClock) -> None:
    """Routes that come and go fill nothing up."""
    script = Script()
    async with running(script) as groups:
        for number in range(1_000):
            groups.put(settings_of(1, 1, route_id=f"r{number}", checks=CHECKS))
            groups.discard(f"r{number}")
        assert len(groups._checker._plan) <= 2 + 64
        await trio.sleep(20)
    assert script.asked == 0


async def test_checker_goes_on_through_a_change_of_the_route(autojump_clock: MockClock) -> None:
    """Counts and the beat go on where the upstream stays; a group without checks has none."""
    answer = answering(True, False, False, False, True)
    script = Script({"http://u0/health": answer})
    async with running(script) as groups:
        groups.put(settings_of(1, checks=CHECKS))
        await trio.sleep(15)
        assert script.asked == 2
        group = groups.put(settings_of(5, 1, checks=CHECKS, slow_start=50.0))
        assert group.upstreams[0].checked.failed == 1
        await trio.sleep(22)
        assert not group.upstreams[0].is_up, "two more failures made three"
        assert len(script.at["http://u0/health"]) == 4
        await trio.sleep(22)
        assert group.upstreams[0].is_up
        assert group.upstreams[0].slow_since is not None, "as the group of now has it"
        group = groups.put(settings_of(5, 1))
        asked = script.asked
        await trio.sleep(50)
        assert script.asked == asked
        assert group.upstreams[0].is_up


async def test_checker_runs_once_at_a_time_and_again_after(autojump_clock: MockClock) -> None:
    """Two at once would check everything twice; after a stop it goes on with what it has."""
    script = Script()
    async with running(script) as groups:
        groups.put(settings_of(1, checks=CHECKS))
        with pytest.raises(RuntimeError, match="already"):
            await groups.run()
        await trio.sleep(5)
    asked = script.asked
    await trio.sleep(50)
    assert script.asked == asked == 1
    with trio.move_on_after(15):
        await groups.run()
    assert script.asked > asked


async def test_checker_that_is_cancelled_leaves_nothing_running(autojump_clock: MockClock) -> None:
    """Every check ends with it, and what it was checking is due again when it runs again."""
    script = Script({"http://u0/health": trio.sleep_forever})
    groups = Groups(check=script.check, random=random.Random(7).random, most_checks=1)
    groups.put(settings_of(1, checks=CHECKS))
    for seconds in (1.5, 30):
        with trio.move_on_after(seconds):
            await groups.run()
        assert script.running == 0
    assert script.asked >= 2
    assert groups._checker._places.value == 1


async def test_checker_is_at_rest_wherever_it_is_cancelled(autojump_clock: MockClock) -> None:
    """Waiting for what is due, for a place or for checks to end: every place comes back."""

    async def scenario(point: CancellationPoint) -> None:
        script = Script({"http://u0/health": trio.sleep_forever})
        groups = Groups(check=script.check, random=random.Random(7).random, most_checks=2)
        groups.put(settings_of(1, 1, checks=CHECKS))
        with point, trio.move_on_after(15):
            await groups.run()
        assert script.running == 0
        assert groups._checker._places.value == 2
        assert len(groups._checker._plan) == 2
        with trio.move_on_after(15):
            await groups.run()
        assert script.asked >= 2

    assert await sweep_cancellations(scenario) > 5


class TakingTurns(LocalHealthBoard):
    """A board of which one instance has the turn."""

    def __init__(self, shared: LocalHealthBoard, *, has_turn: bool) -> None:
        super().__init__()
        self.shared = shared
        self.has_turn = has_turn
        self.leases: set[float] = set()

    async def may_check(self, key: UpstreamKey, seconds: float) -> bool:  # noqa: ARG002
        await trio.lowlevel.checkpoint()
        self.leases.add(seconds)
        return self.has_turn

    def report(self, key: UpstreamKey, *, healthy: bool) -> None:
        self.shared.report(key, healthy=healthy)

    def subscribe(self, listener: Callable[[UpstreamKey, bool], None]) -> Callable[[], None]:
        return self.shared.subscribe(listener)


async def test_checker_checks_only_in_its_turn_and_hears_the_others(
    autojump_clock: MockClock,
) -> None:
    """Of two instances one asks, and both know; when the turn goes over, so do the checks."""
    shared = LocalHealthBoard()
    answer = answering(True, False, False, False, True)
    mine, theirs = Script({"http://u0/health": answer}), Script({"http://u0/health": answer})
    my_board = TakingTurns(shared, has_turn=True)
    their_board = TakingTurns(shared, has_turn=False)
    async with running(mine, my_board) as one, running(theirs, their_board) as other:
        groups = [each.put(settings_of(1, checks=CHECKS)) for each in (one, other)]
        other.put(settings_of(1, route_id="r2", checks=CHECKS))
        await trio.sleep(35)
        assert (mine.asked > 2, theirs.asked) == (True, 0)
        assert [group.upstreams[0].is_up for group in groups] == [False, False]
        assert groups[1].upstreams[0].checked.at is not None
        my_board.has_turn, their_board.has_turn = False, True
        asked = mine.asked
        await trio.sleep(35)
        assert mine.asked == asked
        assert theirs.asked >= 2
        assert [group.upstreams[0].is_up for group in groups] == [True, True]
    assert my_board.leases == {2 * 10.0 + 2.0}
    shared.report(("t1", "r1", "http://u0"), healthy=False)
    assert groups[0].upstreams[0].is_up, "who no longer runs hears nothing"


async def test_groups_heed_only_words_about_their_own(autojump_clock: MockClock) -> None:
    """Another tenant's route, another URL, a route without checks: nothing happens."""
    board = LocalHealthBoard()
    async with running(Script(), board) as groups:
        group = groups.put(settings_of(1, checks=CHECKS))
        unchecked = groups.put(settings_of(1, route_id="r2"))
        for key in (
            ("t2", "r1", "http://u0"),
            ("t1", "r9", "http://u0"),
            ("t1", "r1", "http://u9"),
            ("t1", "r2", "http://u0"),
        ):
            board.report(key, healthy=False)
        assert group.upstreams[0].is_up
        assert unchecked.upstreams[0].is_up
        board.report(("t1", "r1", "http://u0"), healthy=False)
        assert not group.upstreams[0].is_up
