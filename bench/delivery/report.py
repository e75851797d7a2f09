"""What a run shows, for the terminal, for a README and for programs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import attrs
from rich import box
from rich.table import Table

from bench.delivery.claiming import MOST_RATIO, ClaimResult
from bench.delivery.figures import RateResult, Turn
from bench.http.report import FAILED, PASSED, conclusion
from bench.machine import Machine, machine_document
from bench.tables import markdown_table
from bench.verdict import Verdict

WHO = ("server", "PostgreSQL", "receiver")
RATE_COLUMNS = (
    "what", "a second", "spread", "p50", "p99", *(f"{who} us" for who in WHO), "cores", "bar",
)  # fmt: skip
CLAIM_COLUMNS = ("waiting", "claimed", "p50", "p99", "finish", "ratio", "bar")
RATE_LEGEND = (
    "A second: the median of all rounds; spread: between the slowest and the fastest; latency of"
    " the answers in milliseconds; us: microseconds of processor time for one, by whom; cores: that"
    " all of them used together."
)
CLAIM_LEGEND = (
    "Milliseconds a claim, and for writing down what became of its rows, the median; claimed: how"
    " many those were; ratio: a claim in multiples of the first line."
)


@attrs.frozen
class Run:
    """All that one run of the benchmark gathered."""

    finished_at: str
    machine: Machine
    postgresql: str
    rates: Sequence[RateResult]
    claims: Sequence[ClaimResult]
    verdict: Verdict


# --- rows -----------------------------------------------------------------------------------------


def rate_rows(run: Run) -> Iterator[tuple[str, ...]]:
    """The cells of the table of rates, in the order of `RATE_COLUMNS`."""
    for result in run.rates:
        turn = result.middle
        yield (
            result.name,
            f"{result.per_second:,.0f}",
            f"{result.spread:.0%}",
            *("-" if value is None else f"{value:.1f}" for value in (turn.p50, turn.p99)),
            *(f"{turn.microseconds(who):,.0f}" for who in WHO),
            f"{sum(turn.cores(who) for who in turn.cpu):.2f}",
            _bar(result),
        )


def _bar(result: RateResult) -> str:
    if result.bar is None:
        return ""
    return f">= {result.bar:,.0f} {PASSED if result.is_met else FAILED}"


def claim_rows(claims: ClaimResult) -> Iterator[tuple[str, ...]]:
    """The cells of the table of claims, in the order of `CLAIM_COLUMNS`."""
    first, last = claims.points[0], claims.points[-1]
    for point in claims.points:
        bar = f"<= {MOST_RATIO:g} {PASSED if claims.is_met else FAILED}" if point is last else ""
        yield (
            f"{point.waiting:,}",
            f"{point.claimed:.0f}",
            f"{point.p50:.2f}",
            f"{point.p99:.2f}",
            f"{point.finish:.2f}",
            f"×{point.p50 / first.p50:.2f}",
            bar,
        )


def limits(run: Run) -> Iterator[str]:
    """What limited each of the rates, a line each."""
    for result in run.rates:
        yield f"{result.name}: {result.title}; limited by {result.limit(run.machine.cores)}"


def legends(run: Run) -> Iterator[str]:
    """What the columns mean, for the tables that there are."""
    if run.rates:
        yield RATE_LEGEND
    if run.claims:
        yield CLAIM_LEGEND


# --- for the terminal -----------------------------------------------------------------------------


def terminal_tables(run: Run) -> Iterator[Table]:
    """Every table of a run."""
    if run.rates:
        yield _table("Events and deliveries", RATE_COLUMNS, rate_rows(run))
    for claims in run.claims:
        title = f"Claims while work of {claims.title} waits"
        yield _table(title, CLAIM_COLUMNS, claim_rows(claims))


def _table(title: str, columns: Sequence[str], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    table.padding = (0, 1, 0, 0)
    for index, column in enumerate(columns):
        is_number = 0 < index < len(columns) - 1
        justify: Literal["left", "right"] = "right" if is_number else "left"
        table.add_column(column.replace(" ", "\n"), justify=justify, no_wrap=not is_number)
    for row in rows:
        table.add_row(*row, style="bold red" if FAILED in row[-1] else None)
    return table


# --- as Markdown ----------------------------------------------------------------------------------


def markdown(run: Run) -> str:
    """The whole run as Markdown."""
    machine = run.machine
    parts = [
        f"{machine.processor}, {machine.cores} cores for server, PostgreSQL {run.postgresql} and"
        f" receiver together, {machine.python}."
    ]
    if run.rates:
        parts += [RATE_LEGEND, markdown_table(RATE_COLUMNS, rate_rows(run), first_number=1)]
    if run.claims:
        parts.append(CLAIM_LEGEND)
    for claims in run.claims:
        rows = claim_rows(claims)
        parts += [f"**{claims.title}**", markdown_table(CLAIM_COLUMNS, rows, first_number=0)]
    notes = [*limits(run), *(f"Note: {text}" for text in run.verdict.warnings)]
    parts += ["\n".join(f"- {text}." for text in notes), conclusion(run.verdict)]
    return "\n\n".join(parts) + "\n"


# --- for programs ---------------------------------------------------------------------------------


def document(run: Run) -> dict[str, Any]:
    """The whole run as JSON-able values; members are camelCase; no host name and no path."""
    return {
        "finishedAt": run.finished_at,
        "machine": {**machine_document(run.machine), "postgresql": run.postgresql},
        "rates": [_rate(run, result) for result in run.rates],
        "claims": [_claims(claims) for claims in run.claims],
        "failures": list(run.verdict.failures),
        "warnings": list(run.verdict.warnings),
    }


def _rate(run: Run, result: RateResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "title": result.title,
        "unit": result.unit,
        "perSecond": round(result.per_second, 1),
        "bar": result.bar,
        "isMet": result.is_met,
        "limit": result.limit(run.machine.cores),
        "rounds": [_turn(turn) for turn in result.turns],
    }


def _turn(turn: Turn) -> dict[str, Any]:
    return {
        "perSecond": round(turn.per_second, 1),
        "count": turn.count,
        "refused": turn.refused,
        "latencyMs": None if turn.p50 is None else {"p50": turn.p50, "p99": turn.p99},
        "cores": {who: round(turn.cores(who), 2) for who in turn.cpu},
        "microsecondsEach": {who: round(turn.microseconds(who)) for who in turn.cpu},
    }


def _claims(claims: ClaimResult) -> dict[str, Any]:
    return {
        "title": claims.title,
        "ratio": round(claims.ratio, 3),
        "bar": MOST_RATIO,
        "isMet": claims.is_met,
        "points": [
            {
                "waiting": point.waiting,
                "claimed": round(point.claimed, 1),
                "latencyMs": {"p50": round(point.p50, 3), "p99": round(point.p99, 3)},
                "finishMs": round(point.finish, 3),
            }
            for point in claims.points
        ],
    }
