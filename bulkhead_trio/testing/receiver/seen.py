"""What a receiver has seen."""

from __future__ import annotations

import msgspec


class Arrival(msgspec.Struct, frozen=True, array_like=True):
    """One request at an endpoint. As JSON a list, since there may be very many.

    Attributes:
        endpoint: its number.
        id: the header ``webhook-id``; empty without it.
        at: when all of it had come, in seconds of the receiver's clock; of a process that is
            the machine's monotonic clock, `time.monotonic`.
        status: of the answer that it gets; 0 for a reset.
        is_valid: what the verification says of it; ``None`` where there was none.
        digest: of the body, in hexadecimal: the same for the same bytes.
    """

    endpoint: int
    id: str
    at: float
    status: int
    is_valid: bool | None
    digest: str


class Received(msgspec.Struct, frozen=True):
    """One request in full.

    Attributes:
        arrival: what is remembered of all.
        method, target: of the first line.
        headers: their names in lower case.
        body: as text.
    """

    arrival: Arrival
    method: str
    target: str
    headers: dict[str, str]
    body: str


class EndpointSeen(msgspec.Struct, frozen=True):
    """The sums of one endpoint.

    Attributes:
        requests: that came.
        taken: those that were answered with 2xx.
        in_flight: those without an answer at this moment.
        most_in_flight: the most of them at once.
    """

    requests: int = 0
    taken: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
