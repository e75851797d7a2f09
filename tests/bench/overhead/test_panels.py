"""What goes into the picture."""

from __future__ import annotations

import pytest

from bench.overhead import jobs
from bench.overhead.exactness import Finding
from bench.overhead.panels import BAR_INCHES, TITLE_INCHES, Panel, in_two_columns, panels_of
from bench.overhead.verdict import contests

from .builders import measured


def panel(bars: int) -> Panel:
    return Panel("title", tuple((str(n), measured(jobs.RETRY, 1.0)) for n in range(bars)))


def test_panels_show_the_cheapest_first_and_mark_the_inexact() -> None:
    """With the bar in the title, and as a limit."""
    found = contests(
        jobs.JOBS, [measured(jobs.BREAKER, 2.0), measured(jobs.BREAKER, 1.0, "peer", "x" * 60)]
    )
    finding = Finding("many at once", "peer", "x" * 60, False, "100 of 100 ran")
    (one,) = panels_of(found, [finding])
    assert one.title == "Circuit breaker: a call succeeds (bar: 2 us)"
    assert one.limit == 2.0
    assert [label for label, _ in one.bars] == [
        "peer: " + "x" * 39 + "… *",
        "bulkhead-trio: call",
    ]


def test_jobs_that_nobody_else_does_share_a_panel() -> None:
    """They come last, each by its job's title."""
    entries = [measured(job, 1.0) for job in (jobs.HEDGE, jobs.THROTTLE)]
    pair = [measured(jobs.PRIORITY_QUEUE, 1.0), measured(jobs.PRIORITY_QUEUE, 2.0, label="b")]
    first, last = panels_of(contests(jobs.JOBS, [*entries, *pair]), [])
    assert first.title == jobs.PRIORITY_QUEUE.title
    assert [label for label, _ in last.bars] == [jobs.THROTTLE.title, jobs.HEDGE.title]


def test_panels_are_as_high_as_their_bars() -> None:
    """And a title."""
    assert panel(3).inches == pytest.approx(TITLE_INCHES + 3 * BAR_INCHES)


def test_columns_are_about_as_high_as_each_other() -> None:
    """In order; one panel alone is the first column."""
    panels = [panel(bars) for bars in (8, 2, 2, 8)]
    left, right = in_two_columns(panels)
    assert (left, right) == (panels[:2], panels[2:])
    assert in_two_columns([panels[0]]) == ([panels[0]], [])
    assert in_two_columns([]) == ([], [])
