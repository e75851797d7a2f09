"""Whether a run met its bars, and whether it was what it says. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.delivery.claiming import MOST_RATIO, ClaimResult
from bench.delivery.figures import RateResult
from bench.verdict import Verdict

REFUSED_SHARE = 0.001
"""Of the answers, how many may be no good ones."""


def judge(
    rates: Sequence[RateResult], claims: Sequence[ClaimResult], warnings: Sequence[str]
) -> Verdict:
    """Hold a run against its bars; ``warnings`` are those that came before."""
    failures = [text for result in rates for text in _failures(result)]
    failures += [
        f"claims, {each.title}: {each.ratio:.2f} times as long with {each.points[-1].waiting:,}"
        f" waiting as with {each.points[0].waiting:,}, and not {MOST_RATIO:g}"
        for each in claims
        if not each.is_met
    ]
    return Verdict(tuple(failures), tuple(warnings))


def _failures(result: RateResult) -> Iterator[str]:
    refused = sum(turn.refused for turn in result.turns)
    count = sum(turn.count for turn in result.turns)
    if refused > REFUSED_SHARE * (count + refused):
        yield f"{result.name}: {refused:,} of {count + refused:,} answers were no good ones"
    if result.is_met is False:
        yield f"{result.name}: {result.per_second:,.0f} {result.unit}/s, not {result.bar:,.0f}"
