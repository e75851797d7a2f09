"""The picture of a run: a bar for each subject, grouped by job, in two columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch

from bench.overhead.exactness import Finding
from bench.overhead.harness import Measured
from bench.overhead.panels import MARK, Panel, in_two_columns, panels_of
from bench.overhead.subjects import Role
from bench.overhead.verdict import Contest

DOTS_PER_INCH = 120
WIDTH_INCHES = 14.0
LEAST_SHOWN = 0.1
"""Microseconds at which the axis begins; it is logarithmic, and has no zero."""
# Okabe and Ito's colours, told apart by the colour-blind too.
OURS, PEER, ON_ASYNCIO, REFERENCE = "#0072B2", "#D55E00", "#E69F00", "#999999"
LEGEND = (
    (OURS, "bulkhead-trio"),
    (PEER, "peer, on Trio"),
    (ON_ASYNCIO, "peer, on asyncio only"),
    (REFERENCE, "Trio itself, for reference"),
    ("none", f"{MARK}: seen to be inexact"),
)


def draw(contests: Sequence[Contest], findings: Sequence[Finding], path: Path) -> None:
    """Write the picture to ``path``; its suffix (``.png``, ``.svg``) chooses the format.

    Raises:
        OSError: the file cannot be written.
    """
    columns = [column for column in in_two_columns(panels_of(contests, findings)) if column]
    height = max(sum(panel.inches for panel in column) for column in columns) + 0.9
    most = max(entry.cost.high for contest in contests for entry in contest.entries)
    # A figure of its own, without pyplot: no window system, no global state.
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    for column, part in zip(
        columns, figure.subfigures(1, len(columns), squeeze=False).flat, strict=True
    ):
        _draw_column(part, column, 3 * most)
    figure.legend(
        handles=[Patch(color=colour, label=label) for colour, label in LEGEND],
        loc="outside upper center",
        ncols=len(LEGEND),
        fontsize=9,
        frameon=False,
    )
    with mpl.rc_context({"svg.hashsalt": "bulkhead-trio"}):
        figure.savefig(path, dpi=DOTS_PER_INCH)


def _draw_column(part: SubFigure, panels: Sequence[Panel], most: float) -> None:
    heights = [len(panel.bars) for panel in panels]
    axes = part.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)
    for panel, ax in zip(panels, axes.flat, strict=True):
        _draw_panel(ax, panel)
        ax.set_xlim(LEAST_SHOWN, most)
    axes.flat[-1].set_xlabel("microseconds an operation, over a bare call", fontsize=8)


def _draw_panel(ax: Axes, panel: Panel) -> None:
    for place, (_, entry) in enumerate(panel.bars):
        low, median, high = (
            max(value, LEAST_SHOWN)
            for value in (entry.cost.low, entry.cost.median, entry.cost.high)
        )
        ax.barh(place, median - LEAST_SHOWN, left=LEAST_SHOWN, height=0.75, color=_colour(entry))
        ax.plot([low, high], [place, place], color="#000000", linewidth=1)
        ax.annotate(
            f"{entry.cost.median:.2f}",
            (high, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    if panel.limit is not None:
        ax.axvline(panel.limit, color="#000000", linewidth=1, linestyle=":")
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_yticks(range(len(panel.bars)), [label for label, _ in panel.bars], fontsize=7)
    ax.set_ylim(len(panel.bars) - 0.5, -0.5)
    ax.set_title(panel.title, loc="left", fontsize=9)
    ax.tick_params(axis="x", labelsize=7)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _colour(entry: Measured) -> str:
    match entry.subject.role:
        case Role.OURS:
            return OURS
        case Role.REFERENCE:
            return REFERENCE
        case Role.PEER:
            return PEER if entry.is_on_trio else ON_ASYNCIO
