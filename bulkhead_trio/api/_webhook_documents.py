"""A webhook as people write it in JSON: read with every mistake found, and written."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

import attrs

from bulkhead_trio.api._members import Members, SeveralWrong, Wrong, checked_by, flag, text_or_null
from bulkhead_trio.api._wire import wire_time
from bulkhead_trio.database.public_ids import public_id
from bulkhead_trio.database.webhook_records import WebhookRecord
from bulkhead_trio.delivery._matching_rules import MOST_PATTERNS, check_pattern
from bulkhead_trio.errors import InvalidRequest
from bulkhead_trio.http.client._url_rules import split_url
from bulkhead_trio.http.client.network import NetworkPolicy

CheckURL: TypeAlias = Callable[[str], None]
"""Raises one of our errors for a URL that nothing may be sent to; never waits."""

LONGEST_URL: Final = 2048
"""Characters; what every program on the way takes."""

LONGEST_DESCRIPTION: Final = 1000

READ_ONLY: Final = ("id", "disabledReason", "failingSince", "createdAt", "updatedAt", "version")


@attrs.frozen
class WebhookMembers:
    """What a tenant says of a webhook."""

    url: str
    event_types: tuple[str, ...]
    description: str | None
    fifo: bool
    active: bool


def read_webhook(
    document: Mapping[str, Any],
    *,
    check_url: CheckURL,
    is_new: bool,
    mistakes: Iterable[Mapping[str, str]] = (),
) -> WebhookMembers:
    """The webhook that ``document`` describes.

    Args:
        document: all of it.
        check_url: refuses where nothing may be sent.
        is_new: whether it is to be made; then it is active.
        mistakes: that were found already; they are told with the others.

    Raises:
        InvalidBody: with every mistake there is.
    """
    members = Members(document)
    for mistake in mistakes:
        members.refuse(mistake["path"], mistake["message"])
    found = WebhookMembers(
        url=members.read("url", url(check_url)),
        event_types=members.read("eventTypes", _event_types),
        description=members.read("description", text_or_null(LONGEST_DESCRIPTION), None),
        fifo=members.read("fifo", flag, default=False),
        active=True if is_new else members.read("active", flag, default=True),
    )
    members.check()
    return found


def webhook_document(webhook: WebhookRecord) -> dict[str, Any]:
    """A webhook in JSON, without its secrets."""
    return {
        "id": public_id("wh", webhook.id),
        "url": webhook.url,
        "eventTypes": list(webhook.event_types),
        "description": webhook.description,
        "fifo": webhook.fifo,
        "active": webhook.active,
        "disabledReason": webhook.disabled_reason,
        "failingSince": None if webhook.failing_since is None else wire_time(webhook.failing_since),
        "createdAt": wire_time(webhook.created_at),
        "updatedAt": wire_time(webhook.updated_at),
        "version": webhook.version,
    }


def webhook_urls(policy: NetworkPolicy, *, https_only: bool) -> CheckURL:
    """What a webhook's URL is checked by when it is saved.

    Standard Webhooks 1.0, "Enforcing HTTPS": what is sent is signed and not encrypted, so that
    whoever is on the way can read it. Inside the house nobody is: an address that configuration
    names as ours may be plain.

    Args:
        policy: says where nobody may connect to.
        https_only: whether plain HTTP is for `NetworkPolicy.allowed_private` only.
    """

    def check(url: str) -> None:
        policy.check_url(url)
        origin, _ = split_url(url)
        if https_only and not origin.is_tls and not _is_inside(origin.host, policy):
            raise InvalidRequest("must be https: what is sent there could be read on its way")

    return check


def _is_inside(host: str, policy: NetworkPolicy) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in policy.allowed_private)


def url(check_url: CheckURL) -> Callable[[object], str]:
    """Reads a URL that something may be sent to."""
    check = checked_by(check_url)

    def read(value: object) -> str:
        if not isinstance(value, str) or not 1 <= len(value) <= LONGEST_URL:
            raise ValueError(f"must be a URL of at most {LONGEST_URL} characters")
        if "#" in value:
            raise ValueError("must not have a fragment: it would never be sent")
        check(value)
        return value

    return read


def _event_types(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_PATTERNS:
        raise ValueError(f"must be a list of 1 to {MOST_PATTERNS} event types")
    mistakes = []
    for number, each in enumerate(value):
        try:
            if not isinstance(each, str):
                raise Wrong("must be an event type")
            check_pattern(each)
            if each in value[:number]:
                raise ValueError("is there already")
        except ValueError as error:
            mistakes.append(Wrong(str(error), f"[{number}]"))
    if mistakes:
        raise SeveralWrong(mistakes)
    return tuple(value)
