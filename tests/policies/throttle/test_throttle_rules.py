"""The throttle's arithmetic: the published formula, the window, the counts."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bulkhead_trio.policies.throttle._rules import Acceptance, refusal_probability


@pytest.mark.parametrize(
    ("requests", "accepts", "k", "probability"),
    [
        (0, 0, 2.0, 0.0),
        (1, 0, 2.0, 1 / 2),
        (3, 0, 2.0, 3 / 4),
        (10, 10, 2.0, 0.0),
        (10, 5, 2.0, 0.0),
        (10, 4, 2.0, 2 / 11),
        (10, 5, 1.5, 2.5 / 11),
        (10, 9, 1.0, 1 / 11),
    ],
)
def test_refusal_probability_is_the_published_formula(
    requests: int, accepts: int, k: float, probability: float
) -> None:
    """Nothing while one in k is accepted, then what is above that, over the requests and one."""
    assert refusal_probability(requests, accepts, k) == probability


@given(requests=st.integers(0, 10**9), share=st.floats(0, 1), k=st.floats(1, 100, allow_nan=False))
def test_refusal_probability_is_one_and_never_certain(
    requests: int, share: float, k: float
) -> None:
    """Within [0, 1), and none at all where enough is accepted."""
    accepts = int(requests * share)
    probability = refusal_probability(requests, accepts, k)
    assert 0 <= probability < 1
    if requests <= k * accepts:
        assert probability == 0


def test_acceptance_refuses_below_the_probability() -> None:
    """Chance at the probability passes, below it is refused; what is refused counts."""
    acceptance = Acceptance(k=2, window=30, min_requests=0)
    assert acceptance.refusal(0, 0.0) == 0
    acceptance.rejected(0)
    assert acceptance.probability(0) == 0.5
    assert acceptance.refusal(0, 0.5) == 0
    assert acceptance.requests(0) == 1
    assert acceptance.refusal(0, 0.499) == 0.5
    assert acceptance.requests(0) == 2
    assert acceptance.accepts(0) == 0
    for _ in range(2):
        acceptance.accepted(0)
    assert (acceptance.requests(0), acceptance.accepts(0)) == (4, 2)
    assert acceptance.probability(0) == 0


def test_acceptance_of_few_requests_refuses_nothing() -> None:
    """With a minimum of three, the third is the first that is thought about."""
    acceptance = Acceptance(k=2, window=30, min_requests=3)
    acceptance.rejected(0)
    acceptance.rejected(0)
    assert acceptance.probability(0) == 0
    acceptance.rejected(0)
    assert acceptance.probability(0) == 0.75


def test_acceptance_forgets_what_is_older_than_its_window() -> None:
    """Requests and what was accepted of them go together, a thirtieth of the window at a time."""
    acceptance = Acceptance(k=2, window=120, min_requests=0)
    acceptance.rejected(3.9)
    acceptance.accepted(4.0)
    assert (acceptance.requests(119.9), acceptance.accepts(119.9)) == (2, 1)
    assert (acceptance.requests(120), acceptance.accepts(120)) == (1, 1)
    assert (acceptance.requests(123.9), acceptance.accepts(123.9)) == (1, 1)
    assert (acceptance.requests(124), acceptance.accepts(124)) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 0.99}, "k must be 1 or more"),
        ({"k": math.nan}, "k must be a positive number"),
        ({"k": math.inf}, "k must be a positive number"),
        ({"window": 0}, "window must be a positive number of seconds"),
        ({"window": -1}, "window must be a positive number of seconds"),
        ({"min_requests": -1}, "min_requests must be a whole number, 0 or more"),
        ({"min_requests": 0.5}, "min_requests must be a whole number"),
    ],
)
def test_acceptance_of_nonsense_is_refused(changes: dict[str, Any], message: str) -> None:
    """The message names the parameter."""
    with pytest.raises(ValueError, match=message):
        Acceptance(**{"k": 2.0, "window": 120.0, "min_requests": 0, **changes})


def test_acceptance_with_the_least_k_makes_sense() -> None:
    """1: every refusal of the backend is answered by one here."""
    acceptance = Acceptance(k=1, window=30, min_requests=0)
    acceptance.accepted(0)
    acceptance.rejected(0)
    assert acceptance.probability(0) == pytest.approx(1 / 3)


class AcceptanceMachine(RuleBasedStateMachine):
    """Random calls, answers and time, against a list of everything that was ever counted."""

    @initialize(k=st.sampled_from([1.0, 1.5, 2.0, 4.0]), min_requests=st.integers(0, 4))
    def begin(self, k: float, min_requests: int) -> None:
        self.k, self.min_requests = k, min_requests
        self.acceptance = Acceptance(k=k, window=30, min_requests=min_requests)
        self.now = 0.0
        self.counted: list[tuple[int, bool]] = []

    @rule(quarters=st.one_of(st.integers(0, 8), st.integers(0, 200)))
    def time_passes(self, quarters: int) -> None:
        self.now += quarters / 4

    @rule(random=st.floats(0, 1, exclude_max=True), is_accepted=st.none() | st.booleans())
    def a_call_comes(self, random: float, is_accepted: bool | None) -> None:
        expected = self._probability()
        refused = self.acceptance.refusal(self.now, random)
        assert refused == (expected if random < expected else 0)
        tick = int(self.now)
        if refused:
            self.counted.append((tick, False))
        elif is_accepted is not None:  # otherwise it is cancelled
            (self.acceptance.accepted if is_accepted else self.acceptance.rejected)(self.now)
            self.counted.append((tick, is_accepted))

    @invariant()
    def counts_are_those_of_the_model(self) -> None:
        if hasattr(self, "acceptance"):
            view = self._view()
            assert self.acceptance.requests(self.now) == len(view)
            assert self.acceptance.accepts(self.now) == sum(view)
            assert self.acceptance.probability(self.now) == self._probability()

    def _view(self) -> list[bool]:
        return [accepted for tick, accepted in self.counted if tick > int(self.now) - 30]

    def _probability(self) -> float:
        view = self._view()
        if len(view) < self.min_requests:
            return 0.0
        return max(0.0, (len(view) - self.k * sum(view)) / (len(view) + 1))


TestAcceptanceMachine = AcceptanceMachine.TestCase
