"""Single flight against a simple model: random callers, patience, failures and times to live."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from bulkhead_trio.policies.single_flight import SingleFlight
from tests.policies._single_flight import Failed, assert_at_rest

End = tuple[str, int, float]
"""What a caller comes to: ``value`` or ``error`` of which caller's call, or ``left``; and when."""


@attrs.frozen
class Script:
    """A caller: when it comes, how long it waits in all, how long its own call takes."""

    key: str
    arrives: float
    patience: float
    seconds: float
    fails: bool

    @property
    def leaves(self) -> float:
        return self.arrives + self.patience


@attrs.define
class Model:
    """One event after the other; nothing ever happens at the same time."""

    scripts: Sequence[Script]
    ttl: float | None
    stale: float
    ends: dict[int, End] = attrs.field(factory=dict)
    lines: dict[str, list[int]] = attrs.field(factory=dict)
    lands: dict[int, float] = attrs.field(factory=dict)
    kept: dict[str, tuple[int, float]] = attrs.field(factory=dict)
    counts: dict[str, int] = attrs.field(
        factory=lambda: dict.fromkeys(("led", "shared", "handed_over", "hits", "stale_hits"), 0)
    )

    def run(self) -> None:
        for number, script in enumerate(self.scripts):
            self.until(script.arrives)
            self.arrive(number, script)
        self.until(float("inf"))

    def until(self, time: float) -> None:
        while True:
            events = [(at, "land", number) for number, at in self.lands.items()]
            for line in self.lines.values():
                events += [(self.scripts[number].leaves, "leave", number) for number in line]
            if not events or min(events)[0] > time:
                return
            at, what, number = min(events)
            (self.land if what == "land" else self.leave)(number, at)

    def arrive(self, number: int, script: Script) -> None:
        line = self.lines.get(script.key)
        if self.ttl is not None and script.key in self.kept:
            source, since = self.kept[script.key]
            age = script.arrives - since
            is_fresh = age < self.ttl
            if is_fresh or (line and age < self.ttl + self.stale):
                self.counts["hits" if is_fresh else "stale_hits"] += 1
                self.ends[number] = ("value", source, script.arrives)
                return
        if line:
            line.append(number)
        else:
            self.lines[script.key] = [number]
            self.lead(number, script.arrives)

    def lead(self, number: int, at: float) -> None:
        self.counts["led"] += 1
        self.lands[number] = at + self.scripts[number].seconds

    def leave(self, number: int, at: float) -> None:
        self.ends[number] = ("left", number, at)
        line = self.lines[self.scripts[number].key]
        line.remove(number)
        if self.lands.pop(number, None) is not None and line:
            self.counts["handed_over"] += 1
            self.lead(line[0], at)

    def land(self, number: int, at: float) -> None:
        script = self.scripts[number]
        line = self.lines.pop(script.key)
        del self.lands[number]
        self.counts["shared"] += len(line) - 1
        for one in line:
            self.ends[one] = ("error" if script.fails else "value", number, at)
        if not script.fails:
            self.kept[script.key] = (number, at)


class Stage:
    """The same with the real thing."""

    def __init__(self, flight: SingleFlight) -> None:
        self.flight = flight
        self.ends: dict[int, End] = {}
        self.running: set[str] = set()

    async def work(self, number: int, script: Script) -> int:
        assert script.key not in self.running
        self.running.add(script.key)
        try:
            await trio.sleep(script.seconds)
        finally:
            self.running.remove(script.key)
        if script.fails:
            raise Failed(number)
        return number

    async def caller(self, number: int, script: Script) -> None:
        await trio.sleep_until(script.arrives)
        end = ("left", number)
        with trio.CancelScope(deadline=script.leaves):
            try:
                end = "value", await self.flight.call(script.key, self.work, number, script)
            except Failed as error:
                end = "error", error.args[0]
        self.ends[number] = (*end, trio.current_time())


SCRIPTS = st.lists(
    st.tuples(
        st.sampled_from("aab"),
        st.integers(0, 12),
        st.integers(1, 9),
        st.integers(0, 4),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


@given(raw=SCRIPTS, ttl=st.none() | st.integers(1, 5), stale=st.integers(0, 5))
def test_flight_random_schedules_follow_the_model(
    raw: list[tuple[str, int, int, int, bool]], ttl: int | None, stale: int
) -> None:
    """Every caller comes to the same end at the same time as in the model; nothing is left."""
    scripts = sorted(
        (
            # Odd fractions, so that no two things ever happen at one moment.
            Script(key, at + 0.000917 * i, patience + 0.00313 * i, took + 0.25 + 0.0071 * i, fails)
            for i, (key, at, patience, took, fails) in enumerate(raw)
        ),
        key=lambda script: script.arrives,
    )
    lifetime = None if ttl is None else ttl + 0.1234
    model = Model(scripts, lifetime, float(stale))
    model.run()

    async def main() -> None:
        stage = Stage(SingleFlight(ttl=lifetime, stale=stale if ttl else 0))
        async with trio.open_nursery() as nursery:
            for number, script in enumerate(scripts):
                nursery.start_soon(stage.caller, number, script)
        assert {n: end[:2] for n, end in stage.ends.items()} == {
            n: end[:2] for n, end in model.ends.items()
        }
        assert all(abs(stage.ends[n][2] - model.ends[n][2]) < 1e-6 for n in model.ends)
        assert_at_rest(stage.flight)
        statistics = stage.flight.statistics()
        assert {name: getattr(statistics, name) for name in model.counts} == model.counts

    trio.run(main, clock=MockClock(autojump_threshold=0))
