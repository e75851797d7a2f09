"""What becomes of a delivery after a try: a table, and how it is read. Pure.

The statuses are Standard Webhooks' ("Delivery success and failure"): 2xx is success and everything
else is not. What would fail again in the same way is not tried again.
"""

from __future__ import annotations

import enum
from typing import Final, Literal, TypeAlias

import attrs

Outcome: TypeAlias = Literal["delivered", "retry", "dead"]

GONE: Final = "gone"
"""Why an endpoint was disabled: it has answered 410."""


class Failure(enum.Enum):
    """Why there is no status, with what the tenant is told. No text names an address."""

    BAD_URL = "the URL cannot be requested"
    REFUSED_ADDRESS = "the URL leads to an address that may not be connected to"
    NO_SUCH_HOST = "the URL's host has no address"
    NO_CONNECTION = "no connection could be made"
    CONNECTION_REFUSED = "the connection was refused"
    TLS_CERTIFICATE = "the certificate could not be verified"
    TLS = "TLS could not be agreed on"
    TIMEOUT = "there was no answer in time"
    BROKEN_OFF = "the connection ended before an answer came"
    NO_ANSWER = "what came is no HTTP answer"
    LEFT_ALONE = "not sent: the endpoint has not been answering"
    NO_SECRET = "the signing secret cannot be read on this server"  # noqa: S105  a text


@attrs.frozen
class Verdict:
    """What a try means.

    Attributes:
        outcome: what becomes of the delivery; a ``retry`` after the last try is ``dead``.
        slows: whether the endpoint is to be given less for a while.
        disables: why it is to be disabled; ``None`` where it is not.
        blames_endpoint: whether the endpoint is failing; not where the mistake is ours.
        trips: whether the endpoint is to be left alone when this goes on, and takes its time: it is
            down or overloaded, rather than disagreeing with what it was sent.
    """

    outcome: Outcome
    slows: bool = False
    disables: str | None = None
    blames_endpoint: bool = True
    trips: bool = False


DELIVERED: Final = Verdict("delivered", blames_endpoint=False)
RETRY: Final = Verdict("retry")
DEAD: Final = Verdict("dead")

BY_STATUS: Final[tuple[tuple[int, int, Verdict], ...]] = (
    (200, 299, DELIVERED),
    (300, 399, RETRY),  # a redirect is not followed: the URL is to be changed where it is kept
    (408, 409, RETRY),  # it was slow; or there is something in the way that may go away
    (410, 410, Verdict("dead", disables=GONE)),
    (425, 425, RETRY),
    (429, 429, Verdict("retry", slows=True)),
    (400, 499, DEAD),
    (502, 502, Verdict("retry", slows=True, trips=True)),
    (504, 504, Verdict("retry", slows=True, trips=True)),
    (500, 599, Verdict("retry", trips=True)),
)
"""From, to, and what it means; the first that has a status decides."""

_DOWN: Final = Verdict("retry", trips=True)

BY_FAILURE: Final[dict[Failure, Verdict]] = {
    Failure.BAD_URL: DEAD,
    Failure.REFUSED_ADDRESS: DEAD,
    Failure.NO_SUCH_HOST: _DOWN,
    Failure.NO_CONNECTION: _DOWN,
    Failure.CONNECTION_REFUSED: _DOWN,
    Failure.TLS_CERTIFICATE: _DOWN,
    Failure.TLS: _DOWN,
    Failure.TIMEOUT: _DOWN,
    Failure.BROKEN_OFF: _DOWN,
    Failure.NO_ANSWER: _DOWN,
    Failure.LEFT_ALONE: RETRY,
    Failure.NO_SECRET: Verdict("retry", blames_endpoint=False),
}

_STATUSES: Final = {
    status: verdict
    for first, last, verdict in reversed(BY_STATUS)
    for status in range(first, last + 1)
}


def verdict_of(result: int | Failure) -> Verdict:
    """What a try with this status, or without one for this reason, means.

    A status that HTTP does not know is a failure like others: tried again.
    """
    if isinstance(result, Failure):
        return BY_FAILURE[result]
    return _STATUSES.get(result, RETRY)
