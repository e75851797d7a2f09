"""Rules, states and clocks to draw from, for what must hold of every rule."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from bulkhead_trio.policies.rate import (
    FixedWindow,
    LeakyBucket,
    Rule,
    SlidingLog,
    SlidingWindow,
    TokenBucket,
)

LIMITS = st.integers(1, 12)
SECONDS = st.floats(0.1, 1000)
RATES = st.floats(0.01, 100)

SLIDING_WINDOWS = st.builds(SlidingWindow, limit=LIMITS, seconds=SECONDS)
SLIDING_LOGS = st.builds(SlidingLog, limit=LIMITS, seconds=SECONDS)
FIXED_WINDOWS = st.builds(FixedWindow, limit=LIMITS, seconds=SECONDS)
BUCKETS = st.builds(TokenBucket, rate=RATES, capacity=LIMITS)
METERS = st.builds(LeakyBucket, rate=RATES, capacity=LIMITS)
PACERS = st.builds(LeakyBucket, rate=RATES, capacity=LIMITS, pacing=st.just(True))

RULES: st.SearchStrategy[Rule[Any]] = st.one_of(
    FIXED_WINDOWS, SLIDING_WINDOWS, SLIDING_LOGS, BUCKETS, METERS, PACERS
)

STARTS = st.floats(-1e6, 1e6)

# Gaps in parts of the rule's window: many requests at one moment, many within a window, few beyond.
STEPS = st.lists(
    st.tuples(st.one_of(st.just(0.0), st.floats(0, 0.4), st.floats(0, 3)), st.integers(1, 12)),
    max_size=40,
)


def run(
    rule: Rule[Any], start: float, steps: list[tuple[float, int]]
) -> tuple[Any, float, list[tuple[float, int]]]:
    """The state after ``steps``, the time then, and what passed when."""
    state, now = rule.initial(), start
    passed = []
    for part, cost in steps:
        now += part * rule.window
        cost = 1 + cost % rule.limit
        state, decision = rule.decide(state, now, cost)
        if decision.allowed:
            passed.append((now, cost))
    return state, now, passed
