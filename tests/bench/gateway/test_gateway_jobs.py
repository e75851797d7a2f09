"""That the jobs hold ours to what they say, and that the figures come out of what was measured."""

from __future__ import annotations

import json

import msgspec
import pytest

from bench.gateway.__main__ import judge_all
from bench.gateway.jobs import CROWD, JOBS, MAP, ONE, PLAIN, REDIS, GatewayJob
from bench.gateway.neighbours import NEIGHBOURHOODS, NeighbourResult
from bench.gateway.verdict import judge_neighbours
from bench.gateway.versions import version_in
from bench.gateway.world import missing
from bench.http.figures import JobResult
from bench.http.report import Run, document, makeup, markdown, terminal_tables
from bench.http.run import Gathered
from bench.http.subjects import SERVE, Role
from bench.http.throughput import Load
from bench.http.verdict import judge_job
from bench.http.watched import FloodSeen, ScenarioResult, Watched
from bench.verdict import Verdict

from ..http.builders import WATCH, job_result, watched
from ..http.test_http_report import MACHINE

NEIGHBOUR, _ = NEIGHBOURHOODS
NOISE = FloodSeen(good=900, refused=100, broken=0, per_second=500.0)


def neighbour_result(*turns: Watched) -> ScenarioResult:
    return ScenarioResult(NEIGHBOUR, (NeighbourResult(NEIGHBOUR.subjects[0], turns),), {})


def gathered() -> Gathered:
    jobs: tuple[JobResult, ...] = (
        job_result(PLAIN, {"bulkhead-trio": [8000.0], "Fastify proxy": [5000.0], "httpx": [500.0]}),
        job_result(REDIS, {"with Redis": [4000.0], "without Redis": [8000.0]}),
    )
    return Gathered("18.0", jobs, (neighbour_result(watched(2.0, 2.5, flood=NOISE)),))


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_job_begins_with_ours_and_has_bars_of_those_who_take_part(job: GatewayJob) -> None:
    """Every peer has one, references have none, and nobody is named twice."""
    names = [entry.subject.name for entry in job.entries]
    assert len(set(names)) == len(names)
    roles = [entry.subject.role for entry in job.entries]
    assert roles[0] is Role.OURS
    assert Role.OURS not in roles[1:]
    peers = {e.subject.name for e in job.entries if e.subject.role is Role.PEER}
    assert {bar.peer for bar in job.bars} == peers


def test_population_and_redis_are_for_our_server_only() -> None:
    """Others have nobody to know; the first of a job is the one with more."""
    for job in JOBS:
        for number, entry in enumerate(job.entries):
            is_special = entry.has_redis or entry.population is not ONE
            assert not is_special or entry.subject.program == SERVE
            assert not is_special or number == 0
    assert (CROWD.tenants, CROWD.routes, MAP.tenants, MAP.routes) == (10_000, 1, 1, 10_000)


def test_bars_are_judged_by_ratio() -> None:
    """Half of the speed is less than the six tenths that are asked."""
    assert judge_job(gathered().jobs[0]).failures == ()
    assert judge_job(gathered().jobs[1]).failures == ("0.50 times without Redis and not 0.6",)


@pytest.mark.parametrize(
    ("turn", "failures"),
    [
        (watched(2.0, 3.0, flood=NOISE), 0),
        (watched(2.0, 3.1, flood=NOISE), 1),
        (watched(2.0, 2.0, flood=NOISE, status=503), 1),
        (watched(2.0, 2.0, flood=FloodSeen(0, 0, 9, 0.0)), 1),
        (watched(2.0, 2.0, flood=FloodSeen(0, 9, 0, 1.0)), 1),
    ],
)
def test_neighbour_is_held_to_its_bar(turn: Watched, failures: int) -> None:
    """Its p99, all its answers, and a noise that was one."""
    assert len(judge_neighbours(neighbour_result(turn)).failures) == failures


def test_neighbours_p50_is_shown_and_not_judged() -> None:
    """What is promised is the p99."""
    result = neighbour_result(watched(2.0, 2.9, flood=NOISE)).ours
    assert result.ratio.p50 == pytest.approx(1.45)
    assert result.is_within(1.5)
    assert not result.is_within(1.4)


def test_late_caller_is_pointed_out() -> None:
    """Its own lag is within the latency that it reports."""
    (warning,) = judge_neighbours(
        neighbour_result(watched(2.0, 2.0, flood=NOISE, lag=0.005))
    ).warnings
    assert "5.0 ms late" in warning


def test_verdict_names_each_part() -> None:
    """So that a reader finds the table."""
    verdict = judge_all(gathered(), ["a note"])
    assert verdict.failures == ("redis: 0.50 times without Redis and not 0.6",)
    assert verdict.warnings[0] == "a note"
    assert all(text.partition(": ")[0] in ("plain", "redis") for text in verdict.warnings[1:])


def test_report_has_every_part() -> None:
    """As tables, Markdown and JSON."""
    result = gathered()
    load = Load(connections=50, seconds=2, warm_up=1, rounds=1)
    run = Run("2026-01-01T00:00:00+00:00", MACHINE, result.postgresql, load, WATCH, result.jobs,
              result.scenarios, Verdict((), ()))  # fmt: skip
    assert len(list(terminal_tables(run))) == 3
    text = markdown(run)
    assert "| Fastify proxy | 5,000 |" in text
    assert ">= 0.6 FAIL" in text
    assert "<= 1.5 pass" in text
    written = json.loads(msgspec.json.encode(document(run)))
    assert written["jobs"][1]["entries"][1]["ratio"] == 0.5
    assert written["scenarios"][0]["subjects"][0]["ratio"]["p99"] == 1.25
    assert any(line.startswith("with Redis: ") for line in makeup(run))


def test_absent_program_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has no nginx can still run the rest."""
    monkeypatch.setenv("PATH", "")
    nginx = next(e.subject for e in PLAIN.entries if e.subject.name == "nginx")
    assert missing(nginx) == "nginx"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("nginx version: nginx/1.22.1", "1.22.1"),
        ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/", "2.6.12"),
        ("no idea", None),
    ],
)
def test_versions_of_programs(text: str, version: str | None) -> None:
    """As they print them."""
    assert version_in(text) == version
