"""The tiers: declared in TOML or the default ones, single values overridden by the environment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import attrs

from bulkhead_trio.config._rules import shown
from bulkhead_trio.config.mistakes import Mistake
from bulkhead_trio.config.settings import DEFAULT_TIERS, TIER_VARIABLES, TierSettings

PREFIX = "BULKHEAD_TIERS"
NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)

_WANTED_NAME = "a lower-case letter, then up to 31 of a-z, 0-9, '_' and '-'"


@attrs.frozen
class Raw:
    """A value before its rule has seen it, and where it came from."""

    value: object
    source: str


@attrs.define
class Declared:
    """One tier as the sources have it: what it starts from and what changes that."""

    name: str
    base: TierSettings
    values: dict[str, Raw] = attrs.field(factory=dict)

    @property
    def variable(self) -> str:
        """How the environment names the tier."""
        return f"{PREFIX}__{self.name.upper().replace('-', '_')}"


def printable(name: str) -> str:
    """A name that a source chose, as it may be printed."""
    return name if name.isprintable() else ascii(name)


def no_such(kind: str, name: str, known: Mapping[str, object]) -> str:
    """The reason for a key that nobody knows, with the nearest one that exists."""
    near = get_close_matches(name.lower(), known, 1)
    hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
    return f"is no setting{kind}{hint if near or len(known) < 10 else ''}"


def read_tiers(
    table: object, source: str, environ: Mapping[str, str], mistakes: list[Mistake]
) -> tuple[tuple[TierSettings, ...], Mapping[str, str]]:
    """Read every tier, adding what is wrong to ``mistakes``.

    Args:
        table: TOML's ``tiers``; ``None`` where there is none.
        source: the name of the TOML file.
        environ: the environment.
        mistakes: where mistakes are added.

    Returns:
        The tiers without mistakes, and the source of each value that is not a default, by its
        variable's name.
    """
    if table is None:
        declared = [Declared(tier.name, tier) for tier in DEFAULT_TIERS]
    elif isinstance(table, dict) and table:
        declared = list(_declared(table, source, mistakes))
    else:
        wanted = "must be tables, at least one: [tiers.NAME]"
        mistakes.append(Mistake(PREFIX, f"{wanted}, not {shown(table)}", source))
        return (), {}
    _override(declared, environ, mistakes)
    found = [_tier(tier, mistakes) for tier in declared]
    origins = {
        f"{tier.variable}__{field.upper()}": raw.source
        for tier in declared
        for field, raw in tier.values.items()
    }
    return tuple(tier for tier in found if tier is not None), origins


def _declared(table: dict[str, Any], source: str, mistakes: list[Mistake]) -> Iterator[Declared]:
    known = {tier.name: tier for tier in DEFAULT_TIERS}
    seen: dict[str, str] = {}
    for name, fields in table.items():
        # Even a known tier is unlimited unless its table says otherwise: the contract's word.
        base = attrs.evolve(known.get(name, TierSettings(name)), rate_limit=None)
        tier = Declared(name, base)
        if not NAME.fullmatch(name):
            reason = f"the tier name {shown(name)} must be {_WANTED_NAME}"
            mistakes.append(Mistake(PREFIX, reason, source))
        elif tier.variable in seen:
            reason = f"stands for both {seen[tier.variable]} and {name}: rename one of them"
            mistakes.append(Mistake(tier.variable, reason, source))
        seen.setdefault(tier.variable, name)
        if isinstance(fields, dict):
            _declare_fields(tier, fields, f"{source}, [tiers.{printable(name)}]", mistakes)
        else:
            reason = f"must be a table, not {shown(fields)}"
            mistakes.append(Mistake(printable(tier.variable), reason, source))
        yield tier


def _declare_fields(
    tier: Declared, fields: dict[str, Any], source: str, mistakes: list[Mistake]
) -> None:
    for field, value in fields.items():
        if field in TIER_VARIABLES:
            tier.values[field] = Raw(value, source)
            continue
        variable = printable(f"{tier.variable}__{field.upper()}")
        mistakes.append(Mistake(variable, no_such(" of a tier", field, TIER_VARIABLES), source))


def _override(
    declared: list[Declared], environ: Mapping[str, str], mistakes: list[Mistake]
) -> None:
    tiers = {tier.variable: tier for tier in reversed(declared)}
    seen: dict[tuple[str, str], str] = {}
    source = "the environment"
    for name, value in environ.items():
        if not name.startswith(PREFIX):
            continue
        variable, _, field = name.rpartition("__")
        field = field.lower()
        tier = tiers.get(variable.upper())
        if not variable.startswith(f"{PREFIX}__"):
            reason = f"must be named {PREFIX}__TIER__SETTING"
        elif tier is None:
            known = ", ".join(tier.name for tier in declared)
            reason = f"names a tier that does not exist; there are {known}"
        elif field not in TIER_VARIABLES:
            reason = no_such(" of a tier", field, TIER_VARIABLES)
        elif (tier.name, field) in seen:
            reason = f"is set twice, as {printable(seen[tier.name, field])} too"
        else:
            seen[tier.name, field] = name
            tier.values[field] = Raw(value, source)
            continue
        mistakes.append(Mistake(printable(name), reason, source))


def _tier(declared: Declared, mistakes: list[Mistake]) -> TierSettings | None:
    values: dict[str, Any] = {}
    for field, raw in declared.values.items():
        try:
            values[field] = TIER_VARIABLES[field].rule(raw.value)
        except ValueError as error:
            variable = printable(f"{declared.variable}__{field.upper()}")
            mistakes.append(Mistake(variable, str(error), raw.source))
    if len(values) < len(declared.values):
        return None
    return attrs.evolve(declared.base, **values)
