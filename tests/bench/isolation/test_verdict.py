"""Whether a run shows what it set out to show."""

from __future__ import annotations

from bench.isolation.verdict import LAG_WARNING_MS, judge
from bench.verdict import Verdict

from .builders import PLAN, flood_samples, sample, scenario_result, steady_samples


def test_verdict_on_a_run_without_refusals_is_clean() -> None:
    """All answered 200 and the flood refused as it should be: nothing to say."""
    assert judge(scenario_result()) == Verdict((), ())


def test_verdict_fails_on_a_single_steady_refusal() -> None:
    """One request of a steady tier that is not answered 200 fails the run, and is named."""
    steady = [*steady_samples(), sample(PLAN.flood_start, status=503, code="bulkhead_full")]
    failures = judge(scenario_result(steady)).failures
    assert len(failures) == 2  # the builder gives both steady tiers the same samples
    assert failures[0] == (
        "pro flooded: 1 of 21 not answered 200 (20 x 200, 1 x 503 bulkhead_full)"
    )


def test_verdict_fails_on_a_missing_answer() -> None:
    """No answer is as bad as a refusal, before the flood too."""
    steady = [*steady_samples(), sample(PLAN.warm_up, status=0, code="timed_out")]
    assert "pro alone: 1 of 21" in judge(scenario_result(steady)).failures[0]


def test_verdict_fails_when_nothing_was_sent() -> None:
    """A run in which nobody asked proves nothing."""
    assert "pro alone: nothing was sent" in judge(scenario_result(steady=[])).failures


def test_verdict_fails_when_the_flood_met_something_else() -> None:
    """A rate-limit flood that is not limited is no measurement of one."""
    unlimited = [s for s in flood_samples() if s.status == 200]
    (failure,) = judge(scenario_result(flood=unlimited)).failures
    assert failure.startswith("the flood met rate_limited 0 times of 10")


def test_verdict_fails_without_metrics_amid_the_flood() -> None:
    """Operators must be able to look at a server when it matters."""
    verdict = judge(scenario_result(metrics_status=503))
    assert verdict.failures == ("/metrics/bulkheads answered 503 amid the flood",)


def test_verdict_warns_of_a_late_generator() -> None:
    """A generator that lags is named, for its lag is in the latencies; it fails nothing."""
    lag = LAG_WARNING_MS / 1000 * 2
    steady = [sample(s.due, latency=lag + 0.001, lag=lag) for s in steady_samples()]
    verdict = judge(scenario_result(steady))
    assert not verdict.failures
    assert len(verdict.warnings) == 4
