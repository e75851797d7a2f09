"""What a run shows, for the terminal, for a README and for programs. Pure but for the date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs
from rich import box
from rich.table import Table

from bench.isolation.messages import Recording
from bench.isolation.plan import LoadSettings
from bench.isolation.scenarios import Scenario
from bench.isolation.summary import MILLISECONDS, Latency, Summary, TierResult, timeline
from bench.isolation.verdict import ScenarioResult
from bench.machine import Machine, machine_document
from bench.tables import markdown_table
from bench.verdict import Verdict

COLUMNS = (
    "tier", "phase", "sent", "200", "429", "503", "other", "p50", "p95", "p99", "max",
)  # fmt: skip
FIRST_NUMBER = COLUMNS.index("sent")
RATIO = "ratio"
"""The row that gives the latency under the flood in multiples of the latency alone."""


LEGEND = "Latency in milliseconds, from when a request was due; ratio: flooded / alone."


def rows(result: ScenarioResult) -> Iterator[tuple[str, ...]]:
    """The cells of a scenario's table, in the order of `COLUMNS`: the steady tiers, the flood."""
    for tier in (*result.steady, result.flood):
        yield from _tier_rows(tier)


def _tier_rows(tier: TierResult) -> Iterator[tuple[str, ...]]:
    if tier.alone is not None:
        yield (tier.tier, "alone", *_cells(tier.alone))
    yield (tier.tier, "flooded", *_cells(tier.flooded))
    if tier.ratio is not None:
        counts = ("",) * (COLUMNS.index("p50") - FIRST_NUMBER)
        yield (tier.tier, RATIO, *counts, *(f"×{r:.1f}" for r in attrs.astuple(tier.ratio)))


def _cells(summary: Summary) -> tuple[str, ...]:
    counts = (
        summary.sent,
        summary.count(200),
        summary.count(429),
        summary.count(503),
        summary.others,
    )
    return (*(f"{count:,}" for count in counts), *_latency_cells(summary.latency))


def _latency_cells(latency: Latency | None) -> tuple[str, ...]:
    if latency is None:
        return ("-",) * len(attrs.fields(Latency))
    return tuple(_milliseconds(value) for value in attrs.astuple(latency))


def _milliseconds(value: float) -> str:
    return f"{value:,.1f}" if value < MILLISECONDS else f"{value:,.0f}"


def terminal_table(result: ScenarioResult) -> Table:
    """The table of one scenario, for the terminal; fits 80 columns."""
    title = f"{result.scenario.title}: {result.scenario.explanation}"
    table = Table(title=title, title_justify="left", caption=LEGEND, caption_justify="left")
    table.box, table.show_edge, table.padding = box.SIMPLE_HEAD, False, 0
    for index, column in enumerate(COLUMNS):
        justify: Literal["left", "right"] = "left" if index < FIRST_NUMBER else "right"
        table.add_column(column, justify=justify, no_wrap=True)
    for row in rows(result):
        table.add_row(*row, style="bold" if row[1] == RATIO else None)
    return table


def details(result: ScenarioResult) -> Iterator[str]:
    """What else there is to say about a scenario, a sentence each."""
    flood = result.flood.flooded
    answers = ", ".join(f"{n:,} x {answer}" for answer, n in flood.answers.items())
    yield f"Flood: {flood.per_second:,.0f} answers a second ({answers})."
    metrics = result.bulkheads
    yield f"/metrics/bulkheads answered {metrics.status} amid it in {metrics.ms:.1f} ms."
    shares = ", ".join(f"{name} {share:.2f}" for name, share in result.cpu.items())
    yield f"Cores kept busy amid it: {shares}."
    lags = ", ".join(_lag(tier) for tier in result.steady)
    yield f"The steady generator's own lag amid it, within the latencies above: {lags}."


def _lag(tier: TierResult) -> str:
    lag = tier.flooded.lag
    return f"{tier.tier} p99 {lag.p99:.1f} ms" if lag else f"{tier.tier} none"


def markdown(
    results: Sequence[ScenarioResult], machine: Machine, load: LoadSettings, verdict: Verdict
) -> str:
    """The whole run as Markdown."""
    parts = [_conditions(machine, load)]
    for result in results:
        parts.append(f"**{result.scenario.title}**: {result.scenario.explanation}")
        parts.append(markdown_table(COLUMNS, rows(result), first_number=FIRST_NUMBER))
        parts.append("\n".join(f"- {sentence}" for sentence in details(result)))
    if verdict.warnings:
        parts.append("\n".join(f"- Note: {text}." for text in verdict.warnings))
    parts.append(conclusion(verdict))
    return "\n\n".join(parts) + "\n"


def _conditions(machine: Machine, load: LoadSettings) -> str:
    plan = load.plan
    return (
        f"{load.rate:g} requests a second to each steady tier, {plan.alone:g} s alone, then"
        f" {plan.flooded:g} s beside {load.flood_connections} flooding connections."
        f" Server, PostgreSQL and load generators share {machine.cores} cores"
        f" ({machine.processor}), {machine.python}. {LEGEND}"
    )


def conclusion(verdict: Verdict) -> str:
    """One sentence: whether the run met its bars, and if not, why."""
    if not verdict.failures:
        return "Every request of the steady tiers was answered 200 in every scenario."
    return "FAILED: " + "; ".join(verdict.failures) + "."


@attrs.frozen
class Run:
    """All that one run of the benchmark gathered."""

    finished_at: str
    machine: Machine
    postgresql: str
    load: LoadSettings
    results: tuple[ScenarioResult, ...]
    recordings: Mapping[str, tuple[Recording, ...]]
    verdict: Verdict


def document(run: Run) -> dict[str, Any]:
    """The whole run as JSON-able values; members are camelCase, times in milliseconds or so named.

    It holds no host name and no path.
    """
    plan = run.load.plan
    return {
        "finishedAt": run.finished_at,
        "machine": {**machine_document(run.machine), "postgresql": run.postgresql},
        "load": {
            "ratePerSecond": run.load.rate,
            "floodConnections": run.load.flood_connections,
            "seconds": {"warmUp": plan.warm_up, "alone": plan.alone, "flooded": plan.flooded},
            "seed": run.load.seed,
        },
        "scenarios": [_scenario(result, run.recordings) for result in run.results],
        "failures": list(run.verdict.failures),
        "warnings": list(run.verdict.warnings),
    }


def _scenario(
    result: ScenarioResult, recordings: Mapping[str, tuple[Recording, ...]]
) -> dict[str, Any]:
    return {
        "name": result.scenario.name,
        "settings": _settings(result.scenario),
        "tiers": [_tier(tier) for tier in (*result.steady, result.flood)],
        "bulkheadsAmidFlood": attrs.asdict(result.bulkheads),
        "coresBusyAmidFlood": result.cpu,
        "timeline": {
            recording.tier: [attrs.asdict(piece) for piece in timeline(recording.samples)]
            for recording in recordings[result.scenario.name]
        },
    }


def _settings(scenario: Scenario) -> dict[str, Any]:
    return {
        "environment": dict(scenario.environment),
        "floodPath": scenario.path,
        "queryDelaySeconds": dict(scenario.delays),
    }


def _tier(tier: TierResult) -> dict[str, Any]:
    return {
        "tier": tier.tier,
        "alone": _summary(tier.alone),
        "flooded": _summary(tier.flooded),
        "ratio": attrs.asdict(tier.ratio) if tier.ratio else None,
    }


def _summary(summary: Summary | None) -> dict[str, Any] | None:
    if summary is None:
        return None
    return {
        "sent": summary.sent,
        "perSecond": summary.per_second,
        "answers": summary.answers,
        "latencyMs": attrs.asdict(summary.latency) if summary.latency else None,
        "generatorLagMs": attrs.asdict(summary.lag) if summary.lag else None,
    }
