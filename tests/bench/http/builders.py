"""Results to judge and to report on, without a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.http.figures import EntryResult, JobResult, Turn
from bench.http.jobs import Job
from bench.http.scenarios import FLOODED_TIER, WATCHED_TIER, Scenario
from bench.http.watched import FloodSeen, ScenarioResult, SubjectResult, Watched
from bench.http.watching import Watch
from bench.http.wrk import Count
from bench.isolation.messages import Sample
from bench.isolation.summary import summarize_tier

WATCH = Watch(rate=50.0, connections=100, seconds=2.0, rounds=1, seed="1")
__all__ = ["FLOODED_TIER", "WATCH", "count", "job_result", "scenario_result", "subject_result"]


def count(
    per_second: float, *, refused: int = 0, errors: int = 0, p50: float = 1.0, p99: float = 2.0
) -> Count:
    """Two seconds' worth."""
    return Count(round(2 * per_second), refused, errors, 2.0, p50, p99)


def job_result(
    job: Job,
    speeds: Mapping[str, Sequence[float]],
    *,
    refused: Mapping[str, int] | None = None,
    errors: Mapping[str, int] | None = None,
    cores: float = 0.95,
) -> JobResult:
    """``speeds``: requests a second of each turn, by subject; who is not there was absent."""
    entries = []
    for entry in job.entries:
        name = entry.subject.name
        if name in speeds:
            counts = [
                count(s, refused=(refused or {}).get(name, 0), errors=(errors or {}).get(name, 0))
                for s in speeds[name]
            ]
            entries.append(EntryResult(entry, tuple(Turn(c, cores) for c in counts)))
    absent = {e.subject.name: "a thing" for e in job.entries if e.subject.name not in speeds}
    return JobResult(job, tuple(entries), absent)


def watched(
    alone: float,
    flooded: float,
    *,
    status: int = 200,
    flood: FloodSeen = FloodSeen(5, 95, 0, 500.0),  # noqa: B008  frozen
    lag: float = 0.0001,
) -> Watched:
    """A turn in which every request took so many milliseconds; ``status``: beside the flood."""
    plan = WATCH.plan
    samples = [
        Sample(tenth / 10, lag, (alone if tenth / 10 < plan.flood_start else flooded) / 1000,
               200 if tenth / 10 < plan.flood_start else status, "")
        for tenth in range(round(plan.end * 10))
    ]  # fmt: skip
    return Watched(summarize_tier(WATCHED_TIER, samples, plan), flood, 0.3)


def subject_result(scenario: Scenario, *turns: Watched, number: int = 0) -> SubjectResult:
    return SubjectResult(scenario.subjects[number], turns)


def scenario_result(scenario: Scenario, *turns: Watched) -> ScenarioResult:
    """Ours alone took part."""
    absent = {peer.name: "a thing" for peer in scenario.peers}
    return ScenarioResult(scenario, (subject_result(scenario, *turns),), absent)
