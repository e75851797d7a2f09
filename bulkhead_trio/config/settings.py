"""The settings: every variable with its rule and its default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs

from bulkhead_trio.config import _rules as rules
from bulkhead_trio.config._binds import Address, Bind, address, bind
from bulkhead_trio.config._identity import IdentitySettings
from bulkhead_trio.config._rules import Network, Rule
from bulkhead_trio.config._urls import database_url, mask_all, mask_url, smtp_url, url

MIB = 1024 * 1024
DAY = 86_400

SHORTEST = 0.001
"""Seconds: below a millisecond a deadline or a window is gone before Trio has looked at it."""

SECRET_CHARACTERS = 16
"""A secret with fewer can be guessed; this many are 96 bits, when they are random Base64."""

ADMINISTRATION_CONNECTIONS = 11
"""PostgreSQL connections beside those of tiers, orders and deliveries: 3 that PostgreSQL itself
keeps for superusers (a person with psql, migrations), 2 for readiness, 4 for tenants, and 2 that
listen for changes and for work. All of the defaults together are the 100 that a new PostgreSQL
allows."""

EMBEDDED_SPARE_CONNECTIONS = 200
"""What the embedded PostgreSQL allows beyond one process: others may share its directory."""

MOST_WORKERS = 64

LEAST_DELIVERY_CONNECTIONS = 2
"""Of each process: one for what is asked, and one for what is sent."""

FURTHER_WORKER_CONNECTIONS = 4
"""PostgreSQL connections of each worker but the first, beside its share of the rest: for readiness
and cancellation."""

DEFAULT_RETRY_SCHEDULE = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds between tries: five seconds to a day, the pace of Standard Webhooks' own example."""

LEASE_MARGIN_SECONDS = 2.0
"""How much longer than a try a lease must last: for its result to be written, in a batch, on a
database that is busy."""

LOOPBACK = "127.0.0.0/8,::1/128"

_SAME: Any = object()
_KEY = "variable"


@attrs.frozen
class Variable:
    """How one setting is read and shown.

    Attributes:
        rule: turns what a source has into the value, or raises `ValueError` with the reason.
        default: the value when no source has one.
        production: that default with ``ENVIRONMENT=production``.
        mask: how the value is shown; ``None``: as it is.
    """

    rule: Rule[Any]
    default: Any = None
    production: Any = None
    mask: Callable[[str], str] | None = None


def _variable(
    rule: Rule[Any],
    default: Any = None,
    *,
    production: Any = _SAME,
    mask: Callable[[str], str] | None = None,
) -> Mapping[str, Variable]:
    in_production = default if production is _SAME else production
    return {_KEY: Variable(rule, default, in_production, mask)}


@attrs.frozen
class TierSettings:
    """One tier: its share of everything. Times are in seconds.

    Attributes:
        name: ``^[a-z][a-z0-9_-]{0,31}$``.
        connections: PostgreSQL connections, a hard limit.
        workers: requests served at once.
        queue: waiting places; a request that finds none is refused.
        rate_limit: requests a window; ``None``: unlimited.
        window: length of the rate limit's window.
        failure_threshold: consecutive failures that open the breaker.
        cooldown: from the breaker's opening until its probe.
        timeout: the server's own deadline for a request.
    """

    name: str
    connections: int = attrs.field(default=5, metadata=_variable(rules.whole(1, 10_000)))
    workers: int = attrs.field(default=10, metadata=_variable(rules.whole(1, 100_000)))
    queue: int = attrs.field(default=20, metadata=_variable(rules.whole(0, 1_000_000)))
    rate_limit: int | None = attrs.field(
        default=None, metadata=_variable(rules.or_blank(rules.whole(1, 10**9), meaning="unlimited"))
    )
    window: float = attrs.field(default=60.0, metadata=_variable(rules.seconds(SHORTEST, DAY)))
    failure_threshold: int = attrs.field(default=5, metadata=_variable(rules.whole(1, 1_000_000)))
    cooldown: float = attrs.field(default=15.0, metadata=_variable(rules.seconds(SHORTEST, DAY)))
    timeout: float = attrs.field(default=10.0, metadata=_variable(rules.seconds(SHORTEST, 3600)))


DEFAULT_TIERS = (
    TierSettings("free", connections=5, workers=10, queue=20, rate_limit=100),
    TierSettings("pro", connections=20, workers=30, queue=60, rate_limit=1000),
    TierSettings("enterprise", connections=50, workers=60, queue=120),
)


@attrs.frozen(kw_only=True, repr=False)
class Settings:
    """The whole configuration, checked. Build it with `bulkhead_trio.config.load_settings`.

    Field names are the variables' in lower case. ``repr()`` masks every secret.
    """

    api_host: str = attrs.field(metadata=_variable(rules.host, "127.0.0.1"))
    """Where to listen."""
    api_port: int = attrs.field(metadata=_variable(rules.whole(*rules.PORTS), 8080))
    """Port to listen on; 0: any free one."""
    bind: tuple[Bind, ...] = attrs.field(metadata=_variable(rules.listed(bind, most=100), ()))
    """Where to listen instead, if anywhere is named."""
    tls_certificate: Path | None = attrs.field(metadata=_variable(rules.directory))
    """A PEM file with the certificate for TLS; ``None``: plain HTTP."""
    tls_key: Path | None = attrs.field(metadata=_variable(rules.directory))
    """A PEM file with its private key."""
    database_url: str | None = attrs.field(metadata=_variable(database_url, mask=mask_url))
    """PostgreSQL's connection string; ``None``: the embedded server in ``data_dir``."""
    data_dir: Path = attrs.field(metadata=_variable(rules.directory, Path(".bulkhead")))
    """What this server keeps on disk: the embedded database, keys, locks."""
    redis_url: str | None = attrs.field(
        metadata=_variable(url("redis", "rediss", "unix", hostless=("unix",)), mask=mask_url)
    )
    """Where instances share state; ``None``: state is in memory."""
    on_state_error: str = attrs.field(
        metadata=_variable(rules.choice("local", "allow", "deny"), "local")
    )
    """What a rate limit does while Redis is away."""
    admin_api_key: str | None = attrs.field(metadata=_variable(rules.header_value, mask=mask_all))
    """Key of the admin surface; ``None``: made at first start."""
    admin_bind: Address | None = attrs.field(metadata=_variable(address))
    """A listener of its own for the admin surface; ``None``: the API's."""
    environment: str = attrs.field(
        metadata=_variable(rules.choice("development", "production"), "development")
    )
    """``development`` or ``production``."""
    secret_key: str | None = attrs.field(metadata=_variable(rules.text, mask=mask_all))
    """Pepper of API keys and root of encryption; ``None``: made at first start."""
    allowed_private_networks: tuple[Network, ...] = attrs.field(
        metadata=_variable(
            rules.listed(rules.network, most=1000),
            rules.listed(rules.network, most=1000)(LOOPBACK),
            production=(),
        )
    )
    """Private networks that upstreams, webhooks and notifications may reach."""
    trusted_proxies: tuple[Network, ...] = attrs.field(
        metadata=_variable(rules.listed(rules.network, most=1000), ())
    )
    """Networks whose forwarding headers are believed."""
    max_body_bytes: int = attrs.field(metadata=_variable(rules.whole(1, 1024 * MIB), MIB))
    """The largest request body of our own API."""
    max_proxy_body_bytes: int | None = attrs.field(
        metadata=_variable(rules.or_none(rules.whole(1, 2**50)))
    )
    """The largest proxied body; ``None``: unbounded, since they stream."""
    smtp_url: str | None = attrs.field(metadata=_variable(smtp_url, mask=mask_url))
    """Mail server of the ``smtp`` channel; ``None``: the channel is unavailable."""
    smtp_from: str = attrs.field(metadata=_variable(rules.mail_address, "bulkhead-trio@localhost"))
    """Whom notifications by mail come from."""
    metrics_public: bool = attrs.field(metadata=_variable(rules.flag, True, production=False))
    """Whether metrics and API documentation are served without the admin key."""
    trust_tier_header: bool = attrs.field(metadata=_variable(rules.flag, True, production=False))
    """Whether ``X-Tenant-Tier`` alone identifies a caller."""
    force_error_enabled: bool = attrs.field(metadata=_variable(rules.flag, True, production=False))
    """Whether ``?force_error=true`` fails a request; never in production."""
    log_level: str = attrs.field(
        metadata=_variable(rules.choice("debug", "info", "warning", "error", "critical"), "info")
    )
    """The least that is logged."""
    log_format: str | None = attrs.field(metadata=_variable(rules.choice("console", "json")))
    """``console`` or ``json``; ``None``: console on a terminal, otherwise json."""
    http: str = attrs.field(metadata=_variable(rules.choice("engine", "hypercorn"), "engine"))
    """Who speaks HTTP/1.1: our own engine, or Hypercorn's protocol."""
    workers: int = attrs.field(metadata=_variable(rules.whole(1, MOST_WORKERS), 1))
    """Processes."""
    refusals_per_second: float = attrs.field(
        metadata=_variable(rules.seconds(0, 1_000_000, what="a number a second"), 2000.0)
    )
    """How fast connections of one tier whose requests were refused are read again; 0: at once."""
    shutdown_grace_seconds: float = attrs.field(metadata=_variable(rules.seconds(0, 3600), 30.0))
    """How long what runs may take to finish after SIGTERM."""
    orders_connections: int = attrs.field(metadata=_variable(rules.whole(1, 10_000), 10))
    """PostgreSQL connections of the orders, a hard limit."""
    orders_workers: int = attrs.field(metadata=_variable(rules.whole(1, 100_000), 4))
    """Orders processed at once."""
    orders_queue: int = attrs.field(metadata=_variable(rules.whole(1, 1_000_000), 100))
    """Orders that wait in memory."""
    orders_backlog: int = attrs.field(metadata=_variable(rules.whole(1, 100_000_000), 10_000))
    """Accepted orders that may be open altogether; beyond it every further one is refused."""
    orders_rate: float = attrs.field(
        metadata=_variable(rules.seconds(0.001, 1_000_000, what="a number a second"), 5.0)
    )
    """Orders a second that one user may send, on average."""
    orders_burst: int = attrs.field(metadata=_variable(rules.whole(1, 1_000_000), 10))
    """Orders that one user may send at once."""
    webhooks_max_parallel_deliveries: int = attrs.field(metadata=_variable(rules.whole(1, 100), 20))
    """Webhook deliveries at once."""
    notifications_max_parallel_deliveries: int = attrs.field(
        metadata=_variable(rules.whole(1, 100), 8)
    )
    """Notification deliveries at once."""
    notifications_http_identity: str | None = attrs.field(metadata=_variable(rules.text))
    """As whom notifications are posted to URLs; ``None``: as nobody."""
    webhook_retry_schedule: tuple[float, ...] = attrs.field(
        metadata=_variable(
            rules.listed(rules.seconds(0, 30 * DAY), most=100),
            tuple(float(delay) for delay in DEFAULT_RETRY_SCHEDULE),
        )
    )
    """Seconds before each further try; empty: no further try."""
    webhook_timeout_seconds: float = attrs.field(metadata=_variable(rules.seconds(0.1, 120), 15.0))
    """How long one try of a webhook may take, from the connection to the end of its answer."""
    webhook_secret_grace_seconds: float = attrs.field(
        metadata=_variable(rules.seconds(0, 30 * DAY), float(DAY))
    )
    """How long a webhook's earlier secret signs along after a new one was made."""
    webhook_disable_after_seconds: float = attrs.field(
        metadata=_variable(rules.seconds(1, 365 * DAY), 5.0 * DAY)
    )
    """How long a webhook may keep failing before it is disabled."""
    delivery_lease_seconds: float = attrs.field(metadata=_variable(rules.seconds(1, 3600), 60.0))
    """How long a delivery is its worker's without being renewed; longer than a try may take."""
    deliveries_retention_days: int = attrs.field(metadata=_variable(rules.whole(1, 3650), 30))
    """Days that deliveries, notifications and dead letters are kept after their end."""
    deliveries_connections: int = attrs.field(
        metadata=_variable(rules.whole(LEAST_DELIVERY_CONNECTIONS, 10_000), 4)
    )
    """PostgreSQL connections of events, webhooks and notifications, a hard limit."""
    events_rate: float = attrs.field(
        metadata=_variable(rules.seconds(0.001, 1_000_000, what="a number a second"), 100.0)
    )
    """Events and notifications a second that one tenant may send, on average."""
    events_burst: int = attrs.field(metadata=_variable(rules.whole(1, 1_000_000), 200))
    """How many of them at once."""
    events_exempt_tenants: tuple[UUID, ...] = attrs.field(
        metadata=_variable(rules.listed(rules.tenant_id, most=10_000), ())
    )
    """Tenants for which no quota of events holds."""
    tiers: tuple[TierSettings, ...]
    """In the order in which they were declared."""
    identities: tuple[IdentitySettings, ...] = ()
    """As whom requests may go out; in the order in which they were declared."""

    @property
    def is_production(self) -> bool:
        """Whether the secure defaults and required secrets hold."""
        return self.environment == "production"

    @property
    def connections_needed(self) -> int:
        """What PostgreSQL's ``max_connections`` must allow this server, all its workers."""
        tiers = sum(tier.connections for tier in self.tiers)
        further = FURTHER_WORKER_CONNECTIONS * (self.workers - 1)
        least = LEAST_DELIVERY_CONNECTIONS * self.workers
        others = self.orders_connections + max(self.deliveries_connections, least)
        return tiers + others + ADMINISTRATION_CONNECTIONS + further

    @property
    def embedded_connections(self) -> int:
        """``max_connections`` of the embedded PostgreSQL, whichever command starts it."""
        return self.connections_needed + EMBEDDED_SPARE_CONNECTIONS

    @property
    def short_secrets(self) -> tuple[str, ...]:
        """The variables whose secrets are shorter than they should be in production."""
        names = ("secret_key", "admin_api_key") if self.is_production else ()
        lengths = {name: len(getattr(self, name) or "-" * SECRET_CHARACTERS) for name in names}
        return tuple(name.upper() for name, size in lengths.items() if size < SECRET_CHARACTERS)

    def shown(self, name: str) -> object:
        """The value of the field ``name`` as it may be shown: secrets masked."""
        value = getattr(self, name)
        variable = VARIABLES.get(name)
        if value is None or variable is None or variable.mask is None:
            return value
        return variable.mask(value)

    def __repr__(self) -> str:
        names = (field.name for field in attrs.fields(Settings))
        return f"Settings({', '.join(f'{name}={self.shown(name)!r}' for name in names)})"


def _variables(cls: type[attrs.AttrsInstance]) -> Mapping[str, Variable]:
    fields = attrs.fields(cls)
    return {field.name: field.metadata[_KEY] for field in fields if _KEY in field.metadata}


VARIABLES: Mapping[str, Variable] = _variables(Settings)
"""Every variable but the tiers, by field name; upper case is the variable's name."""

TIER_VARIABLES: Mapping[str, Variable] = _variables(TierSettings)
"""What a tier is made of, by field name."""
