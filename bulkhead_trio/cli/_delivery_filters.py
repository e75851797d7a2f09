"""Which deliveries are meant, as the command line says it."""

from __future__ import annotations

import datetime
import re
from typing import Final

import attrs
import click

from bulkhead_trio.database.delivery_records import DeliveryState
from bulkhead_trio.delivery._matching_rules import check_pattern

_AGO: Final = re.compile(r"([0-9]{1,6})([smhd])", re.ASCII)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_MOST_AGO: Final = datetime.timedelta(days=3650)


@attrs.frozen
class Filter:
    """Which deliveries are meant; ``None`` everywhere means all of them.

    Attributes:
        state: of the contract's four.
        tenant: its id, or its name.
        webhook: its public id.
        type: an event type, or the beginning of one and ``.*``.
        since: those whose event is not older.
        dead: the dead letters, notifications among them.
    """

    state: DeliveryState | None = None
    tenant: str | None = None
    webhook: str | None = None
    type: str | None = None
    since: datetime.datetime | None = None
    dead: bool = False

    @property
    def is_everything(self) -> bool:
        """Whether nothing narrows it, but that it may be for dead letters only."""
        return (self.state, self.tenant, self.webhook, self.type, self.since) == (None,) * 5

    @property
    def is_of_webhooks_alone(self) -> bool:
        """Whether it asks for what notifications do not have."""
        return self.webhook is not None or self.type is not None


def read_filter(
    *,
    state: DeliveryState | None,
    tenant: str | None,
    webhook: str | None,
    type_: str | None,
    since: str | None,
    dead: bool,
) -> Filter:
    """What the options say.

    Raises:
        click.UsageError: one of them says nothing that can be.
    """
    if dead and state not in (None, "dead"):
        raise click.UsageError(f"--dead and --state {state} exclude each other.")
    try:
        pattern = None if type_ is None else check_pattern(type_)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--type") from None
    try:
        moment = None if since is None else moment_of(since, datetime.datetime.now(datetime.UTC))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from None
    return Filter(state, tenant, webhook, None if pattern == "*" else pattern, moment, dead)


def moment_of(text: str, now: datetime.datetime) -> datetime.datetime:
    """A moment, or how long ago it was: ``90m``, ``7d``, ``2026-02-11``, ``2026-02-11T12:00Z``.

    Args:
        text: as somebody wrote it; without an offset it is in UTC.
        now: the time, with its zone.

    Raises:
        ValueError: it is neither.
    """
    if match := _AGO.fullmatch(text.strip()):
        ago = datetime.timedelta(**{_UNITS[match[2]]: int(match[1])})
        return now - min(ago, _MOST_AGO)
    try:
        moment = datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            "must be how long ago, such as 90m, 6h or 7d, or a moment such as 2026-02-11T12:00"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
