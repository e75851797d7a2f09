"""The longest line, against a dict that is searched."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.policies.queue._longest_rules import LongestLine

STEPS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 9), st.booleans()), max_size=120
)


@given(steps=STEPS)
def test_longest_line_agrees_with_a_search(steps: list[tuple[str, int, bool]]) -> None:
    """However lines grow, shrink, go and come again, and however seldom it is asked."""
    lines: dict[str, float] = {}
    longest = LongestLine()
    for key, length, asks in steps:
        longest.set(key, length / 2)
        lines[key] = length / 2
        assert len(longest) == sum(1 for each in lines.values() if each)
        if asks and len(longest):
            assert lines[str(longest.longest())] == max(lines.values())


def test_longest_line_keeps_nothing_of_what_is_gone() -> None:
    """Its memory follows the lines that there are, not those that there were."""
    longest = LongestLine()
    chance = random.Random(1)
    for number in range(5_000):
        longest.set(number % 7, chance.randrange(1, 50))
        longest.set(f"gone {number}", 3.0)
        longest.set(f"gone {number}", 0.0)
    assert len(longest) == 7
    assert len(longest._heap) <= 2 * 8 + 16
    assert len(longest._entries) == 7
