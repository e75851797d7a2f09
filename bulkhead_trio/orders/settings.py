"""How much of everything the orders get."""

from __future__ import annotations

import attrs


@attrs.frozen
class OrderLimits:
    """The numbers of the order desk. Times are in seconds.

    Attributes:
        workers: orders processed at once.
        queue: orders that wait in memory, most urgent first.
        backlog: accepted orders that may be open altogether, those in memory included; beyond it
            even an urgent one is refused, so that no flood fills the database.
        rate: orders a second that one user may send, on average.
        burst: how many at once.
        users: users whose quota is remembered.
        intake: orders written, or looked up, at once.
        intake_queue: requests that may wait for that.
        timeout: the server's own deadline for a request.
        query_timeout: a statement that takes longer counts as a failure of the database.
    """

    workers: int = 4
    queue: int = 100
    backlog: int = 10_000
    rate: float = 5.0
    burst: int = 10
    users: int = 100_000
    intake: int = 10
    intake_queue: int = 100
    timeout: float = 10.0
    query_timeout: float = 5.0
