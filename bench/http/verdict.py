"""Whether a job or a scenario met its bars, and whether it was what it says. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from bench.http.figures import EntryResult, JobResult
from bench.http.jobs import Bar
from bench.http.watched import ScenarioResult, SubjectResult
from bench.verdict import Verdict

ERRORS_SHARE = 0.001
"""Connections that broke, as a share of the answers, above which a turn is no measurement."""
BUSY_CORES = 0.85
"""A server that used less of its core was not what limited the figure."""
LAG_WARNING_MS = 1.0
"""A caller that is later than this itself colours the p99 that it reports."""
FIRST_ANSWERS_SHARE = 0.01
"""Of a refused job's answers, how many may be good: the quota of each window comes first."""


def bar_of(result: JobResult, entry: EntryResult) -> Bar | None:
    """The bar that ours has to reach beside ``entry``, if there is one."""
    return next((bar for bar in result.job.bars if bar.peer == entry.name), None)


def is_met(result: JobResult, entry: EntryResult) -> bool | None:
    """Whether ours reaches its bar beside ``entry``; ``None`` where there is none."""
    bar, ratio = bar_of(result, entry), result.ratio(entry)
    if bar is None or entry is result.ours:
        return None
    return ratio is not None and ratio >= bar.ratio


def judge_job(result: JobResult) -> Verdict:
    """Hold one job against its bars.

    A turn with answers of the wrong kind is no measurement, and fails the run whoever had it.
    """
    failures = [text for entry in result.entries for text in _spoilt(entry)]
    warnings = list(_idle(result))
    for bar in result.job.bars:
        entry = result.named(bar.peer)
        if entry is None:
            warnings.append(_absence(bar.peer, result.absent))
        elif not is_met(result, entry):
            ratio = result.ratio(entry) or 0.0
            failures.append(f"{ratio:.2f} times {bar.peer} and not {bar.ratio:g}")
    return Verdict(tuple(failures), tuple(warnings))


def _spoilt(entry: EntryResult) -> Iterator[str]:
    counts = [turn.count for turn in entry.turns]
    requests = sum(count.requests for count in counts)
    refused = sum(count.refused for count in counts)
    errors = sum(count.errors for count in counts)
    if not requests:
        yield f"{entry.name} answered nothing"
        return
    if errors > ERRORS_SHARE * requests:
        yield f"{entry.name}: {errors:,} connections broke beside {requests:,} answers"
    if entry.entry.is_refused and requests - refused > FIRST_ANSWERS_SHARE * requests:
        yield f"{entry.name}: {requests - refused:,} of {requests:,} answers were no refusals"
    if not entry.entry.is_refused and refused:
        yield f"{entry.name}: {refused:,} of {requests:,} answers were no good ones"


def _idle(result: JobResult) -> Iterator[str]:
    idle = [entry for entry in result.entries if entry.cores < BUSY_CORES]
    if idle:
        used = ", ".join(f"{entry.name} {entry.cores:.2f}" for entry in idle)
        yield f"not all of the core was used ({used}): something else was the limit, or had a share"


def judge_scenario(result: ScenarioResult) -> Verdict:
    """Hold one scenario against its bar.

    Ours must have answered every request of the watched tier with 200, alone and beside the flood,
    and must have kept its latency. Whoever was not flooded as the scenario says fails the run.
    """
    failures = [text for subject in result.subjects for text in _not_flooded(result, subject)]
    ours, bar = result.ours, result.scenario.bar
    failures += _unanswered(ours)
    if not ours.is_within(bar):
        ratio = ours.ratio
        failures.append(f"p50 {ratio.p50:.2f} and p99 {ratio.p99:.2f} times alone, not {bar:g}")
    warnings = [_absence(name, result.absent) for name in result.absent]
    warnings += [
        f"the caller of {subject.subject.name} was itself up to {subject.lag_p99:.1f} ms late in 99"
        f" of 100 requests beside the flood; the latencies include it"
        for subject in result.subjects
        if subject.lag_p99 > LAG_WARNING_MS
    ]
    return Verdict(tuple(failures), tuple(warnings))


def _absence(name: str, absent: dict[str, str]) -> str:
    return f"not compared with {name}: {absent.get(name, 'it')} is not installed"


def _not_flooded(result: ScenarioResult, subject: SubjectResult) -> Iterator[str]:
    floods = [turn.flood for turn in subject.turns]
    answered = sum(flood.answered for flood in floods)
    refused = sum(flood.refused for flood in floods)
    if not answered:
        yield f"{subject.subject.name} answered the flood nothing"
    elif refused < result.scenario.refused_share * answered:
        yield f"{subject.subject.name} refused {refused:,} of the flood's {answered:,}: too few"
    if result.scenario.has_good and not (refused and answered > refused):
        yield f"{subject.subject.name}: {refused:,} of the flood's {answered:,} refused, not some"


def _unanswered(ours: SubjectResult) -> Iterator[str]:
    for phase in ("alone", "flooded"):
        for turn in ours.turns:
            summary = turn.tier.alone if phase == "alone" else turn.tier.flooded
            if summary is None or not summary.sent:
                yield f"{turn.tier.tier} {phase}: nothing was sent"
            elif summary.count(200) != summary.sent:
                answers = ", ".join(f"{n} x {answer}" for answer, n in summary.answers.items())
                yield f"{turn.tier.tier} {phase}: not all answered 200 ({answers})"
