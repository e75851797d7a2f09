"""Whether bars are met, and whether a run was what it says."""

from __future__ import annotations

import pytest

from bench.http.jobs import CONSTANT, DATA, PROXY, REFUSALS
from bench.http.scenarios import SCENARIOS, Scenario
from bench.http.verdict import is_met, judge_job, judge_scenario
from bench.http.watched import FloodSeen

from .builders import job_result, scenario_result, watched

REFUSED, _, SATURATION, GARBAGE = SCENARIOS
FAST = {"bulkhead-trio": [40_000.0], "uvicorn": [37_000.0], "Hypercorn": [2_500.0]}


def test_bars_that_are_met_pass() -> None:
    """Sixteen times one and a little over one time the other is enough."""
    result = job_result(CONSTANT, FAST)
    assert judge_job(result).failures == ()
    assert [is_met(result, entry) for entry in result.entries] == [None, True, True]


def test_bar_is_met_exactly_at_its_ratio() -> None:
    """At least means at least."""
    speeds = {**FAST, "bulkhead-trio": [37_000.0], "Hypercorn": [3_700.0]}
    assert judge_job(job_result(CONSTANT, speeds)).failures == ()


def test_bar_that_is_missed_says_by_how_much() -> None:
    """The ratio and the bar are both named, for each peer that is too near."""
    speeds = {**FAST, "bulkhead-trio": [18_500.0]}
    assert judge_job(job_result(CONSTANT, speeds)).failures == (
        "7.40 times Hypercorn and not 10",
        "0.50 times uvicorn and not 1",
    )


def test_figure_of_a_job_is_the_median_of_its_rounds() -> None:
    """One disturbed round changes neither figure nor ratio."""
    speeds = {**FAST, "bulkhead-trio": [40_000.0, 100.0, 41_000.0]}
    result = job_result(CONSTANT, speeds)
    assert result.ours.per_second == 40_000.0
    assert result.ours.spread == pytest.approx(40_900 / 40_000)
    assert judge_job(result).failures == ()


def test_absent_peer_is_told_and_fails_nothing() -> None:
    """Who has no Node.js can still run the rest."""
    verdict = judge_job(job_result(DATA, {"bulkhead-trio": [9_000.0], "FastAPI": [2_000.0]}))
    assert verdict.failures == ()
    assert "not compared with Express: a thing is not installed" in verdict.warnings


def test_reference_has_no_bar() -> None:
    """It is shown, and not competed with."""
    speeds = {"bulkhead-trio": [9_000.0], "httpx": [800.0], "httpx, uvicorn": [100_000.0]}
    result = job_result(PROXY, speeds)
    assert judge_job(result).failures == ()
    assert is_met(result, result.entries[-1]) is None


def test_wrong_answers_are_no_measurement() -> None:
    """Refusals are cheap: where good answers are the job, a single one spoils the figure."""
    verdict = judge_job(job_result(CONSTANT, FAST, refused={"uvicorn": 1}))
    assert verdict.failures == ("uvicorn: 1 of 74,000 answers were no good ones",)


def test_good_answers_are_no_refusals() -> None:
    """A job of refusals has hardly anything else; the first answer of each window is allowed."""
    speeds = {"bulkhead-trio": [30_000.0], "uvicorn": [37_000.0]}
    allowed = job_result(REFUSALS, speeds, refused={"bulkhead-trio": 59_999})
    assert judge_job(allowed).failures == ()
    spoilt = job_result(REFUSALS, speeds, refused={"bulkhead-trio": 50_000})
    assert judge_job(spoilt).failures == (
        "bulkhead-trio: 10,000 of 60,000 answers were no refusals",
    )


def test_broken_connections_are_no_measurement() -> None:
    """One in a thousand is let pass; more is a failure of whoever had them."""
    assert judge_job(job_result(CONSTANT, FAST, errors={"uvicorn": 74})).failures == ()
    failures = judge_job(job_result(CONSTANT, FAST, errors={"uvicorn": 75})).failures
    assert failures == ("uvicorn: 75 connections broke beside 74,000 answers",)


def test_nothing_answered_is_a_failure_and_no_division() -> None:
    """Neither ratio nor bar can be had of nothing."""
    speeds = {**FAST, "uvicorn": [0.0]}
    failures = judge_job(job_result(CONSTANT, speeds)).failures
    assert "uvicorn answered nothing" in failures
    assert "0.00 times uvicorn and not 1" in failures


def test_idle_server_is_pointed_out() -> None:
    """Where its core was not busy, something else set the figure."""
    warnings = judge_job(job_result(CONSTANT, FAST, cores=0.5)).warnings
    assert len(warnings) == 1
    assert "bulkhead-trio 0.50, uvicorn 0.50, Hypercorn 0.50" in warnings[0]
    assert judge_job(job_result(CONSTANT, FAST, cores=0.95)).warnings == ()


def test_latency_within_the_bar_passes() -> None:
    """Exactly at the bar is within it."""
    verdict = judge_scenario(scenario_result(REFUSED, watched(2.0, 2.4)))
    assert verdict.failures == ()


def test_latency_beyond_the_bar_fails() -> None:
    """Both ratios are named."""
    verdict = judge_scenario(scenario_result(REFUSED, watched(2.0, 2.6)))
    assert verdict.failures == ("p50 1.30 and p99 1.30 times alone, not 1.2",)


def test_latency_is_the_median_of_the_rounds() -> None:
    """One round in which the machine stalled does not decide."""
    rounds = (watched(2.0, 2.0), watched(2.0, 90.0), watched(2.0, 2.2))
    assert judge_scenario(scenario_result(REFUSED, *rounds)).failures == ()


def test_watched_request_that_is_refused_fails() -> None:
    """Fast refusals of the watched tier are no isolation."""
    verdict = judge_scenario(scenario_result(REFUSED, watched(2.0, 1.0, status=503)))
    assert verdict.failures == ("enterprise flooded: not all answered 200 (20 x 503)",)


@pytest.mark.parametrize(
    ("scenario", "flood"),
    [
        (REFUSED, FloodSeen(60, 40, 0, 50.0)),
        (REFUSED, FloodSeen(0, 0, 100, 0.0)),
        (SATURATION, FloodSeen(100, 0, 0, 50.0)),
        (SATURATION, FloodSeen(0, 100, 0, 50.0)),
        (GARBAGE, FloodSeen(20, 80, 0, 50.0)),
    ],
)
def test_flood_that_met_something_else_fails(scenario: Scenario, flood: FloodSeen) -> None:
    """A scenario that did not come about proves nothing."""
    result = scenario_result(scenario, watched(2.0, 2.0, flood=flood))
    assert len(judge_scenario(result).failures) == 1


def test_late_caller_is_pointed_out() -> None:
    """Its own lag is within the latency that it reports."""
    warnings = judge_scenario(scenario_result(GARBAGE, watched(2.0, 2.0, lag=0.005))).warnings
    assert warnings == (
        "the caller of bulkhead-trio was itself up to 5.0 ms late in 99 of 100 requests beside"
        " the flood; the latencies include it",
    )
