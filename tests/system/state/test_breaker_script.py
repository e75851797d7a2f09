"""``breaker.lua`` in a real Redis, at moments of the test's choosing, against the policy."""

from __future__ import annotations

import itertools

import attrs
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkhead_trio.gateway.group_settings import BreakerSettings
from bulkhead_trio.policies.breaker import BreakerOutcome, Consecutive, CountWindow, TimeWindow
from bulkhead_trio.policies.breaker._rules import (
    admitted,
    closed_at,
    ended,
    failures_of,
    has_room,
    seconds_left,
)
from bulkhead_trio.policies.breaker._states import Closed, HalfOpen, Limits, State
from bulkhead_trio.state._breaker_rules import Seen, limits_from, seen_from, told_rules
from bulkhead_trio.state.breakers import BREAKER

SECOND = 1_000_000
START = 1_700_000_000
OUTCOMES = {
    "s": BreakerOutcome.SUCCESS,
    "f": BreakerOutcome.FAILURE,
    "i": BreakerOutcome.IGNORED,
}

_numbers = itertools.count(1)


@attrs.define
class Script:
    """The script with a clock that the test sets, on one breaker."""

    client: redis.Redis
    limits: Limits
    now: int = START
    key: bytes = attrs.field(factory=lambda: b"cb:{t}:r:%d" % next(_numbers))

    def __call__(
        self, *, epoch: int = 0, outcomes: str = "", probes: str = "", token: str = ""
    ) -> Seen:
        source = BREAKER.source.replace(
            b"local time = redis.call('TIME')", b"local time = {ARGV[#ARGV], '0'}"
        )
        assert source != BREAKER.source
        rules = told_rules(self.limits)
        words = (epoch, outcomes, probes, token, *rules, self.now)
        return seen_from(self.client.eval(source, 1, self.key, *words)[0])


RULES = st.sampled_from(
    [
        BreakerSettings(window=Consecutive(3), cooldown=5.0, successes=2),
        BreakerSettings(window=Consecutive(1), cooldown=5.0),
        BreakerSettings(window=CountWindow(5), minimum_calls=3, failure_rate=0.6, cooldown=5.0),
        BreakerSettings(window=CountWindow(4), failure_rate=0.25, cooldown=5.0, successes=3),
        BreakerSettings(window=TimeWindow(10.0), minimum_calls=4, cooldown=5.0),
    ]
)
STEPS = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from("sssfffi"), st.integers(1, 4)), max_size=40
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rules=RULES, steps=STEPS)
def test_script_moves_as_the_policy_does(
    client: redis.Redis, rules: BreakerSettings, steps: list[tuple[int, str, int]]
) -> None:
    """Calls end so many at a time; an open one is asked for its probe, which ends the same way."""
    limits = limits_from(rules)
    script, state = Script(client, limits), closed_at(float(START), limits)
    seen = script()
    for pause, letter, times in steps:
        script.now += pause
        now = float(script.now)
        if isinstance(state, Closed):
            if letter == "i":
                continue
            for _ in range(times):
                state = ended(state, state.epoch, OUTCOMES[letter], False, limits, now)
                if not isinstance(state, Closed):
                    break
            seen = script(epoch=seen.epoch, outcomes=f"{letter}{times}")
        else:
            seen, state = _probe(script, state, now, letter)
        _check_same(seen, state, now)


def _probe(script: Script, state: State, now: float, letter: str) -> tuple[Seen, State]:
    limits = script.limits
    seen = script(token="me-1")
    assert seen.granted == has_room(state, limits, now)
    if not seen.granted:
        return seen, state
    state = admitted(state, limits, now)
    _check_same(seen, state, now)
    assert script(token="other-1").granted == 0, "there is one probe"
    state = ended(state, state.epoch, OUTCOMES[letter], False, limits, now)
    return script(probes=f"me-1={letter}"), state


def _check_same(seen: Seen, state: State, now: float) -> None:
    assert seen.state == ("h" if isinstance(state, HalfOpen) else state.kind.value[0].lower())
    assert seen.cooldown == seconds_left(state, now)
    assert seen.failures == failures_of(state)


@pytest.fixture
def opened(client: redis.Redis) -> Script:
    """A breaker whose cooldown has just passed."""
    script = Script(client, limits_from(BreakerSettings(window=Consecutive(1), cooldown=5.0)))
    assert script(outcomes="f1").state == "o"
    script.now += 5
    return script


def test_lease_that_was_not_renewed_goes_to_the_next(opened: Script) -> None:
    """Whoever had it may have died; what it says later is not heard."""
    assert opened(token="dead-1").granted == 1
    opened.now += 2
    assert opened(token="next-1").granted == 0
    opened.now += 1
    assert opened(token="next-1").granted == 1
    assert opened(probes="dead-1=f").state == "h"
    assert opened(probes="next-1=s").state == "c"


def test_lease_that_is_renewed_is_kept(opened: Script) -> None:
    """A probe may take as long as a request does."""
    opened(token="slow-1")
    for _ in range(5):
        opened.now += 2
        assert opened(probes="slow-1=r").lease == 3.0
        assert opened(token="next-1").granted == 0
    assert opened(probes="slow-1=s").state == "c"


def test_outcome_of_another_period_changes_nothing(opened: Script) -> None:
    """Calls that began before it opened and end after it has closed."""
    before = opened().epoch
    opened(token="me-1")
    closed = opened(probes="me-1=s")
    assert closed.state == "c"
    assert opened(epoch=before, outcomes="f1").state == "c"
    assert opened(epoch=closed.epoch, outcomes="f1").state == "o"


def test_probe_and_question_in_one_call_are_heard_in_this_order(opened: Script) -> None:
    """So that the request after a good probe passes."""
    opened(token="me-1")
    assert opened(probes="me-1=s", token="me-2").granted == 2


def test_change_is_published(client: redis.Redis, opened: Script) -> None:
    """A transition, a failure after none, a probe that has ended; nothing else is."""
    with client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("bulkhead:breakers")
        listener.get_message(timeout=1)
        opened()
        opened(token="me-1")
        opened(probes="me-1=r")
        opened(probes="me-1=s")
        opened.limits = limits_from(BreakerSettings(window=Consecutive(5)))
        opened(outcomes="f1")
        opened(outcomes="f1")
        opened(outcomes="s1")
        heard = [listener.get_message(timeout=1) for _ in range(4)]
        assert [each["data"].split()[1] for each in heard if each] == [b"h", b"c", b"c", b"c"]
        assert [each["data"].split()[4] for each in heard if each] == [b"1", b"0", b"1", b"0"]
        assert listener.get_message(timeout=0.05) is None


def test_key_goes_by_itself(client: redis.Redis, opened: Script) -> None:
    """An hour after its last change and its cooldown; one that never failed is never there."""
    assert 3_600_000 < client.pttl(opened.key) <= 3_605_000
    fresh = Script(client, opened.limits)
    fresh(outcomes="s3")
    assert not client.exists(fresh.key)


def test_key_that_somebody_else_wrote_is_written_anew(client: redis.Redis, opened: Script) -> None:
    """It counts as closed."""
    client.set(opened.key, "nonsense")
    assert opened().state == "c"
    assert opened(outcomes="f1").state == "o"
