"""Three sources, one result: a TOML file, the environment, the command line; later wins."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from bulkhead_trio.config._binds import Address
from bulkhead_trio.config._identities import TABLE, read_identities
from bulkhead_trio.config._identity import IdentitySettings
from bulkhead_trio.config._rules import is_blank
from bulkhead_trio.config._tiers import Declared, Raw, no_such, printable, read_tiers
from bulkhead_trio.config.certificates import pair_mistakes
from bulkhead_trio.config.mistakes import ConfigurationError, Mistake
from bulkhead_trio.config.settings import (
    LEASE_MARGIN_SECONDS,
    VARIABLES,
    Settings,
    TierSettings,
)

FILE_VARIABLE = "BULKHEAD_CONFIG"
"""Names the TOML file where ``--config`` does not."""

DIVIDED = ("orders_connections", "orders_workers", "orders_queue", "orders_burst", "events_burst")
"""What each worker process must get at least one of."""

ENVIRONMENT = "the environment"
COMMAND_LINE = "the command line"


@attrs.frozen
class Explanation:
    """Settings, and why they are so.

    Attributes:
        settings: the settings.
        origins: the source of each value that is not a default, by its variable's name.
    """

    settings: Settings
    origins: Mapping[str, str]


@attrs.frozen
class _File:
    source: str = ""
    table: dict[str, Any] = attrs.field(factory=dict)
    is_readable: bool = True


def load_settings(
    *,
    config_path: Path | None = None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
) -> Settings:
    """Read and check the whole configuration.

    Args:
        config_path: a TOML file; ``None``: the one that ``BULKHEAD_CONFIG`` names, if any.
        environ: the environment's variables.
        overrides: values by field name, which win over everything; ``None`` is no value.

    Raises:
        ConfigurationError: with every mistake there is.
    """
    return explain_settings(config_path=config_path, environ=environ, overrides=overrides).settings


def explain_settings(
    *,
    config_path: Path | None = None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
) -> Explanation:
    """Like `load_settings`, saying also where each value came from.

    Raises:
        ConfigurationError: with every mistake there is.
    """
    mistakes: list[Mistake] = []
    file = _read_file(config_path, environ, mistakes)
    raw = dict(_winners(file, environ, overrides))
    values, right = _read_values(raw, mistakes)
    tiers: tuple[TierSettings, ...] = ()
    identities: tuple[IdentitySettings, ...] = ()
    origins: Mapping[str, str] = {}
    if file.is_readable:
        # Without the file, what contradicts or is missing cannot be told from what it says.
        tiers, origins = read_tiers(file.table.get("tiers"), file.source, environ, mistakes)
        mistakes.extend(_contradictions(values, right))
        if {"tls_certificate", "tls_key"} <= right:
            mistakes.extend(pair_mistakes(values["tls_certificate"], values["tls_key"]))
        mistakes.extend(_too_few(values, right, tiers))
        identities, more = read_identities(file.table.get(TABLE), file.source, environ, mistakes)
        origins = {**origins, **more}
        declared = file.table.get(TABLE)
        mistakes.extend(_unknown_identity(values, declared if isinstance(declared, dict) else {}))
    mistakes.extend(_unknown_keys(file, overrides))
    if mistakes:
        raise ConfigurationError(mistakes)
    settings = Settings(**values, tiers=tiers, identities=identities)
    found = {name.upper(): each.source for name, each in raw.items()}
    if settings.is_production and settings.force_error_enabled:
        settings = attrs.evolve(settings, force_error_enabled=False)
        found["FORCE_ERROR_ENABLED"] = "ENVIRONMENT=production"
    return Explanation(settings, {**found, **origins})


def _read_file(
    config_path: Path | None, environ: Mapping[str, str], mistakes: list[Mistake]
) -> _File:
    named = environ.get(FILE_VARIABLE, "").strip()
    if config_path is None and not named:
        return _File()
    path = Path(named) if config_path is None else config_path
    source = printable(str(path))
    try:
        with path.open("rb") as stream:
            return _File(source, tomllib.load(stream))
    except OSError as error:
        reason = f"cannot read {source}: {error.strerror or type(error).__name__}"
    except UnicodeDecodeError:
        reason = f"{source} is not UTF-8"
    except (ValueError, RecursionError) as error:
        # ValueError: TOML's own mistakes, numbers too long for Python, a path with NUL in it.
        reason = f"{source} is not TOML: {str(error).splitlines()[0] if str(error) else 'unknown'}"
    mistakes.append(Mistake(FILE_VARIABLE, reason))
    return _File(source, is_readable=False)


def _winners(
    file: _File, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> Iterator[tuple[str, Raw]]:
    """The last source of each variable that says anything about it."""
    for name in VARIABLES:
        for value, source in (
            (overrides.get(name), COMMAND_LINE),
            (environ.get(name.upper()), ENVIRONMENT),
            (file.table.get(name), file.source),
        ):
            if not is_blank(value):
                yield name, Raw(value, source)
                break


def _read_values(
    raw: Mapping[str, Raw], mistakes: list[Mistake]
) -> tuple[dict[str, Any], frozenset[str]]:
    """Every variable's value, with the default in place of a wrong one; and which are right."""
    given: dict[str, Any] = {}
    for name, each in raw.items():
        try:
            given[name] = VARIABLES[name].rule(each.value)
        except ValueError as error:
            mistakes.append(Mistake(name.upper(), str(error), each.source))
    is_production = given.get("environment") == "production"
    defaults = {
        name: variable.production if is_production else variable.default
        for name, variable in VARIABLES.items()
    }
    return {**defaults, **given}, frozenset(VARIABLES) - (frozenset(raw) - frozenset(given))


def _contradictions(values: Mapping[str, Any], right: frozenset[str]) -> Iterator[Mistake]:
    """What single values cannot show; says nothing about values that are wrong by themselves."""
    lacks_secret = values["secret_key"] is None and "secret_key" in right
    if values["environment"] == "production" and lacks_secret:
        reason = "is required when ENVIRONMENT=production; make one: openssl rand -base64 32"
        yield Mistake("SECRET_KEY", reason)
    binds = values["bind"]
    if len(set(binds)) < len(binds):
        yield Mistake("BIND", "must not name an address twice")
    api = [*binds] or [Address(values["api_host"], values["api_port"])]
    admin = values["admin_bind"]
    if admin in api and admin.port and {"api_host", "api_port"} <= right:
        reason = f"must differ from the API's own address, {admin}"
        yield Mistake("ADMIN_BIND", f"{reason} (leave it out to share that listener)")
    lease, timeout = values["delivery_lease_seconds"], values["webhook_timeout_seconds"]
    is_judged = {"delivery_lease_seconds", "webhook_timeout_seconds"} <= right
    if is_judged and lease < timeout + LEASE_MARGIN_SECONDS:
        reason = f"must be {timeout + LEASE_MARGIN_SECONDS:g} or more, not {lease:g}"
        why = f"{LEASE_MARGIN_SECONDS:g} s longer than a try takes"
        yield Mistake(
            "DELIVERY_LEASE_SECONDS", f"{reason}: {why}, WEBHOOK_TIMEOUT_SECONDS={timeout:g}"
        )


def _too_few(
    values: Mapping[str, Any], right: frozenset[str], tiers: Sequence[TierSettings]
) -> Iterator[Mistake]:
    """What cannot be divided among the worker processes, because some would get nothing."""
    workers = values["workers"]
    for tier in tiers:
        for field in ("connections", "workers", "rate_limit"):
            found = getattr(tier, field)
            if found is not None and found < workers:
                variable = f"{Declared(tier.name, tier).variable}__{field.upper()}"
                reason = f"must be {workers} or more with WORKERS={workers}, not {found}"
                yield Mistake(variable, f"{reason}: each process gets a part of tier {tier.name}")
    for name in DIVIDED:
        if values[name] < workers and {name, "workers"} <= right:
            reason = f"must be {workers} or more with WORKERS={workers}, not {values[name]}"
            yield Mistake(name.upper(), f"{reason}: each process gets a part")


def _unknown_identity(values: Mapping[str, Any], declared: Mapping[str, Any]) -> Iterator[Mistake]:
    """A name that is none of the identities, whether those are right or not."""
    name = values["notifications_http_identity"]
    if name is not None and name not in declared:
        known = ", ".join(declared) or "none"
        reason = f"must be the name of an identity, not {name}; there are {printable(known)}"
        yield Mistake("NOTIFICATIONS_HTTP_IDENTITY", reason)


def _unknown_keys(file: _File, overrides: Mapping[str, object]) -> Iterator[Mistake]:
    for key in file.table:
        if key not in VARIABLES and key not in ("tiers", TABLE):
            known = {**VARIABLES, "tiers": None, TABLE: None}
            yield Mistake(printable(key.upper()), no_such("", key, known), file.source)
    for key in overrides:
        if key not in VARIABLES:
            yield Mistake(printable(key.upper()), no_such("", key, VARIABLES), COMMAND_LINE)
