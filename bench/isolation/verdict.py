"""Whether a run shows what it set out to show. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from bench.isolation.plan import ALONE, FLOODED
from bench.isolation.scenarios import Scenario
from bench.isolation.summary import Summary, TierResult
from bench.verdict import Verdict

LAG_WARNING_MS = 10.0
"""A generator that is later than this in one of a hundred requests colours the p99 it reports."""


@attrs.frozen
class MetricsAnswer:
    """An answer of ``/metrics/bulkheads``: 0 and nothing where none came; ``ms`` until it did."""

    status: int
    content: object
    ms: float


@attrs.frozen
class ScenarioResult:
    """One scenario, measured.

    Attributes:
        scenario: what was done.
        steady: one result a steady tier.
        flood: the flooded tier's result.
        bulkheads: what ``/metrics/bulkheads`` answered amid the flood.
        cpu: processor seconds a second, amid the flood: of the server and of each generator.
    """

    scenario: Scenario
    steady: tuple[TierResult, ...]
    flood: TierResult
    bulkheads: MetricsAnswer
    cpu: dict[str, float]


def judge(result: ScenarioResult) -> Verdict:
    """Hold one scenario against its bars.

    Every request of a steady tier must have been answered 200, alone and under the flood; the flood
    must have met what the scenario is about; and the metrics must have been there to watch it.
    """
    failures = [text for tier in result.steady for text in _refusals(tier)]
    failures += _unmet(result.scenario, result.flood.flooded)
    if result.bulkheads.status != 200:
        failures.append(f"/metrics/bulkheads answered {result.bulkheads.status} amid the flood")
    warnings = [text for tier in result.steady for text in _lags(tier)]
    return Verdict(tuple(failures), tuple(warnings))


def _refusals(tier: TierResult) -> Iterator[str]:
    for phase, summary in ((ALONE, tier.alone), (FLOODED, tier.flooded)):
        if summary is None or summary.sent == 0:
            yield f"{tier.tier} {phase}: nothing was sent"
        elif summary.count(200) != summary.sent:
            refused = summary.sent - summary.count(200)
            answers = ", ".join(f"{n} x {answer}" for answer, n in summary.answers.items())
            yield f"{tier.tier} {phase}: {refused} of {summary.sent} not answered 200 ({answers})"


def _unmet(scenario: Scenario, flood: Summary) -> Iterator[str]:
    for answer, share in scenario.expected.items():
        met = sum(n for key, n in flood.answers.items() if answer in key.split())
        if met < max(1, share * flood.sent):
            yield (
                f"the flood met {answer} {met} times of {flood.sent}: this is no measurement"
                f" of {scenario.name}"
            )


def _lags(tier: TierResult) -> Iterator[str]:
    for phase, summary in ((ALONE, tier.alone), (FLOODED, tier.flooded)):
        lag = summary.lag if summary else None
        if lag is not None and lag.p99 > LAG_WARNING_MS:
            yield (
                f"{tier.tier} {phase}: the generator itself was up to {lag.p99:.1f} ms late in 99"
                f" of 100 requests; the latencies include it"
            )
