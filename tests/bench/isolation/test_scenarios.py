"""What is done to the flooded tier."""

from __future__ import annotations

import pytest

from bench.isolation.scenarios import SCENARIOS, STEADY_TIERS, Scenario, scenario_named


def test_scenarios_are_found_by_their_names() -> None:
    """Names are distinct, and each leads to its scenario."""
    assert [scenario_named(scenario.name) for scenario in SCENARIOS] == list(SCENARIOS)
    with pytest.raises(KeyError):
        scenario_named("no such")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario_leaves_the_steady_tiers_alone(scenario: Scenario) -> None:
    """Of the steady tiers only the rate limit is lifted; nothing makes them faster or slower."""
    touched = {name for name in scenario.environment if "__FREE__" not in name}
    assert touched == {"BULKHEAD_TIERS__PRO__RATE_LIMIT"}
    assert not set(scenario.delays) & set(STEADY_TIERS)
    assert scenario.expected
