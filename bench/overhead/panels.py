"""What goes into the picture of a run, and where. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from bench.overhead.exactness import Finding
from bench.overhead.harness import Measured
from bench.overhead.verdict import Contest, is_inexact

BAR_INCHES = 0.2
TITLE_INCHES = 0.4
LONGEST_LABEL = 46
MARK = "*"
"""Stands behind what was seen to be inexact."""


@attrs.frozen
class Panel:
    """Some bars under a title, and a limit that is drawn through them."""

    title: str
    bars: tuple[tuple[str, Measured], ...]
    limit: float | None = None

    @property
    def inches(self) -> float:
        """How high it is."""
        return TITLE_INCHES + BAR_INCHES * len(self.bars)


def panels_of(contests: Sequence[Contest], findings: Sequence[Finding]) -> list[Panel]:
    """A panel a job, the cheapest first; jobs that only ours were measured at share the last."""
    panels, alone = [], []
    for contest in contests:
        entries = sorted(contest.entries, key=lambda entry: entry.cost.median)
        if len(entries) == 1:
            alone.append((contest.job.title, entries[0]))
            continue
        bars = tuple((_label(entry, findings), entry) for entry in entries)
        limit = "" if contest.job.bar is None else f" (bar: {contest.job.bar:g} us)"
        panels.append(Panel(contest.job.title + limit, bars, contest.job.bar))
    if alone:
        panels.append(Panel("Others of ours", tuple(alone)))
    return panels


def in_two_columns(panels: Sequence[Panel]) -> tuple[list[Panel], list[Panel]]:
    """The panels in their order, the first column not shorter than the second by much."""
    half = sum(panel.inches for panel in panels) / 2
    left: list[Panel] = []
    for panel in panels:
        if left and sum(p.inches for p in left) + panel.inches / 2 > half:
            break
        left.append(panel)
    return left, list(panels[len(left) :])


def _label(entry: Measured, findings: Sequence[Finding]) -> str:
    label = f"{entry.subject.package}: {entry.subject.label}"
    if len(label) > LONGEST_LABEL:
        label = label[: LONGEST_LABEL - 1] + "…"
    return f"{label} {MARK}" if is_inexact(entry, findings) else label
