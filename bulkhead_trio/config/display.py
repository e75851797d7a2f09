"""Settings as lines that a person reads and a shell could take back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import attrs

from bulkhead_trio.config._identities import variable_of
from bulkhead_trio.config._tiers import Declared
from bulkhead_trio.config.loader import Explanation
from bulkhead_trio.config.settings import TIER_VARIABLES, VARIABLES

DEFAULT = "default"


class Row(NamedTuple):
    """One variable: its name, its value as it may be shown, and where that came from."""

    variable: str
    value: str
    origin: str


def rows(explanation: Explanation) -> Iterator[Row]:
    """Every variable of the settings, secrets masked, then every tier's and every identity's."""
    settings, origins = explanation.settings, explanation.origins
    for name in VARIABLES:
        variable = name.upper()
        yield Row(variable, _written(settings.shown(name)), origins.get(variable, DEFAULT))
    for tier in settings.tiers:
        prefix = Declared(tier.name, tier).variable
        for name in TIER_VARIABLES:
            variable = f"{prefix}__{name.upper()}"
            value = _written(attrs.asdict(tier)[name])
            yield Row(variable, value, origins.get(variable, DEFAULT))
    for identity in settings.identities:
        prefix = variable_of(identity.name)
        for name, value in identity.shown():
            variable = f"{prefix}__{name.upper()}"
            origin = origins.get(variable) or origins.get(f"{variable}_FILE", DEFAULT)
            yield Row(variable, value, origin)


def _written(value: object) -> str:
    """A value as the environment would have it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, tuple):
        return ",".join(_written(entry) for entry in value) or "none"
    return str(value)
