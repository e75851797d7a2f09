"""What is done to ``free`` in each scenario, and how to tell that it really was."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

FLOODED_TIER = "free"
STEADY_TIERS = ("pro", "enterprise")

_STEADY = {"BULKHEAD_TIERS__PRO__RATE_LIMIT": ""}
"""Pro's own limit of 1,000 a minute would refuse 50 a second after 20 seconds."""
_UNLIMITED = {**_STEADY, "BULKHEAD_TIERS__FREE__RATE_LIMIT": ""}

SLOW_QUERY_SECONDS = 1.0
"""How long free's queries take where the database is slow: some thousand times their usual time,
short of the deadline, so that they hold their connections and fail none."""


@attrs.frozen
class Scenario:
    """One way for a tier to be in trouble.

    Attributes:
        name: for the command line.
        title: for people.
        explanation: what happens to the flooded tier, in one sentence.
        environment: settings of the server that differ from the defaults.
        path: what the flood asks for.
        delays: tiers to seconds that each of their queries takes longer.
        expected: what the flood must meet for the scenario to be what it says: the answer's status
            or, for an error, its code, to the least share of the flood's answers. A share of 0
            asks for one at least.
    """

    name: str
    title: str
    explanation: str
    environment: Mapping[str, str]
    expected: Mapping[str, float]
    path: str = "/api/data"
    delays: Mapping[str, float] = attrs.field(factory=dict)


SCENARIOS = (
    Scenario(
        name="rate-limit",
        title="Rate-limit flood",
        explanation="free keeps its limit of 100 requests a minute, and refuses the rest.",
        environment=_STEADY,
        expected={"200": 0.0, "rate_limited": 0.5},
    ),
    Scenario(
        name="saturation",
        title="Saturation",
        explanation="free's limit is lifted; its compartment works at its full and refuses more.",
        environment=_UNLIMITED,
        expected={"200": 0.0, "bulkhead_full": 0.0},
    ),
    Scenario(
        name="slow-database",
        title="Slow database for one tier",
        explanation=f"each query of free takes {SLOW_QUERY_SECONDS:g} s longer; limit lifted.",
        environment=_UNLIMITED,
        expected={"200": 0.0, "bulkhead_full": 0.5},
        delays={FLOODED_TIER: SLOW_QUERY_SECONDS},
    ),
    Scenario(
        name="breaker-open",
        title="Breaker open for one tier",
        explanation="each call of free to the database fails, so its breaker opens; limit lifted.",
        environment=_UNLIMITED,
        expected={"database_unavailable": 0.0, "circuit_open": 0.9},
        path="/api/data?force_error=true",
    ),
)


def scenario_named(name: str) -> Scenario:
    """The scenario of that name.

    Raises:
        KeyError: there is none.
    """
    return {scenario.name: scenario for scenario in SCENARIOS}[name]
