"""``rate.lua`` in a real Redis, at moments of the test's choosing, against the policy's rule."""

from __future__ import annotations

import itertools

import attrs
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkhead_trio.policies.rate import SlidingLog
from bulkhead_trio.state._log_rules import LONGEST
from bulkhead_trio.state.rate import RATE

SECOND = 1_000_000
WINDOW = 60 * SECOND

QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

_numbers = itertools.count(1)


@attrs.frozen
class Script:
    """The script with a clock that the test sets: the last two arguments."""

    client: redis.Redis
    source: bytes = RATE.source.replace(
        b"local time = redis.call('TIME')", b"local time = {ARGV[#ARGV - 1], ARGV[#ARGV]}"
    )

    def __call__(
        self, now: int, asked: dict[bytes, tuple[int, int, int]]
    ) -> list[tuple[int, int, int, int]]:
        arguments = [number for each in asked.values() for number in each]
        answer = self.client.eval(
            self.source, len(asked), *asked, *arguments, now // SECOND, now % SECOND
        )
        return [tuple(each) for each in answer]


@pytest.fixture
def script(client: redis.Redis) -> Script:
    assert b"{ARGV[#ARGV - 1]" in Script(client).source
    return Script(client)


def new_key() -> bytes:
    return b"ratelimit:{t%d}" % next(_numbers)


@QUICK
@given(
    limit=st.integers(1, 8),
    steps=st.lists(st.tuples(st.integers(-10, 30), st.integers(1, 5)), max_size=30),
)
def test_script_decides_as_the_policy_does(
    script: Script, limit: int, steps: list[tuple[int, int]]
) -> None:
    """Any number at a time, with a clock that may stand still or go back."""
    rule, key, now = SlidingLog(limit, WINDOW), new_key(), 1_700_000_000 * SECOND
    state = rule.initial()
    for step, asked in steps:
        now += step * SECOND
        granted, decision = 0, None
        for _ in range(asked):
            state, decision = rule.decide(state, now)
            granted += decision.allowed
        assert decision is not None
        found = script(now, {key: (limit, WINDOW, asked)})[0]
        assert found[:2] == (granted, rule.remaining(state, now))
        if not decision.allowed:
            assert found[2:] == (decision.retry_after, decision.reset_after)
        else:
            assert found[3] == decision.reset_after


@QUICK
@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(1, 6), st.sampled_from([10, 60])), max_size=20
    )
)
def test_limit_that_changes_is_never_exceeded(
    script: Script, steps: list[tuple[int, int, int]]
) -> None:
    """Whatever limit and window are asked with, they hold for what is granted with them."""
    key, now = new_key(), 1_700_000_000 * SECOND
    granted_at: list[int] = []
    for step, limit, seconds in steps:
        now += step * SECOND
        window = seconds * SECOND
        granted, left, wait, _ = script(now, {key: (limit, window, 3)})[0]
        granted_at += [now] * granted
        if granted:
            # Entries of a shorter window are gone sooner, so that only what both count is held to.
            assert sum(moment > now - 10 * SECOND for moment in granted_at) <= max(limit, granted)
        assert (left == 0) == (wait > 0)
        if wait:
            again = script(now + wait, {key: (limit, window, 1)})[0]
            assert again[0] == 1, "it passes when it was told to come again"
            granted_at.append(now + wait)
            now += wait


def test_tenants_in_one_call_are_apart(script: Script) -> None:
    """Each has its own limit, window and answer, in the order of the keys."""
    one, two = new_key(), new_key()
    now = 1_700_000_000 * SECOND
    found = script(now, {one: (3, WINDOW, 5), two: (10, 10 * SECOND, 4)})
    assert found == [(3, 0, WINDOW, WINDOW), (4, 6, 0, 10 * SECOND)]


def test_large_limit_takes_little_room(script: Script, client: redis.Redis) -> None:
    """Moments close together share an entry, and never more than the limit passes."""
    key, now, limit = new_key(), 1_700_000_000 * SECOND, 1_000_000
    granted = 0
    for step in range(2000):
        granted += script(now + step * 100, {key: (limit, WINDOW, 600)})[0][0]
    assert granted == limit
    assert client.llen(key) <= 2000 * 100 * LONGEST // WINDOW + 2
    late = script(now + WINDOW + WINDOW // LONGEST + 2000 * 100, {key: (limit, WINDOW, 1)})[0]
    assert late[:2] == (1, limit - 1)


def test_key_goes_by_itself(script: Script, client: redis.Redis) -> None:
    """When nothing of it counts any more; a refusal does not keep it."""
    key = new_key()
    script(1_700_000_000 * SECOND, {key: (1, 30 * SECOND, 2)})
    assert 29_000 < client.pttl(key) <= 30_001


@pytest.mark.parametrize("command", ["SET", "RPUSH"])
def test_key_that_somebody_else_wrote_is_written_anew(
    script: Script, client: redis.Redis, command: str
) -> None:
    """It must not keep everybody from a decision."""
    key = new_key()
    client.execute_command(command, key, "nonsense")
    assert script(1_700_000_000 * SECOND, {key: (2, WINDOW, 1)})[0][:2] == (1, 1)
