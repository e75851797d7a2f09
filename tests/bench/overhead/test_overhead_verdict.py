"""Holding what was measured against its bars."""

from __future__ import annotations

import pytest

from bench.overhead import jobs
from bench.overhead.exactness import Finding
from bench.overhead.memory import KeyMemory
from bench.overhead.stages import NOT_INSTALLED, Trial
from bench.overhead.subjects import Role
from bench.overhead.verdict import contests, is_within_bar, judge, step_ratio
from bench.verdict import Verdict

from .builders import OURS, measured, subject

BREAKER, RETRY = jobs.BREAKER, jobs.RETRY


def verdict_of(*entries: object, **others: object) -> Verdict:
    found = contests(jobs.JOBS, entries)  # type: ignore[arg-type]
    given = {"memory": (), "findings": (), "trials": (), **others}
    return judge(found, ours=OURS, **given)  # type: ignore[arg-type]


def test_contest_compares_with_the_first_of_ours() -> None:
    """The lead is the first of ours, however fast another one is; ratios are in its multiples."""
    (contest,) = contests(
        jobs.JOBS,
        [
            measured(BREAKER, 2.0),
            measured(BREAKER, 1.0, label="other form"),
            measured(BREAKER, 6.0, "peer"),
        ],
    )
    assert [contest.ratio(entry) for entry in contest.entries] == [1.0, 0.5, 3.0]
    assert contest.fastest is contest.entries[2]


def test_contest_is_won_against_peers_on_trio_alone() -> None:
    """What runs on asyncio only, and what Trio has itself, is shown and not competed with."""
    (contest,) = contests(
        jobs.JOBS,
        [
            measured(BREAKER, 1.0),
            measured(BREAKER, 0.1, "asyncio peer", is_on_trio=False),
            measured(BREAKER, 0.2, "trio", role=Role.REFERENCE),
            measured(BREAKER, 3.0, "slow peer"),
            measured(BREAKER, 2.0, "peer"),
        ],
    )
    assert contest.fastest is not None
    assert contest.fastest.subject.package == "peer"
    assert contest.is_ahead


def test_contests_come_in_the_order_of_the_jobs_and_need_one_of_ours() -> None:
    """A job that only peers do is no contest."""
    entries = [measured(RETRY, 1.0), measured(jobs.LIMIT, 1.0, "peer"), measured(BREAKER, 1.0)]
    assert [contest.job for contest in contests(jobs.JOBS, entries)] == [BREAKER, RETRY]


def test_ratio_to_nothing_is_none() -> None:
    """Where ours is within the noise of a bare call there is nothing to divide by."""
    (contest,) = contests(jobs.JOBS, [measured(BREAKER, 0.0), measured(BREAKER, 1.0, "peer")])
    assert contest.ratio(contest.entries[1]) is None


@pytest.mark.parametrize(("median", "expected"), [(2.0, True), (2.001, False)])
def test_bar_is_met_up_to_its_value(median: float, expected: bool) -> None:
    """Two microseconds are allowed, and not a nanosecond more."""
    assert is_within_bar(measured(BREAKER, median)) is expected
    assert bool(verdict_of(measured(BREAKER, median)).failures) is not expected


def test_bar_is_for_ours_and_for_jobs_that_have_one() -> None:
    """A peer has no bar to meet, nor has a retry."""
    assert is_within_bar(measured(BREAKER, 100.0, "peer")) is None
    assert is_within_bar(measured(RETRY, 100.0)) is None


def test_verdict_fails_for_every_form_of_ours_above_its_bar() -> None:
    """Not the first alone, and each is named."""
    found = verdict_of(measured(BREAKER, 1.0), measured(BREAKER, 2.5, label="async with"))
    assert found.failures == ("breaker, async with: 2.50 us, and 2 are allowed",)


def test_verdict_fails_behind_a_peer() -> None:
    """As fast is not ahead; but one that was seen to be inexact does another job, and is noted."""
    entries = measured(BREAKER, 1.0), measured(BREAKER, 1.0, "peer")
    assert verdict_of(*entries).failures == ("breaker: 1.00 us, and peer takes 1.00",)
    finding = Finding("many at once", "peer", "call", False, "100 of 100 ran")
    verdict = verdict_of(*entries, findings=[finding])
    assert verdict.failures == ()
    assert verdict.warnings == ("breaker: 1.00 us, and peer takes 1.00, and is not exact",)


def test_verdict_fails_when_ours_is_inexact() -> None:
    """A peer's inexactness is shown; ours fails the run."""
    findings = [
        Finding("many at once", "peer", "call", False, "100 of 100 ran"),
        Finding("many at once", OURS, "call", False, "2 of 100 ran"),
    ]
    assert verdict_of(findings=findings).failures == ("call: many at once: 2 of 100 ran",)


@pytest.mark.parametrize(("many", "fails"), [(3.0, False), (3.1, True)])
def test_verdict_fails_when_a_fair_step_grows_with_the_keys(many: float, fails: bool) -> None:
    """One and a half times as long is allowed."""
    entries = measured(jobs.FAIR_QUEUE, 2.0), measured(jobs.FAIR_QUEUE, many, label="100,000")
    assert step_ratio(contests(jobs.JOBS, entries)) == many / 2.0
    assert bool(verdict_of(*entries).failures) is fails


def test_step_ratio_of_a_run_without_fair_queues_is_none() -> None:
    """Nothing to divide."""
    assert step_ratio(contests(jobs.JOBS, [measured(BREAKER, 1.0)])) is None


@pytest.mark.parametrize(("used", "fails"), [(300.0, False), (300.1, True), (None, True)])
def test_verdict_fails_above_the_bytes_a_key(used: float | None, fails: bool) -> None:
    """300 bytes are allowed; what could not be measured has not met its bar."""
    memory = [
        KeyMemory(OURS, "TokenBucket", 10, used, 300.0, "broken"),
        KeyMemory("peer", "FixedWindow", 10, 900.0),
    ]
    assert bool(verdict_of(memory=memory).failures) is fails


def test_verdict_notes_who_is_missing() -> None:
    """A peer that does not run anywhere is named with the reason; one that does is not."""
    missing = f"{NOT_INSTALLED} (peer)"
    trials = [
        Trial(subject(BREAKER, "absent"), missing, missing),
        Trial(subject(BREAKER, "broken"), "RuntimeError: on Trio", "ValueError: on asyncio"),
        Trial(subject(BREAKER, "asyncio"), "RuntimeError: no running event loop"),
        Trial(subject(BREAKER, "fine"), None),
    ]
    assert verdict_of(trials=trials).warnings == (
        "absent (call) is not in the comparison: not installed (peer)",
        "broken (call) is not in the comparison: ValueError: on asyncio",
    )
