"""Verdicts and ejections, against models that remember everything."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.gateway._health_rules import (
    CHECK_MOVES,
    EJECTION_MOVES,
    Checked,
    CheckLimits,
    Ejected,
    EjectionLimits,
    Outing,
    Serving,
    Verdict,
    after_check,
    after_request,
    after_word,
    health_word,
    let_in,
    may_be_asked,
    most_ejected,
)

PAGE = Path(__file__).parents[2] / "docs" / "gateway" / "upstreams.md"


def test_moves_leave_no_choice() -> None:
    """Of one state, one trigger has one row at most; and none leads to where it began."""
    rows = [*CHECK_MOVES, *EJECTION_MOVES]
    assert len({(row.source, row.trigger) for row in rows}) == len(rows)
    assert all(row.source is not row.target for row in rows)


def test_moves_are_those_of_the_page() -> None:
    """The page's diagrams have each row, and none that is not there."""
    drawn = {
        line.strip()
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if " --> " in line and " : " in line
    }
    rows = (*CHECK_MOVES, *EJECTION_MOVES)
    assert drawn == {
        f"{row.source.value} --> {row.target.value} : {row.trigger.value}"
        + (f" [{row.when}]" if row.when else "")
        for row in rows
    }


@given(
    steps=st.lists(st.sampled_from(["passed", "failed", "told good", "told bad"]), max_size=40),
    good=st.integers(1, 4),
    bad=st.integers(1, 4),
)
def test_checked_agrees_with_its_model(steps: list[str], good: int, bad: int) -> None:
    """The first check decides alone; after that as many in a row as are asked for; a word at once.

    The model looks at the checks since the verdict or a word last changed.
    """
    limits = CheckLimits(good, bad)
    state = Checked()
    verdict: bool | None = None
    run: list[bool] = []
    for now, step in enumerate(steps):
        if step in ("passed", "failed"):
            passed = step == "passed"
            state = after_check(state, passed=passed, limits=limits, now=float(now))
            run = [*itertools.takewhile(lambda each: each is passed, reversed(run)), passed]  # noqa: B023
            if verdict is None or (verdict is not passed and len(run) >= (good if passed else bad)):
                verdict = passed
        else:
            healthy = step == "told good"
            state = after_word(state, healthy=healthy, now=float(now))
            if verdict is not healthy:
                verdict, run = healthy, []
        expected = {None: Verdict.UNKNOWN, True: Verdict.HEALTHY, False: Verdict.UNHEALTHY}
        assert state.kind is expected[verdict]
        assert state.at == now
        assert may_be_asked(state, Serving()) is (verdict is not False)


def test_unknown_counts_as_healthy() -> None:
    """Nobody has looked yet: it is asked; one bad check takes it out, one good one confirms it."""
    limits = CheckLimits(healthy_threshold=3, unhealthy_threshold=3)
    assert may_be_asked(Checked(), Serving())
    assert after_check(Checked(), passed=False, limits=limits, now=0).kind is Verdict.UNHEALTHY
    assert after_check(Checked(), passed=True, limits=limits, now=0).kind is Verdict.HEALTHY


def failing(state: Outing, limits: EjectionLimits, now: float) -> Outing:
    """As many failures as it takes."""
    for _ in range(limits.failures):
        state = after_request(state, failed=True, has_room=True, limits=limits, now=now)
    return state


def test_ejections_grow_and_are_bounded() -> None:
    """Each ejection right after the last is longer by the base, up to the longest."""
    limits = EjectionLimits(failures=2, base=10.0, longest=35.0)
    state: Outing = Serving()
    now = 0.0
    lengths = []
    for _ in range(5):
        state = failing(state, limits, now)
        assert isinstance(state, Ejected)
        lengths.append(state.until - now)
        now = state.until
        state = let_in(state, now)
    assert lengths == [10.0, 20.0, 30.0, 35.0, 35.0]


@pytest.mark.parametrize(
    ("served", "expected"), [(9.9, 40.0), (10.0, 30.0), (25.0, 20.0), (99, 10)]
)
def test_ejections_are_forgotten_in_good_times(served: float, expected: float) -> None:
    """For each base time in service one ejection less counts."""
    limits = EjectionLimits(failures=1, base=10.0, longest=300.0)
    state = failing(Serving(ejections=3, since=100.0), limits, 100.0 + served)
    assert isinstance(state, Ejected)
    assert state.until - (100.0 + served) == pytest.approx(expected)


@attrs.define
class EjectionModel:
    """All that has happened, and nothing derived from it kept but the end of an ejection."""

    limits: EjectionLimits
    run: int = 0
    until: float = -math.inf
    count: float = 0

    def request(self, failed: bool, has_room: bool, now: float) -> None:
        if now < self.until:
            return
        if self.is_first_since:
            self.run = 0
            self.is_first_since = False
        self.run = self.run + 1 if failed else 0
        if self.run >= self.limits.failures and has_room and failed:
            if self.count:
                self.count = max(0, self.count - (now - self.until) // self.limits.base)
            self.count += 1
            self.until = now + min(self.limits.longest, self.limits.base * self.count)
            self.is_first_since = True

    is_first_since: bool = False


@given(
    steps=st.lists(
        st.tuples(st.booleans(), st.booleans(), st.sampled_from([0.0, 1.0, 4.0, 16.0])), max_size=60
    ),
    failures=st.integers(1, 3),
)
def test_outing_agrees_with_its_model(steps: list[tuple[bool, bool, float]], failures: int) -> None:
    """Ejected after so many failures in a row where there is room, and for as long as it should."""
    limits = EjectionLimits(failures, base=4.0, longest=10.0)
    model = EjectionModel(limits)
    state: Outing = Serving()
    now = 0.0
    for failed, has_room, pause in steps:
        now += pause
        state = let_in(state, now)
        assert isinstance(state, Ejected) is (now < model.until)
        state = after_request(state, failed=failed, has_room=has_room, limits=limits, now=now)
        model.request(failed, has_room, now)
        assert isinstance(state, Ejected) is (now < model.until)
        if isinstance(state, Ejected):
            assert state.until == model.until


def test_most_ejected_is_half() -> None:
    """A single upstream is never taken out for what requests say."""
    assert [most_ejected(count) for count in range(1, 8)] == [0, 1, 1, 2, 2, 3, 3]


def test_health_word_says_what_weighs_more() -> None:
    """Checks weigh more than requests."""
    ejected = Ejected(1, 1, 9.0)
    assert health_word(Checked(), Serving()) == "unknown"
    assert health_word(Checked(Verdict.HEALTHY), ejected) == "ejected"
    assert health_word(Checked(Verdict.UNHEALTHY), ejected) == "unhealthy"


@pytest.mark.parametrize(
    "make",
    [
        lambda: CheckLimits(0, 1),
        lambda: CheckLimits(1, 0),
        lambda: EjectionLimits(failures=0),
        lambda: EjectionLimits(base=0.0),
        lambda: EjectionLimits(longest=math.nan),
    ],
)
def test_limits_refuse_nonsense(make: type) -> None:
    """What means nothing is refused as it is made."""
    with pytest.raises(ValueError):
        make()
