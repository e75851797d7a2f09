"""Whether the quiet tenant kept its latency, and whether the run was what it says. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from bench.http.verdict import LAG_WARNING_MS
from bench.http.watched import ScenarioResult, SubjectResult
from bench.verdict import Verdict


def judge_neighbours(result: ScenarioResult) -> Verdict:
    """Hold the quiet tenant's p99 against the bar; each of its requests must have got 200."""
    ours = result.ours
    failures = [*_unanswered(ours), *_not_noisy(ours)]
    if not ours.is_within(result.scenario.bar):
        failures.append(f"p99 {ours.ratio.p99:.2f} times alone, not {result.scenario.bar:g}")
    warnings = []
    if ours.lag_p99 > LAG_WARNING_MS:
        warnings.append(
            f"the quiet caller was itself up to {ours.lag_p99:.1f} ms late in 99 of 100 requests"
            f" beside the flood; the latencies include it"
        )
    return Verdict(tuple(failures), tuple(warnings))


def _not_noisy(ours: SubjectResult) -> Iterator[str]:
    if any(not turn.flood.answered for turn in ours.turns):
        yield "the noisy tenant was answered nothing"
    elif any(not turn.flood.good for turn in ours.turns):
        yield "the noisy tenant was only refused"


def _unanswered(ours: SubjectResult) -> Iterator[str]:
    for turn in ours.turns:
        for phase, summary in (("alone", turn.tier.alone), ("flooded", turn.tier.flooded)):
            if summary is None or not summary.sent:
                yield f"quiet tenant, {phase}: nothing was sent"
            elif summary.count(200) != summary.sent:
                answers = ", ".join(f"{n} x {answer}" for answer, n in summary.answers.items())
                yield f"quiet tenant, {phase}: not all answered 200 ({answers})"
