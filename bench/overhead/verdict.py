"""Holds what was measured against its bars. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from bench.overhead.exactness import Finding
from bench.overhead.harness import Measured
from bench.overhead.jobs import FAIR_QUEUE, MANY_KEYS, MOST_STEP_RATIO
from bench.overhead.memory import KeyMemory
from bench.overhead.stages import Trial
from bench.overhead.subjects import Job, Role
from bench.verdict import Verdict


@attrs.frozen
class Contest:
    """All who do one job, with ours that the others are compared with.

    Attributes:
        lead: the first of ours.
        rivals: the peers that do the job on Trio, fastest first.
    """

    job: Job
    lead: Measured
    entries: tuple[Measured, ...]
    rivals: tuple[Measured, ...]

    @property
    def fastest(self) -> Measured | None:
        """The fastest of the rivals; ``None`` where there are none."""
        return self.rivals[0] if self.rivals else None

    @property
    def is_ahead(self) -> bool:
        """Whether ours is faster than every peer on Trio, the inexact ones too."""
        return self.fastest is None or self.lead.cost.median < self.fastest.cost.median

    def ratio(self, entry: Measured) -> float | None:
        """An entry's cost in multiples of ours; ``None`` where ours is not above nothing."""
        if self.lead.cost.median <= 0:
            return None
        return entry.cost.median / self.lead.cost.median


def contests(jobs: Sequence[Job], measured: Sequence[Measured]) -> list[Contest]:
    """The jobs that ours were measured at, in the order of ``jobs``."""
    found = []
    for job in jobs:
        entries = tuple(m for m in measured if m.subject.job == job)
        ours = [m for m in entries if m.subject.role is Role.OURS]
        if not ours:
            continue
        peers = [m for m in entries if m.subject.role is Role.PEER and m.is_on_trio]
        peers.sort(key=lambda m: m.cost.median)
        found.append(Contest(job, ours[0], entries, tuple(peers)))
    return found


def is_within_bar(entry: Measured) -> bool | None:
    """Whether one of ours meets its job's bar; ``None`` where none is set, or it is not ours."""
    bar = entry.subject.job.bar
    if bar is None or entry.subject.role is not Role.OURS:
        return None
    return entry.cost.median <= bar


def is_inexact(entry: Measured, findings: Sequence[Finding]) -> bool:
    """Whether a breaker or a bulkhead was seen to be so on Trio, where the experiments are made."""
    subject = entry.subject
    return entry.is_on_trio and any(
        not finding.is_exact
        for finding in findings
        if (finding.package, finding.label) == (subject.package, subject.label)
    )


def step_ratio(found: Sequence[Contest]) -> float | None:
    """How much longer a fair queue's step takes with many keys than with few."""
    for contest in found:
        if contest.job == FAIR_QUEUE:
            few, many = contest.entries
            return many.cost.median / few.cost.median
    return None


def judge(
    found: Sequence[Contest],
    memory: Sequence[KeyMemory],
    findings: Sequence[Finding],
    trials: Sequence[Trial],
    ours: str,
) -> Verdict:
    """What fails the run: a bar that is not met, a faster peer, an inexact policy of ours.

    A faster peer that was seen to be inexact does another job: it is noted.

    Args:
        found: the jobs.
        memory: what limiters keep for a key.
        findings: what breakers and bulkheads did.
        trials: what came of trying the peers.
        ours: the package that is ours.
    """
    failures = [
        *_bars(found),
        *_memory(memory),
        *_behind(found, findings, exact=True),
        *_inexact(findings, ours),
    ]
    notes = [*_behind(found, findings, exact=False), *_absent(trials)]
    return Verdict(tuple(failures), tuple(notes))


def _bars(found: Sequence[Contest]) -> Iterator[str]:
    for contest in found:
        for entry in contest.entries:
            if is_within_bar(entry) is False:
                yield (
                    f"{contest.job.name}, {entry.subject.label}: {entry.cost.median:.2f} us, and"
                    f" {contest.job.bar:g} are allowed"
                )
    ratio = step_ratio(found)
    if ratio is not None and ratio > MOST_STEP_RATIO:
        yield (
            f"a fair queue's step takes {ratio:.2f} times as long with {MANY_KEYS:,} keys, and"
            f" {MOST_STEP_RATIO:g} times are allowed"
        )


def _memory(memory: Sequence[KeyMemory]) -> Iterator[str]:
    for entry in memory:
        if not entry.is_met:
            amount = entry.problem if entry.bytes_a_key is None else f"{entry.bytes_a_key:.0f}"
            yield f"{entry.label}: {amount} bytes a key, and {entry.bar:g} are allowed"


def _behind(found: Sequence[Contest], findings: Sequence[Finding], *, exact: bool) -> Iterator[str]:
    """Who is as fast as ours or faster, of those that were seen to be exact, or of the others.

    Only the exact ones do the same job.
    """
    for contest in found:
        for rival in contest.rivals:
            if rival.cost.median > contest.lead.cost.median:
                continue
            if is_inexact(rival, findings) is exact:
                continue
            remark = "" if exact else ", and is not exact"
            yield (
                f"{contest.job.name}: {contest.lead.cost.median:.2f} us, and"
                f" {rival.subject.package} takes {rival.cost.median:.2f}{remark}"
            )


def _inexact(findings: Sequence[Finding], ours: str) -> Iterator[str]:
    for finding in findings:
        if finding.package == ours and not finding.is_exact:
            yield f"{finding.label}: {finding.experiment}: {finding.seen}"


def _absent(trials: Sequence[Trial]) -> Iterator[str]:
    for trial in trials:
        if not trial.is_measurable:
            subject = trial.subject
            yield (
                f"{subject.package} ({subject.label}) is not in the comparison:"
                f" {trial.on_trio if trial.on_trio == trial.on_asyncio else trial.on_asyncio}"
            )
