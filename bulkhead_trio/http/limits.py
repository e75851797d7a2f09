"""What connections may take."""

from __future__ import annotations

import attrs


@attrs.frozen
class ConnectionLimits:
    """What one connection may take, and how many there may be; times in seconds.

    Attributes:
        connections: open at the same time; one more is answered 503 and closed.
        connections_per_address: the same for one client address. Many clients may come from one
            (a proxy, an office), so this only keeps one of them from taking all there are.
        head: from the first byte of a request's head to its last.
        body_gap: between two pieces of a body.
        body: from the head's end to the body's.
        idle: between an answer and the next request; the first has to begin within ``head``.
        write: for the peer to take what it is sent.
        linger: after our last byte, for the peer to close; so that it can still read our answer.
        half_closed: for an answer to get out to a peer that has finished sending. From this side
            it looks just like one that has gone, and for those nobody should work much longer.
        head_bytes: of a request's head that is not complete yet.
        refusals_per_second: how fast connections of one tier whose request was refused are read
            again, all of them together. A refusal costs the event loop about 0.4 ms, so this many
            cost a fifth of it; whoever floods waits for the rest, and nobody else does.
    """

    connections: int = 4000
    connections_per_address: int = 2000
    head: float = 10.0
    body_gap: float = 10.0
    body: float = 60.0
    idle: float = 60.0
    write: float = 30.0
    linger: float = 1.0
    half_closed: float = 0.1
    head_bytes: int = 24 * 1024
    refusals_per_second: float | None = 2000.0
