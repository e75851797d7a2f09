"""Results to report on, without a run."""

from __future__ import annotations

from collections.abc import Sequence

from bench.isolation.messages import Sample
from bench.isolation.plan import Plan
from bench.isolation.scenarios import SCENARIOS, STEADY_TIERS, Scenario
from bench.isolation.summary import summarize_tier
from bench.isolation.verdict import MetricsAnswer, ScenarioResult

PLAN = Plan(warm_up=1.0, alone=2.0, flooded=2.0)
RATE_LIMIT: Scenario = SCENARIOS[0]


def sample(
    due: float, *, latency: float = 0.002, status: int = 200, code: str = "", lag: float = 0.0
) -> Sample:
    return Sample(due, lag, latency, status, code)


def steady_samples() -> list[Sample]:
    """Ten a second through all phases of `PLAN`; 2 ms alone, 4 ms under the flood."""
    due = [tenth / 10 for tenth in range(50)]
    return [sample(at, latency=0.002 if at < PLAN.flood_start else 0.004) for at in due]


def flood_samples() -> list[Sample]:
    return [
        sample(PLAN.flood_start + n / 1000, status=200 if n < 10 else 429,
               code="" if n < 10 else "rate_limited")
        for n in range(1000)
    ]  # fmt: skip


def scenario_result(
    steady: Sequence[Sample] | None = None,
    flood: Sequence[Sample] | None = None,
    scenario: Scenario = RATE_LIMIT,
    metrics_status: int = 200,
) -> ScenarioResult:
    samples = steady_samples() if steady is None else steady
    return ScenarioResult(
        scenario=scenario,
        steady=tuple(summarize_tier(tier, samples, PLAN) for tier in STEADY_TIERS),
        flood=summarize_tier("free", flood_samples() if flood is None else flood, PLAN),
        bulkheads=MetricsAnswer(metrics_status, {"free": {}}, 3.5),
        cpu={"server": 0.95, "flood generator": 0.1, "steady generator": 0.1},
    )
