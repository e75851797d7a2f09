"""A group against a model that keeps what has happened to each upstream as plain lists.

Requests, checks and time are drawn step by step and played on a real group on the mock clock.
"""

from __future__ import annotations

import math

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead_trio.errors import CircuitOpen, NoUpstream
from bulkhead_trio.gateway._balance_rules import Balancing
from bulkhead_trio.gateway._health_rules import CheckLimits, EjectionLimits
from bulkhead_trio.gateway.group import UpstreamGroup
from bulkhead_trio.gateway.group_settings import BreakerSettings, CheckSettings
from bulkhead_trio.gateway.upstream import Turn, Upstream
from bulkhead_trio.policies.breaker import Consecutive

from .upstreams import group_of

COOLDOWN, BASE = 8.0, 5.0
FAILURES_TO_OPEN, FAILURES_TO_EJECT = 3, 2


@attrs.define(eq=False)
class ModelUpstream:
    """What has happened to one upstream."""

    checks: list[bool] = attrs.Factory(list)  # since the verdict
    verdict: bool | None = None
    in_a_row: int = 0  # for its ejection
    ejected_until: float = -math.inf
    ejections: int = 0
    to_open: int = 0  # failures in a row, for its breaker
    open_until: float | None = None
    period: int = 0  # of the breaker: what began in another one says nothing
    probing: bool = False

    def is_up(self, now: float) -> bool:
        return self.verdict is not False and now >= self.ejected_until

    def wait(self, now: float) -> float | None:
        """Until its breaker lets one in; ``None`` for now."""
        if self.open_until is None or (now >= self.open_until and not self.probing):
            return None
        return max(0.0, self.open_until - now)

    def check(self, passed: bool) -> None:
        self.checks.append(passed)
        enough = 2 if passed else 3
        if self.verdict is None or (
            self.verdict is not passed and self.checks[-enough:] == [passed] * enough
        ):
            self.verdict, self.checks = passed, [passed]


@attrs.define
class Model:
    """All of them."""

    upstreams: list[ModelUpstream]

    def expected(self, now: float) -> tuple[set[int], type[Exception] | None, float | None]:
        """Who may be picked, or what is raised instead, with its wait."""
        up = [index for index, each in enumerate(self.upstreams) if each.is_up(now)]
        waits = {index: self.upstreams[index].wait(now) for index in up}
        ready = {index for index, wait in waits.items() if wait is None}
        if ready:
            return ready, None, None
        if up:
            return set(), CircuitOpen, min(wait for wait in waits.values() if wait is not None)
        ends = [each.ejected_until - now for each in self.upstreams if each.ejected_until > now]
        return set(), NoUpstream, min(ends, default=None)

    def begin(self, index: int) -> int:
        """A request is let in; the period of the breaker that it belongs to."""
        it = self.upstreams[index]
        if it.open_until is not None and not it.probing:
            it.probing = True
            it.period += 1
        return it.period

    def end(self, index: int, period: int, failed: bool | None, now: float) -> None:
        it = self.upstreams[index]
        if period == it.period:
            self.breaker_hears(it, failed, now)
        if failed is not None and now >= it.ejected_until:
            it.in_a_row = it.in_a_row + 1 if failed else 0
            out = sum(not each.is_up(now) for each in self.upstreams if each is not it)
            if it.in_a_row >= FAILURES_TO_EJECT and out + 1 <= len(self.upstreams) // 2:
                if it.ejections:
                    it.ejections = max(0, it.ejections - int((now - it.ejected_until) // BASE))
                it.ejections += 1
                it.ejected_until = now + BASE * it.ejections
                it.in_a_row = 0

    def breaker_hears(self, it: ModelUpstream, failed: bool | None, now: float) -> None:
        if it.probing:
            it.probing = False
            if failed is None:
                return
            it.to_open = 0
            it.period += 1
            it.open_until = now + COOLDOWN if failed else None
        elif it.open_until is None and failed is not None:
            it.to_open = it.to_open + 1 if failed else 0
            if it.to_open >= FAILURES_TO_OPEN:
                it.open_until = now + COOLDOWN
                it.period += 1


@attrs.define
class Player:
    """Does each step to the group and to the model, and compares."""

    group: UpstreamGroup
    model: Model
    out: list[tuple[int, int, Turn]] = attrs.Factory(list)

    def number(self, upstream: Upstream) -> int:
        return self.group.upstreams.index(upstream)

    def pick(self, avoid: int) -> None:
        now = trio.current_time()
        ready, error, wait = self.model.expected(now)
        tried = {each for index, each in enumerate(self.group.upstreams) if avoid >> index & 1}
        if error is not None:
            with pytest.raises(error) as caught:
                self.group.pick(tried)
            assert caught.value.retry_after == (None if wait is None else pytest.approx(wait))
            return
        upstream = self.group.pick(tried)
        index = self.number(upstream)
        fresh = {each for each in ready if not avoid >> each & 1}
        assert index in (fresh or ready)
        turn = upstream.enter_nowait()
        self.out.append((index, self.model.begin(index), turn))

    def end(self, which: int, failed: bool | None) -> None:
        if not self.out:
            return
        index, period, turn = self.out.pop(which % len(self.out))
        self.model.end(index, period, failed, trio.current_time())
        if failed is None:
            error = ValueError("ours")
            turn.__exit__(ValueError, error, None)
        else:
            turn.answered(500 if failed else 200)
            turn.__exit__(None, None, None)

    def check(self, index: int, passed: bool) -> None:
        index %= len(self.group.upstreams)
        self.group.checked(self.group.upstreams[index], passed=passed)
        self.model.upstreams[index].check(passed)

    def compare(self) -> None:
        now = trio.current_time()
        statistics = self.group.statistics()
        for index, (each, it) in enumerate(
            zip(statistics.upstreams, self.model.upstreams, strict=True)
        ):
            assert each.is_up is it.is_up(now)
            assert each.in_flight == sum(number == index for number, _, _ in self.out)
        ejected = sum(each.health == "ejected" for each in statistics.upstreams)
        assert ejected <= len(statistics.upstreams) // 2


STEPS = st.one_of(
    st.tuples(st.just("pick"), st.sampled_from([0, 0, 1, 2, 7])),
    st.tuples(st.just("pick"), st.just(0)),
    st.tuples(st.just("end"), st.integers(0, 5), st.sampled_from([True, True, False, None])),
    st.tuples(st.just("end"), st.integers(0, 5), st.just(True)),
    st.tuples(st.just("check"), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("sleep"), st.sampled_from([0.5, 3.0, 8.0])),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    count=st.integers(1, 4),
    balancing=st.sampled_from(Balancing),
    slow_start=st.sampled_from([0.0, 4.0]),
    steps=st.lists(STEPS, max_size=60),
)
def test_group_agrees_with_its_model(
    count: int,
    balancing: Balancing,
    slow_start: float,
    steps: list[tuple[str, float, bool | None]],
) -> None:
    """Whatever comes in whatever order: who may be picked, and what is said where nobody may."""

    async def play() -> None:
        group = group_of(
            *range(1, count + 1),
            balancing=balancing,
            slow_start=slow_start,
            breaker=BreakerSettings(window=Consecutive(FAILURES_TO_OPEN), cooldown=COOLDOWN),
            checks=CheckSettings(limits=CheckLimits(2, 3)),
            ejection=EjectionLimits(failures=FAILURES_TO_EJECT, base=BASE),
        )
        player = Player(group, Model([ModelUpstream() for _ in range(count)]))
        for name, *arguments in steps:
            if name == "sleep":
                await trio.sleep(arguments[0])  # type: ignore[arg-type]
            else:
                getattr(player, name)(*arguments)
            player.compare()
        while player.out:
            player.end(0, False)
        assert all(each.in_flight == 0 for each in group.upstreams)

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0.0))
