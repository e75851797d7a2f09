"""The hedge against a simple model: random tries, delays and patience."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from bulkhead_trio.errors import Rejected
from bulkhead_trio.policies.hedge import Hedge
from tests.policies._hedge import Failed, Script, Try

ENDS = {"ok": None, "failed": Failed("failed"), "refused": Rejected("refused")}


def reference(delay: float, tries: Sequence[tuple[float, str]], patience: float) -> tuple[Any, ...]:
    """What a call comes to, when, and after how many tries: one event after the other."""
    now, due, started, is_closed = 0.0, 0.0, 0, False
    running: dict[int, float] = {}
    ends: list[str] = []
    while True:
        may_start = started < len(tries) and not is_closed
        if not may_start and not running:
            return ("failed" if "failed" in ends else "refused"), now, started
        now = min([*running.values(), *([due] if may_start else [])])
        if now >= patience:
            return "cancelled", patience, started
        ended = next((number for number, at in running.items() if at == now), None)
        if ended is None:
            running[started] = now + tries[started][0]
            started, due = started + 1, now + delay
            continue
        del running[ended]
        ends.append(tries[ended][1])
        if ends[-1] == "ok":
            return ended, now, started
        is_closed, due = is_closed or ends[-1] == "refused", now


@given(
    delay=st.integers(0, 6),
    tries=st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(list(ENDS))), min_size=2, max_size=5
    ),
    patience=st.integers(1, 25),
)
def test_hedge_random_schedules_follow_the_reference(
    delay: int, tries: list[tuple[int, str]], patience: int
) -> None:
    """Result, time and number of tries are those of the simple model; afterwards nothing runs."""
    # No two things at one moment: their order would be a matter of chance.
    exact = [(n + 0.01 * (i + 1), end) for i, (n, end) in enumerate(tries)]
    expected = reference(delay + 0.3, exact, patience + 0.007)

    async def main() -> None:
        script = Script(*(Try(seconds, ENDS[end]) for seconds, end in exact))
        hedge = Hedge(delay + 0.3, len(tries) - 1)
        began = trio.current_time()
        result: object = "cancelled"
        with trio.move_on_after(patience + 0.007):
            try:
                result = await hedge.call(script)
            except (Failed, Rejected) as error:
                result = str(error)
        seconds = trio.current_time() - began
        assert script.running == 0
        assert (result, len(script.began)) == (expected[0], expected[2])
        assert expected[1] <= seconds + 1e-9 <= expected[1] + 0.002
        statistics = hedge.statistics()
        assert (statistics.active, statistics.calls) == (0, 1)
        assert statistics.hedges == expected[2] - 1
        assert sum(statistics.wins) == isinstance(result, int)
        assert statistics.failed == (result in ("failed", "refused"))

    trio.run(main, clock=MockClock(autojump_threshold=0))
