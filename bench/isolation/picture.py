"""The picture of a run: each steady request a dot, over time, a panel a scenario."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.isolation.messages import Recording
from bench.isolation.plan import Plan
from bench.isolation.summary import MILLISECONDS

DOTS_PER_INCH = 120
PANEL_INCHES = (6.2, 3.4)
PANELS_A_ROW = 2
# Okabe and Ito's colours, told apart by the colour-blind too.
STYLES = {"pro": ("#0072B2", "o"), "enterprise": ("#D55E00", "^")}
OTHER_STYLE = ("#009E73", "s")
FAILED_COLOUR = "#000000"


@attrs.frozen
class Panel:
    """One scenario: its title and the samples of its steady tiers."""

    title: str
    recordings: tuple[Recording, ...]


def draw(panels: Sequence[Panel], plan: Plan, path: Path) -> None:
    """Write the picture to ``path``; its suffix (``.png``, ``.svg``) chooses the format.

    Raises:
        OSError: the file cannot be written.
    """
    columns = min(len(panels), PANELS_A_ROW)
    lines = -(-len(panels) // columns)
    size = (PANEL_INCHES[0] * columns, PANEL_INCHES[1] * lines)
    # A figure of its own, without pyplot: no window system, no global state.
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for panel, ax in zip(panels, axes.flat, strict=False):
        _draw_panel(ax, panel, plan)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    with mpl.rc_context({"svg.hashsalt": "bulkhead-trio"}):
        figure.savefig(path, dpi=DOTS_PER_INCH)


def _draw_panel(ax: Axes, panel: Panel, plan: Plan) -> None:
    ax.axvspan(plan.flood_start, plan.end, color="#F0E442", alpha=0.25, linewidth=0)
    ax.axvline(plan.flood_start, color="#555555", linewidth=1)
    ax.axvline(plan.warm_up, color="#AAAAAA", linewidth=1, linestyle=":")
    for recording in panel.recordings:
        _draw_tier(ax, recording)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_xlim(0, plan.end)
    ax.set_title(panel.title, loc="left", fontsize=10)
    ax.set_xlabel("seconds: dotted line, measuring begins; solid line, the flood begins")
    ax.set_ylabel("latency, ms")
    ax.grid(visible=True, axis="y", linewidth=0.4, alpha=0.6)
    ax.legend(loc="upper left", fontsize=8, markerscale=2, framealpha=0.9)


def _draw_tier(ax: Axes, recording: Recording) -> None:
    colour, marker = STYLES.get(recording.tier, OTHER_STYLE)
    good = [s for s in recording.samples if s.status == 200]
    bad = [s for s in recording.samples if s.status != 200]
    for samples, tint, shape, label in (
        (good, colour, marker, recording.tier),
        (bad, FAILED_COLOUR, "x", f"{recording.tier}, not 200"),
    ):
        if samples:
            ax.plot(
                [s.due for s in samples],
                [s.latency * MILLISECONDS for s in samples],
                linestyle="none",
                marker=shape,
                markersize=2 if samples is good else 6,
                color=tint,
                alpha=0.7,
                label=label,
            )
